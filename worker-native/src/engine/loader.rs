//! From a version's file to a pool that serves: validate, warm up, choose.
//!
//! Loading proves what serving relies on: the file is whole, takes what the task gives, has the
//! promised outputs, its first axis is the batch. The timing chooses the backend, the largest batch
//! and the lane. Blocking: call it off the async runtime's threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::task::TaskTracker;

use super::answer::Card;
use super::backend::{Backend, Runner};
use super::batcher::{Batcher, run_rows};
use super::explain::Profile;
use super::native::{NativeTrees, TreeRunner};
use super::pool::{Pool, WarmUp};
use super::profile::Fit;
use super::repository::{BackendChoice, Kind, Meaning, ModelFolder, TaskFolder, VersionFacts};
use super::runtime::{Columns, OrtBackend, Provider, Runtime, SessionOptions, Source, check_reading_input};
use super::stats::Stats;
use super::tensor::{DataType, Signature};
use super::trees::TreeModel;
use super::warm_up::{Samples, Timing, tensors, warm_up};
use crate::clock::millis;
use crate::config::ModelsConfig;
use crate::onnx::{graph, rewrite};
use crate::telemetry::metrics::{Metrics, ModelMetrics};

/// A batch that takes longer would hold a runtime thread from its other work.
const FAST_LANE_LIMIT: Duration = Duration::from_micros(250);
/// How far the native kernel's rows may be from ONNX Runtime's, relative above 1.
const NATIVE_DIFFERENCE: f32 = 1e-6;
/// A file that takes longer to open has likely thousands of nodes.
const SLOW_LOAD: Duration = Duration::from_millis(200);
/// A file that large gets one session where nobody says otherwise: each has its own copy of the weights.
const LARGE_FILE: usize = 50 << 20;

/// Everything that makes a version what it is; two equal ones need no reload.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    pub(super) task: String,
    pub(super) kind: Kind,
    pub(super) model: String,
    pub(super) version: u32,
    tier: Option<String>,
    output: Option<Meaning>,
    backend: BackendChoice,
    provider: Provider,
    sessions: Option<usize>,
    intra_threads: usize,
    max_batch: Option<usize>,
    facts: VersionFacts,
    file: PathBuf,
    profile: PathBuf,
    // Size and time of the profile: it has no digest in model.toml.
    profile_seen: Option<(u64, SystemTime)>,
}

impl Spec {
    pub(super) fn new(task: &TaskFolder, model: &ModelFolder, version: u32, facts: &VersionFacts) -> Self {
        let profile = model.profile(version);
        let profile_seen = profile.metadata().and_then(|facts| Ok((facts.len(), facts.modified()?))).ok();
        Self {
            task: task.name.clone(),
            kind: task.kind.clone(),
            model: model.name.clone(),
            version,
            tier: model.tier.clone(),
            output: model.output.clone(),
            backend: model.backend,
            provider: model.provider,
            sessions: model.sessions,
            intra_threads: model.intra_threads.unwrap_or(1),
            max_batch: model.max_batch,
            facts: facts.clone(),
            file: model.file(version),
            profile,
            profile_seen,
        }
    }

    /// Is the file whole, and the one that `model.toml` speaks of?
    pub(super) fn check_file(&self) -> Result<(), String> {
        read_checked(&self.file, &self.facts.sha256).map(drop)
    }

    /// `task.model v1`, for people.
    pub(super) fn label(&self) -> String {
        format!("{}.{} v{}", self.task, self.model, self.version)
    }

    /// What is known of the version before it is loaded.
    pub(super) fn card(&self) -> Result<Card, String> {
        let schema = match &self.kind {
            Kind::Reading(schema) => Some(schema),
            Kind::Forecast(_) | Kind::Generation(_) | Kind::Tensor => None,
        };
        let fields = schema.map(|schema| schema.fields.clone()).unwrap_or_default();
        let profile = if schema.is_some() { Profile::read(&self.profile, &fields)? } else { None };
        let unit = match &self.kind {
            Kind::Reading(schema) => schema.target.as_ref().map(|target| target.unit.clone()),
            Kind::Forecast(forecast) => Some(forecast.unit.clone()),
            Kind::Generation(_) | Kind::Tensor => None,
        };
        Ok(Card {
            task: self.task.clone(),
            model: self.model.clone(),
            version: self.version,
            tier: self.tier.clone(),
            training_accuracy: self.facts.accuracy,
            sha256: self.facts.sha256.clone(),
            output: self.output.clone(),
            classes: schema.map(|schema| schema.classes.clone()).unwrap_or_default(),
            normal: schema.map(|schema| schema.normal.clone()).unwrap_or_default(),
            unit: unit.unwrap_or_default(),
            fields: fields.into(),
            profile: profile.map(Arc::new),
            columns: self.columns(),
        })
    }

