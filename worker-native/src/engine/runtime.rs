//! ONNX Runtime: finding the library, opening sessions, running them.
//!
//! The only place that names `ort`. One environment a process; a session belongs to one worker
//! (its `run` takes `&mut self`, and sharing one behind a lock is slower than two).

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::session::Session;
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::batcher::{RunError, Runner};

/// The process's ONNX Runtime.
#[derive(Debug)]
pub(crate) struct Runtime {
    env: Environment,
}

/// Where the library lies when nobody says so: beside our own binary, then where the loader looks.
const LIBRARY: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else if cfg!(windows) {
    "onnxruntime.dll"
} else {
    "libonnxruntime.so"
};

impl Runtime {
    /// Loads the library and makes the environment.
    ///
    /// # Errors
    /// A message that says which file was tried and what to set.
    pub(crate) fn open(library: Option<&Path>) -> Result<Self, String> {
        let path = library.map_or_else(search, Path::to_path_buf);
        let explain = |error: &dyn std::fmt::Display| {
            format!(
                "ONNX Runtime cannot be loaded from {}: {error}\n\
                 Run script/bootstrap, or set ORT_DYLIB_PATH to a libonnxruntime of version 1.24 or later.",
                path.display()
            )
        };
        let env = ort::init_from(&path)
            .map_err(|error| explain(&error))?
            .with_name("infer-router")
            .with_telemetry(false)
            .build()
            .map_err(|error| explain(&error))?;
        Ok(Self { env })
    }

    /// The environment, for the tools that compare models (`onnx::oracle`).
    pub(crate) const fn environment(&self) -> &Environment {
        &self.env
    }

    /// Opens one session on a model's bytes and checks that it takes `[rows, width]` floats and has the output.
    ///
    /// # Errors
    /// A message about the model, for the operator.
    pub(super) fn session(&self, model: &[u8], width: usize, output: &str) -> Result<OrtRunner, String> {
        let session = open(&self.env, model).map_err(|error| format!("ONNX Runtime refuses it: {error}"))?;
        let [input] = session.inputs() else {
            return Err(format!("it has {} inputs, one of [rows, {width}] floats is wanted", session.inputs().len()));
        };
        match input.dtype() {
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } if matches!(shape[..], [-1, columns] if usize::try_from(columns) == Ok(width)) =>
                {}
            other => {
                return Err(format!("its input is {other}, wanted is float32 of [rows, {width}], rows being dynamic"));
            }
        }
        let input = input.name().to_owned();
        let names: Vec<&str> = session.outputs().iter().map(ort::value::Outlet::name).collect();
        if !names.contains(&output) {
            return Err(format!("it has no output {output:?}; its outputs: {}", names.join(", ")));
        }
        Ok(OrtRunner { session, width, input, output: output.to_owned() })
    }
}

fn search() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(|dir| dir.join(LIBRARY)))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(LIBRARY))
}

// Errors of the builder are not `Send`; this signature turns them into the plain kind.
fn open(env: &Environment, model: &[u8]) -> ort::Result<Session> {
    // One thread a session: parallelism comes from sessions. The default would start a pool of
    // spinning threads for each.
    Session::builder(env)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .commit_from_memory(model)
}

/// One session with its owner.
#[derive(Debug)]
pub(super) struct OrtRunner {
    session: Session,
    width: usize,
    input: String,
    output: String,
}

impl Runner for OrtRunner {
    fn run(&mut self, rows: usize, features: &[f32]) -> Result<Vec<f32>, RunError> {
        let failed = |error: ort::Error| RunError(error.to_string());
        let tensor = TensorRef::from_array_view(([rows, self.width], features)).map_err(failed)?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => tensor]).map_err(failed)?;
        let output = outputs.get(&self.output).ok_or_else(|| RunError(format!("no output {:?}", self.output)))?;
        let (_, values) = output.try_extract_tensor::<f32>().map_err(failed)?;
        Ok(values.to_vec())
    }
}
