//! ONNX Runtime: finding the library, opening sessions, running them.
//!
//! With the modules below it the only place of the engine that names `ort`; the commands have
//! `onnx::oracle`, the tests of the tree kernel an oracle of their own. One environment a process;
//! a session belongs to one worker (its `run` takes `&mut self`, and sharing one behind a lock is
//! slower than two).

mod convert;
mod providers;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{NoSelectedOutputs, RunOptions, Session};
use ort::value::TensorRef;

use super::backend::{Backend, Rows, RunError, Runner, StopSwitch};
use super::loader::read_checked;
use super::tensor::{DataType, Signature, Tensor};
pub(super) use providers::Provider;

/// The process's ONNX Runtime; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(super) env: Environment,
}

// The library allows one environment a process, also after the first is gone: it is kept for the next engine.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Where the library lies when nobody says so: beside our own binary, then where the loader looks.
const LIBRARY: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else if cfg!(windows) {
    "onnxruntime.dll"
} else {
    "libonnxruntime.so"
};

impl Runtime {
    /// Loads the library and makes the environment, or takes the one that this process has.
    ///
    /// # Errors
    /// A message that says which file was tried and what to set.
    pub(crate) fn open(library: Option<&Path>) -> Result<Self, String> {
        let mut kept = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(env) = &*kept {
            return Ok(Self { env: env.clone() });
        }
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
        Ok(Self { env: kept.insert(env).clone() })
    }

    /// The environment, for the tools that compare models (`onnx::oracle`).
    pub(crate) const fn environment(&self) -> &Environment {
        &self.env
    }

    /// Prepares a model file for runners; opens one to learn what it takes.
    ///
    /// # Errors
    /// A message about the model, for the operator.
    pub(super) fn backend(
        &self,
        model: Arc<Vec<u8>>,
        source: Source,
        options: SessionOptions,
    ) -> Result<OrtBackend, String> {
        let session = open(&self.env, &model, options).map_err(|error| explain_refusal(&error))?;
        let signature = convert::signature(&session)?;
        let model = Mutex::new(Some(model));
        Ok(OrtBackend { env: self.env.clone(), model, source, options, signature, columns: Columns::default() })
    }
}

/// How a model's sessions are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionOptions {
    /// Threads inside one run; 1 unless a large network gains from more.
    pub(super) intra_threads: usize,
    /// What computes.
    pub(super) provider: Provider,
}

fn search() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(|dir| dir.join(LIBRARY)))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(LIBRARY))
}

// Errors of the builder are not `Send`; this signature turns them into the plain kind.
fn open(env: &Environment, model: &[u8], options: SessionOptions) -> ort::Result<Session> {
    // One thread a session: parallelism comes from sessions. The default would start a pool of
    // spinning threads for each. And a device found by itself must not take over: the repository says what runs where.
    let builder = Session::builder(env)?
        .with_intra_threads(options.intra_threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_auto_device(ort::session::builder::AutoDevicePolicy::PreferCPU)?;
    providers::register(builder, options.provider)?.commit_from_memory(model)
}

fn explain_refusal(error: &ort::Error) -> String {
    let text = error.to_string();
    let hint = if text.contains("locale") {
        "; its StringNormalizer wants a locale that this machine lacks: set the node's `locale` to \"C.UTF-8\" when exporting"
    } else if text.contains("protobuf") {
        "; it is no ONNX file, or not a whole one"
    } else if text.contains("opset") {
        "; export it for an older opset, or bring a newer ONNX Runtime (ORT_DYLIB_PATH)"
    } else {
        ""
    };
    format!("ONNX Runtime refuses it: {text}{hint}")
}

/// Which outputs make up a reading's row, and how wide each is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns(pub(super) Vec<(String, usize)>);

impl Columns {
    /// Numbers of one row.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, width)| width).sum()
    }
}

/// Where a model's bytes come from, when a session is opened later.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) sha256: String,
}

/// Sessions of one model file.
#[derive(Debug)]
pub(super) struct OrtBackend {
    env: Environment,
    // Let go once the sessions are open: a session has its own copy.
    model: Mutex<Option<Arc<Vec<u8>>>>,
    source: Source,
    options: SessionOptions,
    pub(super) signature: Signature,
    columns: Columns,
}

impl OrtBackend {
    /// Says which outputs a reading's row is made of.
    pub(super) fn with_columns(mut self, columns: Columns) -> Self {
        self.columns = columns;
        self
    }

    /// Says how many rows a run may have; 0 where the first axis is no batch.
    pub(super) fn with_max_batch(mut self, max_batch: usize) -> Self {
        self.signature.max_batch = max_batch;
        self
    }

    /// The number of rows that the file demands, where it does.
    pub(super) fn fixed_rows(&self) -> Option<usize> {
        self.signature
            .inputs
            .first()?
            .shape
            .first()
            .and_then(|rows| usize::try_from(*rows).ok())
            .filter(|rows| *rows > 0)
    }

    fn model(&self) -> Result<Arc<Vec<u8>>, String> {
        let kept = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(model) => Ok(Arc::clone(model)),
            None => read_checked(&self.source.file, &self.source.sha256).map(Arc::new),
        }
    }
}

