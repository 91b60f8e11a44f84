//! `lab compare`: a discrete-event simulator that runs `shared`'s policy beside its rivals.
//!
//! Owns the rooms only. A run is `engine`'s: `workload` says who comes when, `world` what there is,
//! `policy` who decides, `score` what it was worth, `bound` what nobody can beat. `runner` makes many
//! runs, `analysis` means and intervals of them, `study` a whole comparison, `report` shows it.

mod analysis;
mod bound;
pub(crate) mod compare;
mod engine;
mod events;
mod goals;
mod policy;
mod profile;
mod queue;
mod report;
mod rng;
mod runner;
mod score;
mod stats;
mod study;
mod tune;
mod watch;
mod workers;
mod workload;
mod world;
#[cfg(test)]
mod tests;

pub(crate) use compare::{CompareArgs, compare};
