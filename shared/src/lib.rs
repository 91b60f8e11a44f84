//! Domain and policy of Infer Router, in reading order.
//!
//! Owns what both sides must agree on: what a valid reading is, what the load looked like, which
//! model should answer, and how an error is told. It refuses a clock, IO, randomness and async:
//! the callers (`edge`, `worker-native`, `lab`) bring `now` and bytes, and get values back. That
//! is why the wasm edge, the native service and the experiments of `lab` cannot drift apart.

pub mod headers;
pub mod ids;
pub mod problem;

pub mod catalog;
pub mod reading;
pub mod schema;

pub mod accuracy;
pub mod policy;
pub mod snapshot;
