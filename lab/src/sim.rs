//! `lab compare`, `lab replay`: a discrete-event simulator that runs `shared`'s policy beside its rivals.
//!
//! Owns the rooms only. A run is `engine`'s: `workload` says who comes when, `world` what there is,
//! `policy` who decides, `score` what it was worth, `bound` what nobody can beat. `runner` makes many
//! runs, `analysis` means and intervals of them, `study` a whole comparison, `report` shows it.

mod analysis;
mod bound;
pub(crate) mod compare;
pub(crate) mod engine;
mod events;
mod goals;
mod isolates;
pub(crate) mod policy;
mod profile;
mod queue;
mod replay;
pub(crate) mod report;
pub(crate) mod rng;
pub(crate) mod runner;
mod score;
mod stats;
mod study;
#[cfg(test)]
mod tests;
mod tune;
mod watch;
mod workers;
pub(crate) mod workload;
pub(crate) mod world;

pub(crate) use compare::{CompareArgs, compare};
pub(crate) use replay::{ReplayArgs, replay};
