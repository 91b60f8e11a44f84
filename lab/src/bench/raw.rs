//! ONNX Runtime without the engine: the floor under every figure.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::AutoDevicePolicy;
use ort::value::TensorRef;

use super::rows::{COUNT, Rows};

/// One session, opened as the engine opens its own.
#[derive(Debug)]
pub(crate) struct Raw {
    session: Session,
    input: String,
    output: String,
}

fn open(env: &Environment, model: &[u8]) -> ort::Result<Session> {
    Session::builder(env)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .commit_from_memory(model)
}

impl Raw {
    /// Opens a model file; `output` is the tensor that is looked at.
    ///
    /// # Errors
    /// When the file cannot be read or opened.
    pub(crate) fn open(env: &Environment, file: &Path, output: &str) -> anyhow::Result<Self> {
        let model = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let session = open(env, &model).with_context(|| format!("cannot open {}", file.display()))?;
        let input = session.inputs().first().context("it has no input")?.name().to_owned();
        Ok(Self { session, input, output: output.to_owned() })
    }

    /// Runs rows and looks at the first number of the output, which stays where the runtime put it.
    ///
    /// # Errors
    /// What the runtime says.
    pub(crate) fn run(&mut self, rows: usize, values: &[f32]) -> anyhow::Result<f32> {
        let tensor = TensorRef::from_array_view(([rows, values.len() / rows], values))?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => tensor])?;
        let (_, numbers) = outputs.get(&self.output).context("it has no such output")?.try_extract_tensor::<f32>()?;
        numbers.first().copied().context("its output is empty")
    }

    /// Runs batches of one size for a while, rows in turn; gives rows and time.
    ///
    /// # Errors
    /// As [`Raw::run`].
    pub(crate) fn spin(&mut self, rows: &Rows, batch: usize, time: Duration) -> anyhow::Result<(usize, Duration)> {
        let started = Instant::now();
        let mut done = 0;
        // The clock is asked now and then: asking costs as much as a small tree.
        while started.elapsed() < time {
            for _ in 0..256_usize.div_ceil(batch) {
                std::hint::black_box(self.run(batch, rows.batch(done % (COUNT - batch + 1), batch))?);
                done += batch;
            }
        }
        Ok((done, started.elapsed()))
    }
}

/// Rows a second of one thread a core, each with a session of its own.
///
/// # Errors
/// As [`Raw::run`].
pub(crate) fn saturate(sessions: &mut [Raw], rows: &Rows, batch: usize, time: Duration) -> anyhow::Result<f64> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            sessions.iter_mut().map(|session| scope.spawn(move || session.spin(rows, batch, time))).collect();
        threads.into_iter().try_fold(0.0, |sum, thread| {
            let (done, took) = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            Ok(sum + done as f64 / took.as_secs_f64())
        })
    })
}
