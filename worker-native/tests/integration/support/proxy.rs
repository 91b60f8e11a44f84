//! A TCP proxy before Redis that holds back one command, so that a test can act in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes everything on, until a client sends `word`: that and all that follows on its connection is kept back.
#[derive(Debug)]
pub(crate) struct HoldingProxy {
    pub(crate) port: u16,
    held: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl HoldingProxy {
    pub(crate) async fn start(redis_port: u16, word: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let held = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&held);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, redis_port, word, Arc::clone(&seen)));
            }
        });
        Self { port, held, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Has a command been kept back?
    pub(crate) fn has_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, redis_port: u16, word: &str, held: Arc<AtomicBool>) {
    let redis = TcpStream::connect(("127.0.0.1", redis_port)).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_redis, mut to_redis) = redis.into_split();
    let up = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let bytes = &buffer[..length];
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                held.store(true, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            if to_redis.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async { drop(tokio::io::copy(&mut from_redis, &mut to_client).await) };
    tokio::select! { () = up => {}, () = down => {} }
}