impl Backend for OrtBackend {
    fn name(&self) -> &'static str {
        "onnxruntime"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn open(&self) -> Result<Box<dyn Runner>, String> {
        let model = self.model()?;
        let session = open(&self.env, &model, self.options).map_err(|error| explain_refusal(&error))?;
        let options = RunOptions::new().map_err(|error| error.to_string())?;
        let stop = Arc::new(Stop(options));
        let input = self.signature.inputs.first();
        Ok(Box::new(OrtRunner {
            session,
            stop,
            input: input.map(|input| input.name.clone()).unwrap_or_default(),
            flat_texts: input.is_some_and(|input| input.shape.len() == 1),
            columns: self.columns.clone(),
            fixed_rows: self.fixed_rows(),
            padded: Vec::new(),
        }))
    }

    fn release(&self) {
        drop(self.model.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

struct Stop(RunOptions<NoSelectedOutputs>);

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
}

impl StopSwitch for Stop {
    fn stop(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(%error, "a run cannot be ended");
        }
    }

    fn reset(&self) {
        if let Err(error) = self.0.unterminate() {
            tracing::warn!(%error, "a session cannot be made ready again");
        }
    }
}

/// One session with its owner.
#[derive(Debug)]
struct OrtRunner {
    session: Session,
    stop: Arc<Stop>,
    input: String,
    flat_texts: bool,
    columns: Columns,
    fixed_rows: Option<usize>,
    padded: Vec<f32>,
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn failed(error: ort::Error) -> RunError {
    if error.code() == ort::ErrorCode::InvalidArgument {
        RunError::Invalid(error.message().to_owned())
    } else {
        RunError::Failed(error.to_string())
    }
}

impl Runner for OrtRunner {
    fn run_rows(&mut self, rows: Rows<'_>, out: &mut Vec<f32>) -> Result<(), RunError> {
        let count = rows.count();
        let start = out.len();
        let mut run = count;
        let outputs = match rows {
            Rows::Features { rows, values } => {
                let width = values.len() / rows.max(1);
                let (rows, values) = match self.fixed_rows {
                    // The file wants an exact number of rows: the last one is repeated.
                    Some(fixed) if rows < fixed => {
                        self.padded.clear();
                        self.padded.extend_from_slice(values);
                        let last = values.len().saturating_sub(width);
                        for _ in rows..fixed {
                            self.padded.extend_from_slice(values.get(last..).unwrap_or_default());
                        }
                        run = fixed;
                        (fixed, self.padded.as_slice())
                    }
                    _ => (rows, values),
                };
                let tensor = TensorRef::from_array_view(([rows, width], values)).map_err(failed)?;
                self.session.run_with_options(ort::inputs![self.input.as_str() => tensor], &self.stop.0)
            }
            Rows::Texts(texts) => {
                let tensor = if self.flat_texts {
                    ort::value::Tensor::from_string_array(([count], texts))
                } else {
                    ort::value::Tensor::from_string_array(([count, 1], texts))
                };
                let tensor = tensor.map_err(failed)?;
                self.session.run_with_options(ort::inputs![self.input.as_str() => tensor], &self.stop.0)
            }
        };
        let outputs = outputs.map_err(failed)?;
        convert::rows(&outputs, run, &self.columns, out)?;
        out.truncate(start + count * self.columns.width());
        Ok(())
    }

    fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let values = inputs
            .iter()
            .map(|input| Ok((input.name.as_str(), convert::input(input)?)))
            .collect::<Result<Vec<_>, RunError>>()?;
        let outputs = self.session.run_with_options(values, &self.stop.0).map_err(failed)?;
        outputs.iter().map(|(name, value)| convert::output(name, &value)).collect()
    }

    fn stop_switch(&self) -> Option<Arc<dyn StopSwitch>> {
        Some(Arc::clone(&self.stop) as Arc<dyn StopSwitch>)
    }
}

/// The only inputs a task's readings can be given to: one tensor of floats, or of texts.
///
/// # Errors
/// A message that says what is there and what is wanted.
pub(super) fn check_reading_input(signature: &Signature, width: usize, text: bool) -> Result<(), String> {
    let [input] = signature.inputs.as_slice() else {
        let found: Vec<&str> = signature.inputs.iter().map(|input| input.name.as_str()).collect();
        return Err(format!("it has {} inputs ({}), a task's model has one", found.len(), found.join(", ")));
    };
    let good = if text {
        input.data_type == DataType::Bytes && matches!(input.shape[..], [-1] | [-1, 1 | -1])
    } else {
        input.data_type == DataType::Fp32
            && matches!(input.shape[..], [_, columns] if columns == -1 || usize::try_from(columns) == Ok(width))
    };
    if good {
        return Ok(());
    }
    let wanted =
        if text { "BYTES[-1,1], one text a row".to_owned() } else { format!("FP32[-1,{width}], rows being free") };
    let hint = if !text && input.shape.len() == 2 && matches!(input.shape.last(), Some(have) if *have > 0) {
        "; the task's fields and the model must have the same width"
    } else {
        ""
    };
    Err(format!("its input `{}` is {}, wanted is {wanted}{hint}", input.name, input.describe()))
}
