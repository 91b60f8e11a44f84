//! A side door for benchmarks, and for nothing else: the runtime and one runner, without queue and workers.
//!
//! `lab bench` compares the engine with what it is built on, in one process; ONNX Runtime allows one
//! environment a process, so the engine's is lent.

use std::path::Path;

use ort::environment::Environment;

use super::backend::{Rows, Runner};
use super::batcher::run_rows;
use super::pool::Pool;
use super::runtime::Runtime;

/// The process's ONNX Runtime; the library is searched for where no path is given.
///
/// # Errors
/// A message that says which file was tried and what to set.
pub fn environment(library: Option<&Path>) -> Result<Environment, String> {
    Runtime::open(library).map(|runtime| runtime.env)
}

/// One runner of a pool's backend, owned by the caller.
pub struct Alone(Box<dyn Runner>);

impl std::fmt::Debug for Alone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alone")
    }
}

impl Alone {
    /// Opens one more runner of what a pool runs.
    ///
    /// # Errors
    /// A message about the model.
    pub fn of(pool: &Pool) -> Result<Self, String> {
        pool.backend.open().map(Self)
    }

    /// Runs rows of features, as a worker would; `out` then holds the columns of each, row after row.
    ///
    /// # Errors
    /// A message about the run.
    pub fn run(&mut self, rows: usize, values: &[f32], out: &mut Vec<f32>) -> Result<usize, String> {
        run_rows(self.0.as_mut(), Rows::Features { rows, values }, out).map_err(|error| error.to_string())
    }
}
