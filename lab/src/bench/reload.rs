//! A thousand reloads of the model that answers, under load: nothing may be lost, nothing may pile up.
//!
//! The service watches its repository as in production. A reload is one rename: a link that names
//! one of two folders with the same model, whose files differ in a comment.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::Digest;

use super::EngineArgs;
use super::facts::{Memory, memory};
use super::peers;
use super::process::rest;
use super::report::Section;
use super::rows::{COUNT, Rows};
use super::service::{Persistence, Redis, Service};
use super::spread::{number, quantile};
use super::wrk::{Requests, post};

const TASK: &str = "pump-anomaly";
const MODEL: &str = "autoencoder";
const CONNECTIONS: usize = 32;
/// Requests before the first look at the memory: the service keeps the last 100,000 answers for labels that come
/// later (`worker_native::rollout::ledger`), and grows until it has that many.
const WARMING: u64 = 250_000;
const LIMIT: Duration = Duration::from_secs(30);
/// The log's lines about the repository, and no other.
const SETTINGS: [(&str, &str); 4] = [
    ("CACHE_BACKEND", "off"),
    ("ROUTING_POLICY", "always-accurate"),
    ("LOG_LEVEL", "warn,worker_native::engine::watch=info"),
    ("MODEL_POLL_MS", "5"),
];

pub(crate) fn measure(args: &EngineArgs) -> anyhow::Result<Section> {
    let count = args.setup.or_quick(1_000, 60);
    let mut section = Section::new("Reloads under load");
    let dir = tempfile::tempdir()?;
    let models = dir.path().join("models");
    prepare(&args.setup.models, dir.path())?;
    let redis = Redis::start(&args.setup.redis, Persistence::Off)?;
    let mut service = Service::start(&args.setup, &redis, &models, &SETTINGS, Stdio::piped())?;
    let log = service.server.child.stderr.take().context("the service has no log")?;
    let (sender, reloads) = channel();
    // It ends with the service, whose log it reads.
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    let rows = Rows::like_samples(&args.setup.models.join(TASK), 4)?;
    let request = |index| {
        post(service.port, "/predict", "Content-Type: application/json\r\n", peers::reading(&rows, index).as_bytes())
    };
    let requests = Requests::write((0..COUNT).map(request))?;
    let mut answered = 0;
    while answered < WARMING {
        answered += requests.load(service.port, CONNECTIONS, 2)?.requests;
    }
    let pid = service.server.pid();
    let idle = memory(pid).context("the service is gone")?;
    let load = requests.load_until_told(service.port, CONNECTIONS)?;
    rest(Duration::from_secs(1));

    let (mut took, mut memories) = (Vec::new(), vec![(0, memory(pid).context("the service is gone")?)]);
    for turn in 1..=count {
        let started = Instant::now();
        point(dir.path(), if turn % 2 == 0 { "a" } else { "b" })?;
        wait_for_reload(&reloads)?;
        took.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        if turn % (count / 20) == 0 {
            memories.push((turn, memory(pid).context("the service is gone")?));
        }
    }
    let seen = load.end()?;
    report(&mut section, idle, &memories, &mut took, count);
    let lost = seen.not_ok + seen.broken;
    section.note(format!(
        "Meanwhile {} requests were answered, {} a second over {CONNECTIONS} connections, p99 {:.2} ms, the longest \
         {:.1} ms; {lost} were lost.",
        number(seen.requests as f64, 0),
        number(seen.per_second(), 0),
        seen.p99_us / 1e3,
        seen.max_us / 1e3
    ));
    section.goal(format!("{count} reloads under load lose no request"), format!("{lost} lost"), lost == 0);
    section.keep("load", seen);
    Ok(section)
}

fn report(section: &mut Section, idle: Memory, memories: &[(usize, Memory)], took: &mut [u32], count: usize) {
    let mib = |kib: u64| number(kib as f64 / 1024.0, 1);
    let base = memories.first().map_or(0, |(_, memory)| memory.rss);
    let growth = |rss: u64, base: u64| (rss as f64 / base.max(1) as f64 - 1.0) * 100.0;
    let table = memories.iter().map(|(turn, memory)| {
        vec![turn.to_string(), mib(memory.rss), mib(memory.anonymous), format!("{:+.1} %", growth(memory.rss, base))]
    });
    section.table(
        "The service's memory:",
        &["reloads", "RSS MiB", "of it heap and stacks MiB", "RSS since 0"],
        table.collect(),
    );
    let last = memories.last().map_or(0, |(_, memory)| memory.rss);
    let tenth = memories.iter().find(|(turn, _)| *turn >= count / 10).map_or(base, |(_, memory)| memory.rss);
    let (whole, later) = (growth(last, base), growth(last, tenth));
    section.goal(format!("{count} reloads grow RSS by less than 2 %"), format!("{whole:+.1} %"), whole < 2.0);
    section.note(format!("From reload {} to the last, RSS changed by {later:+.1} %.", count / 10));
    section.note(format!(
        "One reload, from the rename to the log's line that it is done: median {:.1} ms, 99 % {:.1} ms.",
        quantile(took, 0.5) / 1e3,
        quantile(took, 0.99) / 1e3
    ));
    section.note(format!("After {WARMING} requests, before any reload and without load: {} MiB.", mib(idle.rss)));
    section.keep("memory_kib", memories);
    section.keep("growth_percent", json!({ "from_0": whole, "from_a_tenth": later }));
}

fn wait_for_reload(log: &Receiver<String>) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let line = log
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .context("the service did not take the changed model in")?;
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if line["message"] != "the model repository has changed" {
            continue;
        }
        anyhow::ensure!(line["faults"] == 0, "a reload failed: {line}");
        if line["loaded"].as_str().is_some_and(|loaded| loaded.contains(MODEL)) {
            return Ok(());
        }
    }
}

/// Copies the task, and puts its model behind a link to one of two copies.
fn prepare(models: &Path, dir: &Path) -> anyhow::Result<()> {
    let task = dir.join("models").join(TASK);
    copy(&models.join(TASK), &task)?;
    for (name, comment) in [("a", "one"), ("b", "another")] {
        let own = dir.join(name);
        copy(&models.join(TASK).join(MODEL), &own)?;
        let (file, facts) = (own.join("1/model.onnx"), own.join("model.toml"));
        let mut model = std::fs::read(&file)?;
        let before = sha256(&model);
        // Field 6 of onnx.ModelProto is its `doc_string`; of a field that is there twice, the last one holds.
        model.extend([0x32, u8::try_from(comment.len())?]);
        model.extend(comment.bytes());
        std::fs::write(&file, &model)?;
        let text = std::fs::read_to_string(&facts)?;
        anyhow::ensure!(text.contains(&before), "{} does not have the file's digest", facts.display());
        std::fs::write(&facts, text.replace(&before, &sha256(&model)))?;
    }
    std::fs::remove_dir_all(task.join(MODEL))?;
    point(dir, "a")
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the model's folder one of the two, in one step.
fn point(dir: &Path, name: &str) -> anyhow::Result<()> {
    let (new, link) = (dir.join("new"), dir.join("models").join(TASK).join(MODEL));
    std::os::unix::fs::symlink(dir.join(name), &new)?;
    Ok(std::fs::rename(new, link)?)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, target) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
