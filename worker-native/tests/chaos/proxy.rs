//! A TCP proxy before Redis that cuts connections in the middle of what they carry, at random and by a seed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What is to happen to one connection.
#[derive(Debug, Default)]
struct Fate {
    /// The next bytes to Redis are cut short, and the connection with them.
    cut_up: AtomicBool,
    /// The next bytes from Redis: what they answer was done, and nobody hears of it.
    cut_down: AtomicBool,
    gone: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct CuttingProxy {
    port: u16,
    seed: u64,
    fates: Arc<Mutex<Vec<Arc<Fate>>>>,
    _tasks: JoinSet<()>,
}

impl CuttingProxy {
    pub(crate) fn start(redis_port: u16, seed: u64) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let fates: Arc<Mutex<Vec<Arc<Fate>>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let all = Arc::clone(&fates);
        tasks.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let fate = Arc::new(Fate::default());
                all.lock().unwrap().push(Arc::clone(&fate));
                connections.spawn(async move {
                    pass(client, redis_port, &fate).await;
                    fate.gone.store(true, Ordering::SeqCst);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, seed, fates, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts some connection about so often, until it is over; gives how many.
    pub(crate) fn cut(&self, every: Duration, over: Arc<AtomicBool>) -> JoinSet<usize> {
        let (fates, mut random) = (Arc::clone(&self.fates), fastrand::Rng::with_seed(self.seed));
        JoinSet::from_iter([async move {
            let mut marked: Vec<Arc<Fate>> = Vec::new();
            while !over.load(Ordering::SeqCst) {
                tokio::time::sleep(every.mul_f64(0.5 + random.f64())).await;
                let mut alive = fates.lock().unwrap();
                alive.retain(|fate| !fate.gone.load(Ordering::SeqCst));
                if let Some(fate) = random.choice(alive.iter()) {
                    let way = if random.bool() { &fate.cut_up } else { &fate.cut_down };
                    if !way.swap(true, Ordering::SeqCst) {
                        marked.push(Arc::clone(fate));
                    }
                }
            }
            for fate in fates.lock().unwrap().iter() {
                fate.cut_up.store(false, Ordering::SeqCst);
                fate.cut_down.store(false, Ordering::SeqCst);
            }
            marked.iter().filter(|fate| fate.gone.load(Ordering::SeqCst)).count()
        }])
    }
}

async fn pass(client: TcpStream, redis_port: u16, fate: &Fate) {
    // While Redis is down there is nobody to pass anything to.
    let Ok(redis) = TcpStream::connect(("127.0.0.1", redis_port)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_redis, to_redis) = redis.into_split();
    tokio::select! {
        () = one_way(from_client, to_redis, &fate.cut_up) => {}
        () = one_way(from_redis, to_client, &fate.cut_down) => {}
    }
}

/// Passes on until an end closes or the cut comes: then half of what there is.
async fn one_way(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, cut: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let is_cut = cut.load(Ordering::SeqCst);
        let length = if is_cut { length / 2 } else { length };
        if to.write_all(&buffer[..length]).await.is_err() || is_cut {
            return;
        }
    }
}
