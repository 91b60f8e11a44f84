//! The engine in this process, beside raw ONNX Runtime.
//!
//! Saturated: how many rows a second, all cores busy. One caller: how much longer its reading takes
//! than a plain `session.run`. The callers share the cores with the engine, as handlers do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use shared::reading::Input;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use worker_native::config::{Config, Source};
use worker_native::engine::tensor::{Data, Tensor};
use worker_native::engine::{Engine, ModelVersion, bench};

use super::EngineArgs;
use super::facts::cores;
use super::raw::{self, Raw};
use super::report::Section;
use super::rows::{COUNT, Rows};
use super::spread::{Spread, number, quantile};

const TASK: &str = "pump-anomaly";
const MODEL: &str = "autoencoder";
const OUTPUT: &str = "score";
const BATCHES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const CALLERS: [usize; 5] = [32, 128, 512, 1_024, 2_048];
/// Rows in a request of many.
const MANY: usize = 256;

/// An engine with the runtime that its workers live on.
pub(crate) struct Running {
    pub(crate) runtime: Runtime,
    pub(crate) engine: Engine,
    tasks: TaskTracker,
}

impl Running {
    /// Loads a model repository.
    ///
    /// # Errors
    /// What keeps the engine from starting.
    pub(crate) fn load(args: &EngineArgs, models: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut env: BTreeMap<String, String> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        env.insert("MODEL_DIR".to_owned(), models.display().to_string());
        env.insert("ORT_DYLIB_PATH".to_owned(), args.setup.onnxruntime.display().to_string());
        let config = Config::read(Source::new(env, None)?)?.models;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let tasks = TaskTracker::new();
        let engine = runtime.block_on(Engine::load(&config, &tasks))?;
        Ok(Self { runtime, engine, tasks })
    }

    /// A version that is loaded.
    ///
    /// # Errors
    /// When it is not; with what the engine says of it.
    pub(crate) fn version(&self, task: &str, model: &str) -> anyhow::Result<Arc<ModelVersion>> {
        let version = self.engine.version(task, model, 1).filter(|version| version.is_ready());
        version.with_context(|| format!("{task}.{model} is not there: {}", self.engine.index().faults.join("; ")))
    }

    /// Ends it; else the library complains while the process exits.
    pub(crate) fn end(self) {
        self.runtime.block_on(self.engine.shut_down(&self.tasks));
    }
}

pub(crate) fn measure(args: &EngineArgs) -> anyhow::Result<Section> {
    let running = Running::load(args, &args.setup.models, &[("MODEL_POLL_MS", "0")])?;
    let version = running.version(TASK, MODEL)?;
    let env = bench::environment(None).map_err(anyhow::Error::msg)?;
    let rows = Arc::new(Rows::like_samples(&args.setup.models.join(TASK), 1)?);
    let file = args.setup.models.join(TASK).join(MODEL).join("1/model.onnx");
    let mut sessions = (0..cores()).map(|_| Raw::open(&env, &file, OUTPUT)).collect::<anyhow::Result<Vec<Raw>>>()?;
    let mut section = Section::new("Engine, in process");
    saturated(args, &running, &version, &mut sessions, &rows, &mut section)?;
    let session = sessions.pop().context("no core")?;
    alone(args, &running, &version, session, &rows, &mut section)?;
    drop(sessions);
    drop(version);
    running.end();
    Ok(section)
}

/// What a saturated engine did.
#[derive(Debug, Clone, Copy, Serialize)]
struct Load {
    rows_per_second: f64,
    /// Rows in a run, on average.
    mean_batch: f64,
    /// Share of all cores' time that was spent in runs of the model; the rest is queue, answers and callers.
    in_model: f64,
}

/// One look at every size, to find the best: batches of raw runs, callers of the engine.
struct Scans {
    raw: Vec<(usize, f64)>,
    engine: Vec<(usize, Load)>,
}

impl Scans {
    fn look(
        running: &Running,
        version: &Arc<ModelVersion>,
        sessions: &mut [Raw],
        rows: &Arc<Rows>,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let mut scans = Self { raw: vec![], engine: vec![] };
        for batch in BATCHES {
            scans.raw.push((batch, raw::saturate(sessions, rows, batch, time)?));
        }
        for callers in CALLERS {
            scans.engine.push((callers, running.runtime.block_on(closed_loop(version, rows, callers, 1, time))?));
        }
        Ok(scans)
    }

