//! A repository that changes while it is served: nothing that is served is disturbed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared::reading::Input;
use tokio_util::task::TaskTracker;
use worker_native::engine::{Engine, PoolError, VersionState};

use super::{config, sample};
use crate::support::root;

/// A copy of the pump's models that a test may change.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-r").arg(root().join("models/pump-anomaly")).arg(dir.path()).status();
        assert!(copied.unwrap().success());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn model(&self, model: &str) -> PathBuf {
        self.path().join("pump-anomaly").join(model)
    }

    /// Changes a model.toml.
    fn edit(&self, model: &str, from: &str, to: &str) {
        let path = self.model(model).join("model.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        // As a person's editor does it: whole or not at all.
        fs::write(path.with_extension("new"), text.replace(from, to)).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
}

async fn engine(copy: &Copy, settings: &[(&str, &str)]) -> (Arc<Engine>, TaskTracker) {
    let tasks = TaskTracker::new();
    (Arc::new(Engine::load(&config(copy.path(), settings), &tasks).await.unwrap()), tasks)
}

fn reading() -> Input {
    Input::Features(sample("pump-anomaly", "lof"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_model_is_told_and_the_others_serve() {
    let copy = Copy::new();
    let file = copy.model("lof").join("1/model.onnx");
    fs::write(&file, &fs::read(&file).unwrap()[..1_000]).unwrap();
    let (engine, tasks) = engine(&copy, &[]).await;
    let index = engine.index();
    assert!(
        index.faults.iter().any(|fault| fault.contains("sha256") && fault.contains("lof/1/model.onnx")),
        "{:?}",
        index.faults
    );
    assert!(engine.version("pump-anomaly", "lof", 1).is_none());
    let other = engine.version("pump-anomaly", "isolation_forest", 1).unwrap();
    assert!(other.predict(&reading(), None).await.is_ok());
    assert_eq!(engine.catalog().tasks[0].models.len(), 2);
    engine.shut_down(&tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_in_version_serves_and_a_broken_change_leaves_the_old_one() {
    let copy = Copy::new();
    let (engine, tasks) = engine(&copy, &[]).await;
    let before = engine.version("pump-anomaly", "lof", 1).unwrap();
    fs::create_dir(copy.model("lof").join("2")).unwrap();
    fs::copy(copy.model("lof").join("1/model.onnx"), copy.model("lof").join("2/model.onnx")).unwrap();
    let sha256 = &before.card().sha256;
    copy.edit("lof", "[versions.1]", &format!("[versions.2]\nsha256 = \"{sha256}\"\n\n[versions.1]"));
    let report = engine.reload().await;
    assert_eq!(
        (report.loaded.as_slice(), report.faults.as_slice()),
        ([String::from("pump-anomaly.lof v2")].as_slice(), [].as_slice())
    );
    let second = engine.version("pump-anomaly", "lof", 2).unwrap();
    assert_eq!(
        second.predict(&reading(), None).await.unwrap().score,
        before.predict(&reading(), None).await.unwrap().score
    );
    assert!(Arc::ptr_eq(&before, &engine.version("pump-anomaly", "lof", 1).unwrap()), "what did not change stays");

    copy.edit("lof", "kind = \"score\"", "kind = \"probabilities\"");
    let report = engine.reload().await;
    assert!(report.faults.iter().any(|fault| fault.contains("lof/model.toml")), "{report:?}");
    assert!(
        engine.version("pump-anomaly", "lof", 2).unwrap().predict(&reading(), None).await.is_ok(),
        "the old one serves"
    );

    fs::remove_dir_all(copy.model("lof")).unwrap();
    let report = engine.reload().await;
    assert_eq!(report.removed, ["pump-anomaly.lof v1", "pump-anomaly.lof v2"]);
    assert!(engine.version("pump-anomaly", "lof", 1).is_none());
    assert!(matches!(before.predict(&reading(), None).await, Err(PoolError::Unavailable(_))));
    engine.shut_down(&tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_in_the_build_is_refused_aloud() {
    let copy = Copy::new();
    copy.edit("lof", "type = \"sklearn\"", "type = \"sklearn\"\nprovider = \"openvino\"");
    let (engine, tasks) = engine(&copy, &[]).await;
    let faults = engine.index().faults.join("\n");
    assert!(faults.contains("pump-anomaly.lof v1") && faults.contains("openvino"), "{faults}");
    assert!(engine.version("pump-anomaly", "lof", 1).is_none(), "never silently on the processor");
    engine.shut_down(&tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_model_is_loaded_once_by_many_and_leaves_when_unused() {
    let copy = Copy::new();
    let (engine, tasks) = engine(&copy, &[("LOAD_ALL_MODELS", "false"), ("MODEL_IDLE_SECONDS", "1")]).await;
    let version = engine.version("pump-anomaly", "lof", 1).unwrap();
    assert_eq!(version.state().state, VersionState::Unloaded);
    assert!(version.is_servable() && !version.is_ready());
    let reading = reading();
    let many = (0..50).map(|_| version.predict(&reading, None));
    for answer in futures_util::future::join_all(many).await {
        answer.unwrap();
    }
    let pool = version.pool().unwrap();
    assert_eq!(pool.view().stats.rows, 50, "all went to one pool");
    engine.evict_idle();
    assert!(version.is_ready(), "it was just used");
    crate::support::until("the eviction", || {
        engine.evict_idle();
        let gone = (!version.is_ready()).then_some(());
        async move { gone }
    })
    .await;
    assert!(version.predict(&reading, None).await.is_ok(), "it comes back");
    engine.unload_public("lof", None).unwrap();
    assert!(
        matches!(version.predict(&reading, None).await, Err(PoolError::Unavailable(_))),
        "taken away by hand it does not"
    );
    engine.load_public("pump-anomaly.lof", Some(1)).await.unwrap();
    assert!(version.predict(&reading, None).await.is_ok());
    engine.shut_down(&tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_no_request() {
    let copy = Copy::new();
    let (engine, tasks) = engine(&copy, &[("MODEL_SESSIONS", "1")]).await;
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers = TaskTracker::new();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (engine, answered, stop) = (Arc::clone(&engine), Arc::clone(&answered), Arc::clone(&stop));
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let version = engine.version("pump-anomaly", "isolation_forest", 1).unwrap();
                    let deadline = Instant::now() + Duration::from_secs(20);
                    version.predict(&reading(), Some(deadline)).await.expect("no request is lost");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut slopes = ["slope = 15.4864", "slope = 15.5"].into_iter().cycle();
    let mut from = slopes.next().unwrap();
    for _ in 0..20 {
        let to = slopes.next().unwrap();
        copy.edit("isolation_forest", from, to);
        from = to;
        assert_eq!(engine.reload().await.loaded, ["pump-anomaly.isolation_forest v1"]);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 20);
    engine.shut_down(&tasks).await;
}
