//! `infer-router serve`: from the configuration to a running service, and to its orderly end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::cache::Cache;
use crate::config::Config;
use crate::decisions::log;
use crate::doctor::preflight::{self, Preflight};
use crate::engine::{Engine, watch};
use crate::learning::answers;
use crate::queue;
use crate::routing::feed;
use crate::webhook::{self, Webhooks};
use crate::{consumer, http};

/// Runs the service until `shutdown` is cancelled and what was under way has ended.
///
/// # Errors
/// What keeps it from starting, each with the setting to change.
pub async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let address = SocketAddr::new(config.http.host, config.http.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; set API_HOST and API_PORT to a free address"))?;
    let preflight = preflight::at_start(&config.queue).await?;
    let engine_tasks = TaskTracker::new();
    let tasks = TaskTracker::new();
    let cache = Cache::open(&config.cache, &tasks).map_err(anyhow::Error::msg)?;
    let engine = Arc::new(Engine::load(&config.models, &engine_tasks).await?);
    let watchdog = watch::start_watchdog(Arc::clone(&engine)).context("the watchdog's thread cannot be started")?;
    let queue = queue::open(&config.queue).context("the queue cannot be opened; see REDIS_URL and QUEUE_FILE")?;
    let webhooks = Webhooks::new(&config.webhook).map_err(anyhow::Error::msg)?;
    let app = App::new(config, engine, queue, webhooks, cache);
    let log = log::Writer::start(&app)?;
    if let Err(error) = feed::refresh(&app).await {
        tracing::warn!(%error, "the queue cannot be used at start; /data answers 503 until it can");
    }

    if preflight == Preflight::Away {
        tasks.spawn(preflight::when_back(app.clone(), shutdown.clone()));
    }
    start(&tasks, &shutdown, "snapshot feed", feed::run(app.clone(), shutdown.clone()));
    start(&tasks, &shutdown, "answers for labels", answers::run(app.clone(), shutdown.clone()));
    start(&tasks, &shutdown, "model watch", keep_models(app.clone(), shutdown.clone()));
    if app.config.role.consumes() {
        start(&tasks, &shutdown, "consumers", consume_all(app.clone(), tasks.clone(), shutdown.clone()));
        start(&tasks, &shutdown, "webhooks", webhook::run(app.clone(), shutdown.clone()));
    }
    tasks.close();
    let bound = listener.local_addr().context("the listener has no address")?;
    tracing::info!(address = %bound, role = ?app.config.role, models = app.engine.index().versions().count(), "ready");

    let closing = CancellationToken::new();
    let drain_notice = async {
        shutdown.cancelled().await;
        app.start_draining();
        tracing::info!("draining: not ready any more; what is under way is finished");
        // Whoever sends requests here learns first that this process is not ready.
        tokio::time::sleep(app.config.http.drain_delay).await;
        closing.cancel();
    };
    let served = http::listener::serve(listener, http::router(app.clone()), &app, &closing);
    tokio::join!(drain_notice, served);

    let limit = app.config.http.drain_timeout.max(Duration::from_secs(1));
    app.calls.close();
    let under_way = async { tokio::join!(tasks.wait(), app.calls.wait()) };
    if tokio::time::timeout(limit, under_way).await.is_err() {
        tracing::warn!("jobs still running at DRAIN_TIMEOUT_MS come back after their lease");
    }
    log.close(limit).await;
    if tokio::time::timeout(limit, app.engine.shut_down(&engine_tasks)).await.is_err() {
        tracing::warn!("a model still runs at DRAIN_TIMEOUT_MS; its answer is lost, its job is not");
    }
    drop(watchdog);
    tracing::info!("stopped");
    Ok(())
}

/// Starts a part that must run until shutdown; if it ends before, the whole process does: half a service that looks
/// ready helps nobody.
fn start(
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    name: &'static str,
    part: impl Future<Output = ()> + Send + 'static,
) {
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        let panicked = AssertUnwindSafe(part).catch_unwind().await.is_err();
        if !shutdown.is_cancelled() {
            tracing::error!(part = name, panicked, "a part of the service ended; the process stops");
            shutdown.cancel();
        }
    });
}

/// Looks after the model repository and the models in memory.
async fn keep_models(app: App, shutdown: CancellationToken) {
    tokio::join!(watch::poll_repository(&app.engine, &shutdown), watch::evict_idle(&app.engine, &shutdown));
}

/// One consumer for each task that takes readings, also for tasks that come later.
async fn consume_all(app: App, tasks: TaskTracker, shutdown: CancellationToken) {
    let mut changes = app.engine.changes();
    let mut consumed = BTreeSet::new();
    loop {
        for task in &app.engine.catalog().tasks {
            if consumed.insert(task.schema.name.clone()) {
                let consumer = consumer::run(app.clone(), task.schema.name.clone(), shutdown.clone());
                start(&tasks, &shutdown, "consumer", consumer);
            }
        }
        match shutdown.run_until_cancelled(changes.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Cancels the token at the first SIGTERM or Ctrl-C.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn on_signal(tasks: &TaskTracker, shutdown: CancellationToken) -> anyhow::Result<()> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tasks.spawn(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        drop(tokio::signal::ctrl_c().await);
        shutdown.cancel();
    });
    Ok(())
}
