//! TCP proxies before Redis: one holds a command back, so that a test can act in between, one cuts answers off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Passes everything on, until a client sends `word`: that and all that follows on its connection is kept back.
#[derive(Debug)]
pub(crate) struct HoldingProxy {
    pub(crate) port: u16,
    held: Arc<AtomicBool>,
    free: CancellationToken,
    _tasks: JoinSet<()>,
}

impl HoldingProxy {
    pub(crate) async fn start(redis_port: u16, word: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (held, free) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let (seen, gate) = (Arc::clone(&held), free.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, redis_port, word, Arc::clone(&seen), gate.clone()));
            }
        });
        Self { port, held, free, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Has a command been kept back?
    pub(crate) fn has_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Passes on what was kept back, and from now on everything.
    pub(crate) fn let_go(&self) {
        self.free.cancel();
    }
}

async fn pass(client: TcpStream, redis_port: u16, word: &str, held: Arc<AtomicBool>, free: CancellationToken) {
    let redis = TcpStream::connect(("127.0.0.1", redis_port)).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_redis, mut to_redis) = redis.into_split();
    let up = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            let bytes = &buffer[..length];
            if has(bytes, word) {
                held.store(true, Ordering::SeqCst);
                free.cancelled().await;
            }
            if to_redis.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async { drop(tokio::io::copy(&mut from_redis, &mut to_client).await) };
    tokio::select! { () = up => {}, () = down => {} }
}

/// Passes everything on, until a client sends `word`: the answer to every so-manieth of these is cut off in its middle,
/// and the connection with it.
#[derive(Debug)]
pub(crate) struct CuttingProxy {
    pub(crate) port: u16,
    seen: Arc<Cuts>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Cuts {
    redis_port: u16,
    word: &'static str,
    every: usize,
    commands: AtomicUsize,
    cuts: AtomicUsize,
}

impl CuttingProxy {
    pub(crate) async fn start(redis_port: u16, word: &'static str, every: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Cuts { redis_port, word, every, commands: AtomicUsize::new(0), cuts: AtomicUsize::new(0) };
        let seen = Arc::new(cuts);
        let mut tasks = JoinSet::new();
        let cuts = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass_or_cut(client, Arc::clone(&cuts)));
            }
        });
        Self { port, seen, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Answers that were cut off so far.
    pub(crate) fn cuts(&self) -> usize {
        self.seen.cuts.load(Ordering::SeqCst)
    }
}

async fn pass_or_cut(mut client: TcpStream, cuts: Arc<Cuts>) {
    // A restarted server may not be there yet.
    let Ok(mut redis) = TcpStream::connect(("127.0.0.1", cuts.redis_port)).await else { return };
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut doomed = false;
    loop {
        tokio::select! {
            read = client.read(&mut up), if !doomed => {
                let Ok(length @ 1..) = read else { return };
                if has(&up[..length], cuts.word) {
                    doomed = cuts.commands.fetch_add(1, Ordering::SeqCst) % cuts.every == cuts.every - 1;
                }
                if redis.write_all(&up[..length]).await.is_err() {
                    return;
                }
            }
            read = redis.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                let passed = if doomed { length / 2 } else { length };
                if client.write_all(&down[..passed]).await.is_err() {
                    return;
                }
                if doomed {
                    cuts.cuts.fetch_add(1, Ordering::SeqCst);
                    drop(client);
                    // Redis must not notice before it has run what was sent.
                    let ended = redis.shutdown().await;
                    while ended.is_ok() && matches!(redis.read(&mut down).await, Ok(1..)) {}
                    return;
                }
            }
        }
    }
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}
