//! What goes on beside serving: the repository is looked at again, hanging runs and unused models are looked after.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio_util::sync::CancellationToken;

use super::Engine;

/// How often runs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often unused models are looked for.
const EVICT_EVERY: Duration = Duration::from_secs(1);

/// Looks at the repository every `MODEL_POLL_MS`, until shutdown; never where that is 0.
pub async fn poll_repository(engine: &Engine, shutdown: &CancellationToken) {
    let Some(every) = engine.loader.config.poll else {
        return shutdown.cancelled().await;
    };
    let dir = engine.loader.config.dir.clone();
    let mut seen = engine.seen.clone();
    while shutdown.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let now = look(dir.clone()).await;
        if now != seen {
            seen = now;
            let report = engine.reload().await;
            tracing::info!(
                loaded = report.loaded.join(", "),
                removed = report.removed.join(", "),
                unchanged = report.unchanged,
                faults = report.faults.len(),
                "the model repository has changed"
            );
        }
    }
}

/// Unloads what nobody uses, until shutdown.
pub async fn evict_idle(engine: &Engine, shutdown: &CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(EVICT_EVERY)).await.is_some() {
        engine.evict_idle();
    }
}

/// Names, sizes and times of the files that matter: what changes when something is dropped in.
pub(super) type Seen = Vec<(PathBuf, u64, Option<SystemTime>)>;

async fn look(dir: PathBuf) -> Seen {
    tokio::task::spawn_blocking(move || look_now(&dir)).await.unwrap_or_default()
}

/// Looks at the repository; blocks.
pub(super) fn look_now(dir: &Path) -> Seen {
    let mut found = Vec::new();
    // <task>/<model>/<version>/<file>
    walk(dir, 3, &mut found);
    found.sort();
    found
}

fn walk(dir: &Path, depth: usize, found: &mut Seen) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            if depth > 0 {
                walk(&path, depth - 1, found);
            }
        } else if path.extension().is_some_and(|kind| kind == "toml" || kind == "onnx" || kind == "json")
            && let Ok(facts) = path.metadata()
        {
            found.push((path, facts.len(), facts.modified().ok()));
        }
    }
}

/// Ends the watchdog's thread when dropped.
#[derive(Debug)]
pub struct Watchdog(#[expect(dead_code, reason = "its end is the signal")] Sender<()>);

/// Starts the thread that looks after hanging runs: the async runtime may be what hangs.
///
/// # Errors
/// When no thread can be started.
pub fn start_watchdog(engine: Arc<Engine>) -> std::io::Result<Watchdog> {
    let (sender, receiver) = crossbeam_channel::bounded(0);
    let handle = tokio::runtime::Handle::current();
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        let _runtime = handle.enter();
        watch(&engine, &receiver);
    })?;
    Ok(Watchdog(sender))
}

fn watch(engine: &Engine, end: &Receiver<()>) {
    while end.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (now, mut held) = (Instant::now(), false);
        for pool in engine.loader.living_pools() {
            pool.look_after(now, engine.loader.config.max_run);
            held |= pool.holds_runtime();
        }
        if held {
            // The thread that a run holds may be the one that waited for the network and the clock: without work from
            // outside, the runtime's other threads sleep on.
            drop(engine.loader.tasks.spawn(async {}));
        }
    }
}
