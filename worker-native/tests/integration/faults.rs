//! The fault matrix: what happens to accepted jobs when something breaks, counted on the real service.
//!
//! Each scenario hands jobs in, breaks something, waits until the service goes on by itself, and closes its book: a row
//! of the table in docs/reliability.md. Rows go to the output, past the test harness's capture, and each to a file of its
//! own where `FAULTS_DIR` names a folder.

mod book;
mod cut;
mod file;
mod harmed;
mod hindered;
mod processes;
mod rig;
mod rolling;
mod servers;