    /// Numbers of a row before the contributions.
    fn columns(&self) -> usize {
        match (&self.output, &self.kind) {
            (Some(Meaning::Probabilities { .. }), Kind::Reading(schema)) => schema.classes.len(),
            (Some(Meaning::Logits { .. }), Kind::Generation(generation)) => generation.alphabet.len(),
            (Some(_), _) => 1,
            (None, _) => 0,
        }
    }
}

/// A backend that has shown what it can, its first runner, and how fast that was.
type Warm = (Arc<dyn Backend>, Box<dyn Runner>, Timing);

/// What all loads share.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) config: ModelsConfig,
    pub(super) runtime: Runtime,
    pub(super) tasks: TaskTracker,
    pub(super) metrics: Metrics,
    // Every pool, for the watchdog: also those that close and still run.
    pub(super) pools: Mutex<Vec<Weak<Pool>>>,
}

impl Loader {
    /// Takes the place of the model repository out of a text that callers may see.
    pub(super) fn without_dir(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.config.dir.display()), "")
    }

    /// The pools that are still there.
    pub(super) fn living_pools(&self) -> Vec<Arc<Pool>> {
        let mut pools = self.pools();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    /// Has a new pool watched.
    pub(super) fn watch(&self, pool: &Arc<Pool>) {
        self.pools().push(Arc::downgrade(pool));
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Weak<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads one version.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it.
    pub(super) fn load(&self, spec: &Spec, card: Arc<Card>, metrics: ModelMetrics) -> Result<Pool, String> {
        let started = Instant::now();
        let bytes = Arc::new(read_checked(&spec.file, &spec.facts.sha256)?);
        let sessions = spec.sessions.unwrap_or(if bytes.len() > LARGE_FILE { 1 } else { self.config.sessions });
        let options = SessionOptions { intra_threads: spec.intra_threads, provider: spec.provider };
        let source = Source { file: spec.file.clone(), sha256: spec.facts.sha256.clone() };
        let ort = self.runtime.backend(Arc::clone(&bytes), source, options)?;
        advise(spec, &bytes, started.elapsed());
        check_outputs(spec, &ort.signature)?;
        let (backend, first, timing) = if let Kind::Tensor = spec.kind {
            self.warm_up_tensors(spec, ort)?
        } else {
            self.warm_up_rows(spec, ort, &bytes)?
        };
        let own_threads = timing.largest > FAST_LANE_LIMIT || takes_any_length(backend.signature());
        let mut runners = vec![first];
        while runners.len() < sessions {
            runners.push(backend.open()?);
        }
        backend.release();
        let stats = Arc::new(Stats::new(timing.max_batch, timing.single, Some(metrics)));
        let pool = Pool {
            name: spec.label(),
            card,
            signature: Arc::new(backend.signature().clone()),
            batcher: Batcher::new(self.config.max_waiting, timing.max_batch, Arc::clone(&stats)),
            backend,
            stats,
            workers: sessions,
            watches: Mutex::default(),
            tasks: self.tasks.clone(),
            fit: Mutex::new(Fit::new(timing.single, timing.largest, timing.max_batch)),
            warm_up: WarmUp {
                load_ms: millis(started.elapsed()),
                single_us: micros(timing.single),
                largest_us: micros(timing.largest),
                max_batch: timing.max_batch,
                own_threads,
            },
        };
        pool.start(runners)?;
        Ok(pool)
    }

    fn warm_up_rows(&self, spec: &Spec, ort: OrtBackend, bytes: &[u8]) -> Result<Warm, String> {
        let fixed = ort.fixed_rows();
        let cap = fixed.or(spec.max_batch).unwrap_or(self.config.max_batch).max(1);
        let samples = Samples::of(&spec.kind, cap).ok_or("a tensor task has no readings to try")?;
        let fixed = fixed.or(spec.max_batch);
        let ort = ort.with_columns(columns(spec));
        let mut runner = ort.open()?;
        let timing = warm_up(runner.as_mut(), &samples, cap, fixed)?;
        let ort = ort.with_max_batch(timing.max_batch);
        if spec.backend != BackendChoice::Ort {
            match native(spec, bytes, (runner.as_mut(), timing), &samples, cap) {
                Ok((trees, native)) if spec.backend == BackendChoice::Native || native.beats(&timing) => {
                    let backend = NativeTrees::new(trees, ort, native.max_batch);
                    let runner = backend.open()?;
                    return Ok((Arc::new(backend), runner, native));
                }
                Ok(_) => {}
                Err(reason) if spec.backend == BackendChoice::Native => {
                    return Err(format!("backend = \"native\": {reason}"));
                }
                Err(reason) => tracing::debug!(model = %spec.label(), reason, "the native kernel does not run it"),
            }
        }
        Ok((Arc::new(ort), runner, timing))
    }

    /// A model that takes any tensors: tried with zeros, which it may refuse; what it shows then is not relied on.
    fn warm_up_tensors(&self, spec: &Spec, ort: OrtBackend) -> Result<Warm, String> {
        let mut runner = ort.open()?;
        let cap = spec.max_batch.unwrap_or(self.config.max_batch).max(1);
        let batched = ort.signature.max_batch > 0;
        let (max_batch, timing) =
            tensors::try_out(runner.as_mut(), &ort.signature, batched.then_some(cap), &spec.label());
        Ok((Arc::new(ort.with_max_batch(max_batch)), runner, timing))
    }
}

/// The native kernel for a version, held against ONNX Runtime on the samples, and its times.
///
/// # Errors
/// Why it does not run this file, or not exactly.
fn native(
    spec: &Spec,
    bytes: &[u8],
    (oracle, known): (&mut dyn Runner, Timing),
    samples: &Samples,
    cap: usize,
) -> Result<(Arc<TreeModel>, Timing), String> {
    let columns = columns(spec);
    let [(output, width)] = columns.0.as_slice() else {
        return Err("it answers from several outputs".to_owned());
    };
    let trees = TreeModel::load(bytes, output)?;
    if Some(trees.width()) != samples.width() || trees.columns() != *width {
        return Err(format!("it has {} columns and {} outputs", trees.width(), trees.columns()));
    }
    let trees = Arc::new(trees);
    let mut runner = TreeRunner::rows_only(Arc::clone(&trees));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for rows in [1, known.max_batch.min(cap)] {
        let failed = |error: super::backend::RunError| error.to_string();
        run_rows(oracle, samples.head(rows), &mut theirs).map_err(failed)?;
        run_rows(&mut runner, samples.head(rows), &mut ours).map_err(failed)?;
        let same = |(a, b): (&f32, &f32)| (a - b).abs() <= NATIVE_DIFFERENCE * a.abs().max(1.0);
        if theirs.len() != ours.len() || !theirs.iter().zip(&ours).all(same) {
            return Err(format!("its rows differ from ONNX Runtime's by more than {NATIVE_DIFFERENCE}"));
        }
    }
    // At the same size as the other: a kernel that gains nothing from larger batches would be judged by a small one.
    let timing = warm_up(&mut runner, samples, cap, Some(known.max_batch.min(cap)))?;
    Ok((trees, timing))
}

/// The outputs that make up a reading's row.
fn columns(spec: &Spec) -> Columns {
    let mut columns = Vec::new();
    if let Some(output) = &spec.output {
        columns.push((output.name().to_owned(), spec.columns()));
        if let (Some(name), Kind::Reading(schema)) = (output.contributions(), &spec.kind) {
            columns.push((name.to_owned(), schema.width()));
        }
    }
    Columns(columns)
}

/// A file that takes long to open is likely a slow export: says what would make it better.
fn advise(spec: &Spec, bytes: &[u8], took: Duration) {
    if took < SLOW_LOAD {
        return;
    }
    let Ok(model) = graph::decode(bytes, bytes.len()) else { return };
    for advice in rewrite::advice(&model) {
        tracing::warn!(model = %spec.label(), load_ms = millis(took), advice, "a slow model file");
    }
}

/// Has the file what the task and the model say of it?
fn check_outputs(spec: &Spec, signature: &Signature) -> Result<(), String> {
    let (width, text) = match &spec.kind {
        Kind::Tensor => return Ok(()),
        Kind::Reading(schema) => (schema.width(), schema.text_field().is_some()),
        Kind::Forecast(forecast) => (forecast.window, false),
        Kind::Generation(generation) => (generation.window, false),
    };
    check_reading_input(signature, width, text)?;
    for (name, width) in &columns(spec).0 {
        let Some(output) = signature.outputs.iter().find(|output| output.name == *name) else {
            let names: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(format!(
                "it has no output `{name}`, which model.toml names; its outputs: {}",
                names.join(", ")
            ));
        };
        let columns = output.shape.get(1).copied().unwrap_or(1);
        if columns > 0 && usize::try_from(columns) != Ok(*width) {
            return Err(format!("its output `{name}` is {}, {width} numbers a row are wanted", output.describe()));
        }
    }
    Ok(())
}

/// May one row be of any size? Then the warm-up's times say nothing of the largest.
fn takes_any_length(signature: &Signature) -> bool {
    let batched = signature.max_batch > 0;
    signature.inputs.iter().any(|input| {
        let open = |(i, axis): (usize, &i64)| *axis < 0 && (i > 0 || !batched);
        input.data_type == DataType::Bytes || input.shape.iter().enumerate().any(open)
    })
}

/// Microseconds to the hundredth.
fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e8).round() / 1e2
}

/// The SHA-256 of some bytes, in lower-case hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a whole file and checks its SHA-256.
pub(super) fn read_checked(path: &std::path::Path, sha256: &str) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let found = sha256_hex(&bytes);
    if found != sha256 {
        return Err(format!(
            "{}: its sha256 is {found}, model.toml says {sha256}: the file was changed or is not whole",
            path.display()
        ));
    }
    Ok(bytes)
}
