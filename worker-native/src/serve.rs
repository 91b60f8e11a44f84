//! `infer-router serve`: from the configuration to a running service, and to its orderly end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::config::Config;
use crate::engine::Engine;
use crate::queue::RedisQueue;
use crate::routing::feed;
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
    let engine_tasks = TaskTracker::new();
    let engine = load_engine(&config, &engine_tasks).await?;
    let queue = RedisQueue::open(&config.queue).context("REDIS_URL cannot be used")?;
    let app = App::new(config, engine, queue);
    if let Err(error) = feed::refresh(&app).await {
        tracing::warn!(%error, "redis cannot be used at start; /data answers 503 until it can");
    }

    let tasks = TaskTracker::new();
    tasks.spawn(feed::run(app.clone(), shutdown.clone()));
    if app.config.role.consumes() {
        for task in &app.engine.catalog().tasks {
            tasks.spawn(consumer::run(app.clone(), task.schema.name.clone(), shutdown.clone()));
        }
    }
    tasks.close();
    let bound = listener.local_addr().context("the listener has no address")?;
    tracing::info!(address = %bound, role = ?app.config.role, models = app.engine.pools().len(), "ready");

    let draining = app.clone();
    let stopped = shutdown.clone();
    let server = axum::serve(listener, http::router(app.clone())).with_graceful_shutdown(async move {
        stopped.cancelled().await;
        draining.start_draining();
        tracing::info!("draining: no new connections, what is under way is finished");
    });
    let limit = app.config.http.drain_timeout;
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        served = server => served.context("the HTTP server failed")?,
        () = drained => tracing::warn!("connections still open at DRAIN_TIMEOUT_MS are cut"),
    }
    // The server only returns on shutdown, but an early error path must stop the rest as well.
    shutdown.cancel();
    if tokio::time::timeout(limit.max(Duration::from_secs(1)), tasks.wait()).await.is_err() {
        tracing::warn!("jobs still running at DRAIN_TIMEOUT_MS come back after their lease");
    }
    app.engine.shut_down(&engine_tasks).await;
    tracing::info!("stopped");
    Ok(())
}

async fn load_engine(config: &Config, tasks: &TaskTracker) -> anyhow::Result<Engine> {
    let (models, tasks) = (config.models.clone(), tasks.clone());
    let handle = tokio::runtime::Handle::current();
    // Loading blocks for as long as the models are large.
    let loaded = tokio::task::spawn_blocking(move || {
        let _runtime = handle.enter();
        Engine::load(&models, &tasks, &|pool| {
            let (reading, warm_up) = (pool.reading(), pool.warm_up);
            tracing::info!(
                task = %reading.task, model = %reading.model, version = reading.version, tier = reading.tier,
                load_ms = millis(warm_up.load), largest_batch_ms = millis(warm_up.largest_batch),
                own_threads = warm_up.own_threads, "model loaded"
            );
        })
    })
    .await
    .context("loading the models was interrupted")?;
    Ok(loaded?)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
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
