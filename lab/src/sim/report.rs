//! What `lab compare` shows: tables for eyes, JSON and CSV for programs, charts and one page for both.

pub(crate) mod tables;
