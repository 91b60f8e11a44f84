//! An isolation forest of 100 trees: as skl2onnx exports it, optimised, and by the native kernel.
//!
//! The three are models of one task in a repository of the run's own, so that each is loaded and
//! checked as in service. A run alone is timed without queue; a reading is timed through the engine.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use sha2::Digest;
use shared::reading::Input;
use tokio::task::JoinSet;
use worker_native::engine::bench::{Alone, environment};

use super::EngineArgs;
use super::engine::{Running, nanos};
use super::raw::Raw;
use super::report::Section;
use super::rows::{COUNT, Rows};
use super::spread::{Spread, quantile};

const TASK: &str = "forest";
const WIDTH: usize = 7;
const OUTPUT: &str = "scores";
const BATCHES: [usize; 2] = [1, 256];

/// One of the forest's forms, and what it took.
struct Form {
    name: &'static str,
    raw: Option<Raw>,
    alone: Option<Alone>,
    /// Microseconds of a run, for each of [`BATCHES`].
    raw_us: [Spread; 2],
    alone_us: [Spread; 2],
    /// Microseconds of a reading, through the engine.
    engine_us: Spread,
}

pub(crate) fn measure(args: &EngineArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("Isolation forest of 100 trees");
    let Some(stock) = &args.forest else {
        section.note("Not measured: the stock export was not made (script/bench says why).");
        return Ok(section);
    };
    let dir = tempfile::tempdir()?;
    let optimised = dir.path().join("optimised.onnx");
    if let Err(error) = optimise(args, stock, &optimised) {
        section.note(format!("Only the stock export was measured: {error:#}."));
    }
    let models = dir.path().join("models");
    write_repository(&models, stock, &optimised)?;
    // The stock export needs seconds to load; one session of each is enough.
    let running = Running::load(args, &models, &[("MODEL_POLL_MS", "0"), ("MODEL_SESSIONS", "1")])?;
    for fault in &running.engine.index().faults {
        section.note(format!("Not loaded: {fault}"));
    }
    let rows = Rows::normal(WIDTH, 2);
    let env = environment(None).map_err(anyhow::Error::msg)?;
    let mut forms = Vec::new();
    for (name, file) in [("stock", Some(stock.as_path())), ("optimised", Some(optimised.as_path())), ("native", None)] {
        let Ok(version) = running.version(TASK, name) else { continue };
        let pool = version.pool().context("it was unloaded")?;
        forms.push(Form {
            name,
            raw: file.map(|file| Raw::open(&env, file, OUTPUT)).transpose()?,
            alone: Some(Alone::of(&pool).map_err(anyhow::Error::msg)?),
            raw_us: Default::default(),
            alone_us: Default::default(),
            engine_us: Spread::default(),
        });
    }
    let (turns, time) = (args.setup.or_quick(9, 3), Duration::from_millis(args.setup.or_quick(400, 50)));
    for _ in 0..turns {
        for form in &mut forms {
            for (batch, size) in BATCHES.into_iter().enumerate() {
                if let Some(raw) = &mut form.raw {
                    let (done, took) = raw.spin(&rows, size, time)?;
                    form.raw_us[batch].push(per_run(done, size, took));
                }
                if let Some(alone) = &mut form.alone {
                    let (done, took) = spin(alone, &rows, size, time)?;
                    form.alone_us[batch].push(per_run(done, size, took));
                }
            }
            form.engine_us.push(reading_us(&running, form.name, &rows, time)?);
        }
    }
    report(&mut section, &forms, turns, time);
    drop(forms);
    running.end();
    Ok(section)
}

fn per_run(rows: usize, batch: usize, took: Duration) -> f64 {
    took.as_secs_f64() * 1e6 * batch as f64 / rows as f64
}

fn spin(alone: &mut Alone, rows: &Rows, batch: usize, time: Duration) -> anyhow::Result<(usize, Duration)> {
    let (started, mut done, mut out) = (Instant::now(), 0, Vec::new());
    while started.elapsed() < time {
        for _ in 0..256_usize.div_ceil(batch) {
            let values = rows.batch(done % (COUNT - batch + 1), batch);
            alone.run(batch, values, &mut out).map_err(anyhow::Error::msg)?;
            std::hint::black_box(&out);
            done += batch;
        }
    }
    Ok((done, started.elapsed()))
}

