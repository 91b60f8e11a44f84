//! The integration tests: real Redis, the real native service, real workerd with the built wasm.
//!
//! Each test starts what it needs on free ports and stops it. Nothing sleeps for a guess: tests
//! wait for what they can see, with a limit that only a broken service reaches.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod support;

mod answers;
mod cache;
mod cascade;
mod decisions;
mod doctor;
mod documents;
mod doors;
mod edge_failures;
mod edge_routes;
mod embedded;
mod engine;
mod exports;
mod faults;
mod jobs;
mod journey;
mod learning;
mod metrics;
mod models_cli;
mod oip;
mod plan;
mod policy;
mod pools;
mod queue;
mod recovery;
mod roles;
mod rollout;
mod shed;
mod shift;
mod spool;
mod starting;
mod stream;
mod text;
mod topology;
mod versions;
mod webhooks;