    fn best_batch(&self) -> usize {
        self.raw.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(MANY, |best| best.0)
    }

    fn best_callers(&self) -> usize {
        let best = self.engine.iter().max_by(|a, b| a.1.rows_per_second.total_cmp(&b.1.rows_per_second));
        best.map_or(512, |best| best.0)
    }

    fn report(&self, section: &mut Section) {
        let raw = self.raw.iter().map(|(batch, rate)| vec![batch.to_string(), number(*rate, 0)]).collect();
        section.table("Raw ONNX Runtime by batch size, one look each:", &["batch", "rows/s"], raw);
        let engine = self.engine.iter().map(|(callers, load)| {
            vec![callers.to_string(), number(load.rows_per_second, 0), number(load.mean_batch, 0)]
        });
        let header = ["callers", "rows/s", "rows a run"];
        section.table("The engine by number of callers of one reading, one look each:", &header, engine.collect());
        section.keep("raw_by_batch", &self.raw);
        section.keep("engine_by_callers", &self.engine);
    }
}

fn saturated(
    args: &EngineArgs,
    running: &Running,
    version: &Arc<ModelVersion>,
    sessions: &mut [Raw],
    rows: &Arc<Rows>,
    section: &mut Section,
) -> anyhow::Result<()> {
    let scans = Scans::look(running, version, sessions, rows, Duration::from_millis(args.setup.or_quick(700, 100)))?;
    let (batch, callers, many) = (scans.best_batch(), scans.best_callers(), cores() * 4);
    let (turns, time) = (args.setup.or_quick(9, 3), Duration::from_millis(args.setup.or_quick(3_000, 200)));
    let mut floor = Spread::default();
    let mut loads: [(String, Vec<Load>); 3] = [
        ("engine, 512 callers of one reading".to_owned(), vec![]),
        (format!("engine, {callers} callers of one reading (the best number)"), vec![]),
        (format!("engine, {many} callers of {MANY} rows"), vec![]),
    ];
    for _ in 0..turns {
        floor.push(raw::saturate(sessions, rows, batch, time)?);
        loads[0].1.push(running.runtime.block_on(closed_loop(version, rows, 512, 1, time))?);
        loads[1].1.push(running.runtime.block_on(closed_loop(version, rows, callers, 1, time))?);
        loads[2].1.push(running.runtime.block_on(closed_loop(version, rows, many, MANY, time))?);
    }
    let name = format!("raw, {} threads, batches of {batch}", sessions.len());
    let mut table = vec![vec![name, floor.show(0), "1".to_owned(), batch.to_string(), "100 %".to_owned()]];
    for (name, loads) in &loads {
        let rate = column(loads, |load| load.rows_per_second);
        let in_model = column(loads, |load| load.in_model).median() * 100.0;
        let mean_batch = number(column(loads, |load| load.mean_batch).median(), 0);
        table.push(vec![name.clone(), rate.show(0), rate.over(&floor).show(2), mean_batch, format!("{in_model:.0} %")]);
        section.keep(name, loads);
    }
    let caption = format!(
        "{TASK}.{MODEL}, all cores busy; {turns} turns of {} s each, median (least to most):",
        time.as_secs_f64()
    );
    section.table(caption, &["", "rows/s", "of raw", "rows a run", "time in the model"], table);
    scans.report(section);
    if let Some(pool) = version.pool() {
        let warm = pool.warm_up;
        section.note(format!(
            "The warm-up chose batches of at most {}, and {}.",
            warm.max_batch,
            if warm.own_threads { "threads of its own" } else { "the async runtime's threads" }
        ));
        section.keep("warm_up", warm);
    }
    section.keep("raw_rows_per_second", &floor);
    for (what, loads) in [("many rows", &loads[2].1), ("one reading", &loads[1].1)] {
        let ratio = column(loads, |load| load.rows_per_second).over(&floor).median();
        let goal = format!("autoencoder saturated by requests of {what}: at least 80 % of raw ONNX Runtime");
        section.goal(goal, format!("{:.0} %", ratio * 100.0), ratio >= 0.8);
    }
    Ok(())
}

fn column(loads: &[Load], of: impl Fn(&Load) -> f64) -> Spread {
    let mut spread = Spread::default();
    loads.iter().for_each(|load| spread.push(of(load)));
    spread
}

