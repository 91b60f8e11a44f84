//! The second level: rows in Redis, for all processes.
//!
//! Owns the connection and what to do when Redis is away; a value's format is `super::value`'s. It is only ever a
//! shortcut: a look takes at most `redis_timeout`, stores go on behind the answer, and nobody waits
//! for a connection to be made. A value that is not ours, or broken, counts as missing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::RedisError;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::circuit::Circuit;
use super::value::{LARGEST_VALUE_BYTES, decode, encode};
use super::{CacheConfig, Clock, Key, Row};
use crate::queue::link::{Address, Dialer, Raw};

/// Stores under way at once; further rows are not stored.
const STORES_AT_ONCE: usize = 256;
/// How long a new connection may take, until its first answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The second level; cheap to clone.
#[derive(Clone)]
pub(super) struct Remote(Arc<Inner>);

struct Inner {
    dialer: Dialer,
    prefix: String,
    ttl_ms: u64,
    timeout: Duration,
    clock: Clock,
    tasks: TaskTracker,
    link: Mutex<Link>,
    stores: Arc<Semaphore>,
    hits: AtomicU64,
    errors: AtomicU64,
}

/// The connection in use, with its number, and whether to use it.
struct Link {
    circuit: Circuit,
    connection: Option<(u64, Raw)>,
}

/// Why Redis gave nothing.
enum Trouble {
    TimedOut,
    Redis(RedisError),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Redis(error) => error.fmt(f),
        }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a password.
        f.debug_struct("Remote").field("prefix", &self.0.prefix).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Remote {
    /// Prepares the level and begins to connect.
    pub(super) fn open(config: &CacheConfig, tasks: &TaskTracker, clock: Clock) -> Result<Self, String> {
        let address = Address::parse(&config.redis_url).map_err(|fault| fault.to_string())?;
        let dialer = Dialer::new(&address, config.redis_timeout)
            .map_err(|error| format!("REDIS_URL cannot be used for the cache: {error}"))?;
        let remote = Self(Arc::new(Inner {
            dialer,
            prefix: config.prefix.clone(),
            ttl_ms: u64::try_from(config.ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX.unsigned_abs()),
            timeout: config.redis_timeout,
            clock,
            tasks: tasks.clone(),
            link: Mutex::new(Link { circuit: Circuit::new(), connection: None }),
            stores: Arc::new(Semaphore::new(STORES_AT_ONCE)),
            hits: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }));
        drop(remote.connection());
        Ok(remote)
    }

    pub(super) fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.0.errors.load(Ordering::Relaxed)
    }

    pub(super) fn is_up(&self) -> bool {
        self.link().circuit.is_up()
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn redis_key(&self, key: &Key) -> String {
        format!("{}:cache:{}", self.0.prefix, key.hex())
    }

    /// The row and how much longer it lives.
    pub(super) async fn get(&self, key: &Key) -> Option<(Row, Duration)> {
        let (generation, mut connection) = self.connection()?;
        let mut look = redis::pipe();
        let name = self.redis_key(key);
        // A range and not the whole: whatever lies there, no more than a row can be is read.
        look.getrange(&name, 0, LARGEST_VALUE_BYTES).pttl(&name);
        let asked = look.query_async::<(Vec<u8>, i64)>(&mut connection);
        let (value, left) = match self.within_timeout(asked).await {
            Ok(found) => found,
            Err(trouble) => {
                self.judge(generation, &trouble);
                return None;
            }
        };
        if value.is_empty() {
            return None;
        }
        let Some(row) = decode(key, &value) else {
            self.0.errors.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                key = name,
                bytes = value.len(),
                "a cached value in redis cannot be read; it counts as none"
            );
            return None;
        };
        self.0.hits.fetch_add(1, Ordering::Relaxed);
        // Negative: it has no end, or ended between the two commands.
        let left = u64::try_from(left).unwrap_or(0);
        Some((row, Duration::from_millis(left)))
    }

    /// Stores a row behind the answer; a row too many at once is not stored.
    pub(super) fn put(&self, key: &Key, row: &Row) {
        let Ok(permit) = Arc::clone(&self.0.stores).try_acquire_owned() else { return };
        let Some((generation, mut connection)) = self.connection() else { return };
        let mut store = redis::cmd("SET");
        store.arg(self.redis_key(key)).arg(encode(key, row)).arg("PX").arg(self.0.ttl_ms);
        let remote = self.clone();
        self.0.tasks.spawn(async move {
            let stored = remote.within_timeout(store.exec_async(&mut connection)).await;
            if let Err(trouble) = stored {
                remote.judge(generation, &trouble);
            }
            drop(permit);
        });
    }

    async fn within_timeout<T>(&self, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.0.timeout, asked).await {
            Ok(answer) => answer.map_err(Trouble::Redis),
            Err(_) => Err(Trouble::TimedOut),
        }
    }

    /// The connection in use; where there is none and it is time, a new one is begun behind the request.
    fn connection(&self) -> Option<(u64, Raw)> {
        let mut link = self.link();
        if let Some(connection) = &link.connection {
            return Some(connection.clone());
        }
        if link.circuit.may_repair((self.0.clock)()) {
            drop(link);
            let remote = self.clone();
            self.0.tasks.spawn(async move { remote.repair().await });
        }
        None
    }

    async fn repair(&self) {
        let made = async {
            let mut connection = self.0.dialer.dial().await?;
            // A connection alone says little: Redis may be loading, or want a password.
            redis::cmd("GET").arg(format!("{}:cache:ready", self.0.prefix)).exec_async(&mut connection).await?;
            Ok::<_, RedisError>(connection)
        };
        let made = tokio::time::timeout(CONNECT_TIMEOUT, made).await;
        let now = (self.0.clock)();
        let mut link = self.link();
        match made {
            Ok(Ok(connection)) => {
                let generation = link.circuit.repaired(now);
                link.connection = Some((generation, connection));
                drop(link);
                tracing::info!("the cache uses redis");
            }
            Ok(Err(error)) => self.not_repaired(link, now, &Trouble::Redis(error)),
            Err(_) => self.not_repaired(link, now, &Trouble::TimedOut),
        }
    }

    fn not_repaired(&self, mut link: MutexGuard<'_, Link>, now: u64, trouble: &Trouble) {
        let first = link.circuit.repair_failed(now);
        drop(link);
        self.0.errors.fetch_add(1, Ordering::Relaxed);
        if first {
            tracing::warn!(error = %trouble, "redis cannot be reached; the cache works in memory only");
        }
    }

    /// Counts a failed command; gives the connection up where the next command would fail as well.
    fn judge(&self, generation: u64, trouble: &Trouble) {
        self.0.errors.fetch_add(1, Ordering::Relaxed);
        // What concerns one value, or writing alone, says nothing about the next look.
        if let Trouble::Redis(error) = trouble
            && is_passing(error)
        {
            tracing::debug!(%error, "redis refused a command of the cache");
            return;
        }
        let mut link = self.link();
        if link.circuit.failed(generation, (self.0.clock)()) {
            link.connection = None;
            drop(link);
            tracing::warn!(error = %trouble, "redis does not answer; the cache works in memory only");
        }
    }
}

/// Did Redis answer, and refuse this one command only?
fn is_passing(error: &RedisError) -> bool {
    let refused = error.clone().into_server_errors();
    refused.is_some_and(|all| all.iter().all(|(_, one)| matches!(one.code(), "WRONGTYPE" | "OOM" | "MISCONF")))
}