/// The median of one caller's readings.
fn reading_us(running: &Running, model: &str, rows: &Rows, time: Duration) -> anyhow::Result<f64> {
    let (version, rows) = (running.version(TASK, model)?, rows.clone());
    running.runtime.block_on(async {
        let mut caller = JoinSet::new();
        caller.spawn(async move {
            let (started, mut samples) = (Instant::now(), Vec::new());
            while started.elapsed() < time {
                let input = Input::Features(rows.row(samples.len()).to_vec());
                let asked = Instant::now();
                version.row(input, None).await?;
                samples.push(nanos(asked));
            }
            anyhow::Ok(quantile(&mut samples, 0.5) / 1e3)
        });
        caller.join_next().await.context("it did not run")??
    })
}

fn report(section: &mut Section, forms: &[Form], turns: usize, time: Duration) {
    let mut table = Vec::new();
    for form in forms {
        let cell = |spread: &Spread| spread.show(2);
        table.push(vec![
            form.name.to_owned(),
            cell(&form.raw_us[0]),
            cell(&form.raw_us[1]),
            cell(&form.alone_us[0]),
            cell(&form.alone_us[1]),
            cell(&form.engine_us),
        ]);
        section.keep(
            form.name,
            json!({ "raw_us": form.raw_us, "runner_us": form.alone_us, "reading_us": form.engine_us, "batches": BATCHES }),
        );
    }
    let caption = format!("Microseconds of one run, {turns} turns of {} s each, one thread:", time.as_secs_f64());
    let header = [
        "form",
        "raw, 1 row",
        "raw, 256 rows",
        "engine's runner, 1 row",
        "engine's runner, 256 rows",
        "engine, a reading",
    ];
    section.table(caption, &header, table);
    let form = |name: &str| forms.iter().find(|form| form.name == name);
    let mut compare = |goal: &str, slow: &Spread, fast: &Spread, least: f64| {
        let ratio = slow.over(fast);
        section.goal(goal, format!("{} times", ratio.show(1)), ratio.median() >= least);
    };
    if let (Some(stock), Some(optimised)) = (form("stock"), form("optimised")) {
        let goal = "forest of 100 trees, batch 1: optimised at least 100 times the stock export (raw runs of both)";
        compare(goal, &stock.raw_us[0], &optimised.raw_us[0], 100.0);
    }
    if let (Some(stock), Some(native)) = (form("stock"), form("native")) {
        let goal = "forest of 100 trees, batch 1: native at least 100 times the stock export (runs)";
        compare(goal, &stock.raw_us[0], &native.alone_us[0], 100.0);
        let goal = "the same for a reading through the engine";
        compare(goal, &stock.engine_us, &native.engine_us, 100.0);
    }
    if let (Some(optimised), Some(native)) = (form("optimised"), form("native")) {
        for (batch, size) in BATCHES.iter().enumerate() {
            let goal = format!("native kernel at least 3 times ONNX Runtime on the optimised forest, batch {size}");
            compare(&goal, &optimised.raw_us[batch], &native.alone_us[batch], 3.0);
        }
    }
}

/// As people would do it: by the service's own tool.
fn optimise(args: &EngineArgs, stock: &Path, out: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(args.setup.service()?);
    command.args(["models", "optimize", "--no-bench"]).arg(stock).arg("-o").arg(out);
    let done = command.env("ORT_DYLIB_PATH", &args.setup.onnxruntime).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(done.status.success(), "`models optimize` failed: {}", said.lines().next().unwrap_or_default());
    Ok(())
}

fn write_repository(models: &Path, stock: &Path, optimised: &Path) -> anyhow::Result<()> {
    let fields: String = (0..WIDTH)
        .map(|i| format!("[[fields]]\nname = \"x{i}\"\ntype = \"number\"\nmin = -9.0\nmax = 9.0\n"))
        .collect();
    std::fs::create_dir_all(models.join(TASK))?;
    let task = format!("name = \"{TASK}\"\nkind = \"anomaly\"\ntiers = [\"all\"]\n{fields}");
    std::fs::write(models.join(TASK).join("task.toml"), task)?;
    for (name, file, extra) in [
        ("stock", stock, "tier = \"all\"\nbackend = \"ort\""),
        ("optimised", optimised, "backend = \"ort\""),
        ("native", optimised, "backend = \"native\""),
    ] {
        if !file.is_file() {
            continue;
        }
        let bytes = std::fs::read(file)?;
        let sha256: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = models.join(TASK).join(name);
        std::fs::create_dir_all(folder.join("1"))?;
        std::fs::write(folder.join("1/model.onnx"), bytes)?;
        let model = format!(
            "name = \"{name}\"\n{extra}\ndefault_version = 1\nmax_batch = 256\n[output]\nkind = \"score\"\n\
             name = \"{OUTPUT}\"\nthreshold = 0.0\nslope = 1.0\n[versions.1]\nsha256 = \"{sha256}\"\n"
        );
        std::fs::write(folder.join("model.toml"), model)?;
    }
    Ok(())
}