/// Callers that each wait for an answer before they send the next request of so many rows.
async fn closed_loop(
    version: &Arc<ModelVersion>,
    rows: &Arc<Rows>,
    callers: usize,
    per_request: usize,
    time: Duration,
) -> anyhow::Result<Load> {
    let pool = version.pool().context("it was unloaded")?;
    let stop = Arc::new(AtomicBool::new(false));
    let (before, started) = (pool.view().stats, Instant::now());
    let mut running = JoinSet::new();
    for number in 0..callers {
        running.spawn(call(Arc::clone(version), Arc::clone(rows), number * 61, per_request, Arc::clone(&stop)));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut done = 0;
    while let Some(ended) = running.join_next().await {
        done += ended??;
    }
    let (after, took) = (pool.view().stats, started.elapsed().as_secs_f64());
    let batches = (after.batches - before.batches).max(1);
    Ok(Load {
        rows_per_second: done as f64 / took,
        mean_batch: (after.rows - before.rows) as f64 / batches as f64,
        in_model: (after.run.total_ns - before.run.total_ns) as f64 / 1e9 / took / cores() as f64,
    })
}

async fn call(
    version: Arc<ModelVersion>,
    rows: Arc<Rows>,
    first: usize,
    per_request: usize,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<usize> {
    let signature = version.signature().context("it was unloaded")?;
    let name = signature.inputs.first().context("it has no input")?.name.clone();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        if per_request == 1 {
            version.row(Input::Features(rows.row(first + done).to_vec()), None).await?;
        } else {
            let values = rows.batch((first + done) % (COUNT - per_request + 1), per_request).to_vec();
            let tensor = Tensor { name: name.clone(), shape: vec![per_request, rows.width], data: Data::Fp32(values) };
            version.infer(vec![tensor], None).await?;
        }
        done += per_request;
    }
    Ok(done)
}

/// One caller and nobody else: what the engine adds to a run.
fn alone(
    args: &EngineArgs,
    running: &Running,
    version: &Arc<ModelVersion>,
    raw: Raw,
    rows: &Arc<Rows>,
    section: &mut Section,
) -> anyhow::Result<()> {
    let (turns, each) = (args.setup.or_quick(21, 5), args.setup.or_quick(20_000, 1_000));
    let taken = running.runtime.block_on(async {
        // On a worker of the runtime, as a handler runs; the thread of `block_on` is none.
        let mut caller = JoinSet::new();
        caller.spawn(take_turns(Arc::clone(version), raw, Arc::clone(rows), turns, each));
        anyhow::Ok(caller.join_next().await.context("it did not run")???)
    })?;
    let mut table = Vec::new();
    for (name, share) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999)] {
        let mut spreads = [Spread::default(), Spread::default()];
        for turn in &taken {
            for (spread, samples) in spreads.iter_mut().zip(turn) {
                spread.push(quantile(&mut samples.clone(), share) / 1e3);
            }
        }
        let [raw, engine] = &spreads;
        let added = engine.less(raw);
        table.push(vec![name.to_owned(), raw.show(2), engine.show(2), added.show(2)]);
        section.keep(&format!("alone_{name}_us"), serde_json::json!({ "raw": raw, "engine": engine, "added": added }));
        if share == 0.5 {
            section.goal(
                "one caller: less than 20 us over a raw session.run (medians)",
                format!("{:.1} us", added.median()),
                added.median() < 20.0,
            );
        }
    }
    let caption = format!("One caller, one reading after the other, {turns} turns of {each} each, in microseconds:");
    section.table(caption, &["of the calls", "raw session.run", "engine", "added"], table);
    Ok(())
}

/// Nanoseconds of each call, raw and by the engine, turn by turn.
async fn take_turns(
    version: Arc<ModelVersion>,
    mut raw: Raw,
    rows: Arc<Rows>,
    turns: usize,
    each: usize,
) -> anyhow::Result<Vec<[Vec<u32>; 2]>> {
    let mut taken = Vec::new();
    for turn in 0..turns {
        let mut samples = [Vec::with_capacity(each), Vec::with_capacity(each)];
        for call in 0..each {
            let row = rows.row(turn * each + call);
            let started = Instant::now();
            std::hint::black_box(raw.run(1, row)?);
            samples[0].push(nanos(started));
        }
        for call in 0..each {
            let row = rows.row(turn * each + call);
            let started = Instant::now();
            std::hint::black_box(version.row(Input::Features(row.to_vec()), None).await?);
            samples[1].push(nanos(started));
        }
        taken.push(samples);
    }
    Ok(taken)
}

pub(crate) fn nanos(started: Instant) -> u32 {
    u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX)
}
