//! Accepting connections within bounds: how many, how long a head may take, how long a drain.
//!
//! The framework's own loop sets no timer, so a sender of half a head would hold its connection,
//! and every shutdown, for as long as it likes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Pause after a failed accept: out of file descriptors, the next one fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long what was sent may stay unread; then the connection is cut.
const UNREAD_LIMIT: Duration = Duration::from_secs(60);

/// Serves until `shutdown`; then open requests may end within the drain timeout, and what is left is cut.
pub async fn serve(listener: TcpListener, router: Router, app: &App, shutdown: &CancellationToken) {
    let config = &app.config.http;
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(config.header_timeout);
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(config.max_connections));
    let mut connections = JoinSet::new();
    while let Some(stream) = accept(&listener, &permits, shutdown).await {
        let (stream, permit) = stream;
        // Answers are small and written whole: waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY on a connection");
        }
        unwritten_limit(&stream);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        let counted = app.metrics.connection();
        connections.spawn(async move {
            // How a connection ended is its caller's business: the answers are logged.
            drop(connection.await);
            drop((permit, counted));
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(config.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections still open at DRAIN_TIMEOUT_MS are cut");
    }
    connections.shutdown().await;
}

/// A caller that stops reading must not hold its connection, and what it asked for, for ever.
fn unwritten_limit(stream: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD_LIMIT)) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT on a connection");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (stream, UNREAD_LIMIT);
}

/// The next connection and its place among the open ones; none once the service is to end.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let accepting = async {
        // Closed never: the semaphore lives as long as the loop.
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accepting).await.flatten()
}
