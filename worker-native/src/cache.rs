//! Answers that were computed before: rows of model output, kept in memory and, where it pays, in Redis.
//!
//! Owns what a hit is, how long it lives, how much memory it takes, and that identical readings at
//! the same time run once. It keeps raw rows: what a row means is the model card's, and is read
//! again on every hit. It does not choose models and never fails a request: a Redis that is away
//! costs hits only. Keys carry the loaded file's hash, so a reloaded version meets none of its
//! predecessor's rows and nothing has to be purged.
//!
//! Memory is asked for every model: measured on a machine with two cores, a hit takes 0.3 us of
//! processor time and a miss adds 1.7 us, which is little beside a request over HTTP. Redis is asked
//! only where a run takes longer than asking.

mod circuit;
mod flight;
mod key;
mod memory;
mod remote;
mod value;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use crate::config::Secret;

pub use key::{Key, KeyBase, Part};

use flight::Flights;
use memory::Memory;
use remote::Remote;

/// One reading's row of model output, as the runtime gave it.
pub type Row = Arc<[f32]>;

/// Milliseconds on a clock that never goes back; tests bring their own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A row beyond this many bytes is answered and not kept.
const LARGEST_ROW_BYTES: usize = 1 << 20;

/// How many runs of one flight may fail before its followers stop waiting for each other.
const FAILURES_OF_A_FLIGHT: u32 = 2;

/// Where rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheBackend {
    /// In this process only.
    Memory,
    /// In this process, and in Redis for all processes.
    Redis,
    /// Nowhere: each reading runs.
    Off,
}

/// The response cache.
#[derive(Clone)]
pub struct CacheConfig {
    /// Where rows are kept.
    pub backend: CacheBackend,
    /// Rows kept in memory at most; at least 1.
    pub max_entries: u64,
    /// Bytes those rows may take, bookkeeping included; at least 1.
    pub max_bytes: u64,
    /// How long a row is served.
    pub ttl: Duration,
    /// Where Redis is; may hold a password.
    pub redis_url: Secret,
    /// First part of every Redis key.
    pub prefix: String,
    /// How long a look into Redis may take before the model is run instead.
    pub redis_timeout: Duration,
    /// Redis is asked for models whose run takes at least this long: below, running is quicker than asking.
    pub redis_worth: Duration,
}

impl std::fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheConfig")
            .field("backend", &self.backend)
            .field("max_entries", &self.max_entries)
            .field("max_bytes", &self.max_bytes)
            .field("ttl", &self.ttl)
            .field("prefix", &self.prefix)
            .field("redis_timeout", &self.redis_timeout)
            .field("redis_worth", &self.redis_worth)
            .finish_non_exhaustive()
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            backend: CacheBackend::Memory,
            max_entries: 10_000,
            max_bytes: 64 << 20,
            ttl: Duration::from_secs(60),
            redis_url: Secret::from("redis://127.0.0.1:6379".to_owned()),
            prefix: "ir".to_owned(),
            redis_timeout: Duration::from_millis(50),
            redis_worth: Duration::from_micros(500),
        }
    }
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// This request ran nothing: the row was kept, or an identical reading was just being run.
    Hit,
    /// This request ran the model.
    Miss,
    /// There is no cache.
    Off,
}

impl CacheStatus {
    /// The word for answers and headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Off => "OFF",
        }
    }
}

/// What the cache did since the start, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Hits in memory.
    pub memory_hits: u64,
    /// Hits in Redis.
    pub redis_hits: u64,
    /// Answers taken from an identical reading that was just being run.
    pub joined: u64,
    /// Runs of a model.
    pub misses: u64,
    /// Failed commands to Redis, and values there that could not be read.
    pub redis_errors: u64,
    /// Rows in memory; may lag behind by some hundred.
    pub entries: u64,
    /// Bytes of memory counted against the limit; a row counts at least `max_bytes / max_entries`.
    pub bytes: u64,
    /// Is Redis in use? None where it is not configured.
    pub redis_up: Option<bool>,
}

/// The cache; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache(Option<Arc<Levels>>);

#[derive(Debug)]
struct Levels {
    memory: Memory,
    remote: Option<Remote>,
    redis_worth: Duration,
    flights: Flights,
    memory_hits: AtomicU64,
    joined: AtomicU64,
    misses: AtomicU64,
}

impl Cache {
    /// No cache: each reading runs.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Prepares the cache. With Redis it begins to connect, on `tasks`, and answers from memory until it has; so it
    /// must be called on the async runtime.
    ///
    /// # Errors
    /// A message when the Redis URL cannot be used.
    pub fn open(config: &CacheConfig, tasks: &TaskTracker) -> Result<Self, String> {
        let start = Instant::now();
        let clock = move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Self::open_with_clock(config, tasks, Arc::new(clock))
    }

    /// As [`Cache::open`], on a clock of the caller's.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn open_with_clock(config: &CacheConfig, tasks: &TaskTracker, clock: Clock) -> Result<Self, String> {
        let remote = match config.backend {
            CacheBackend::Off => return Ok(Self::off()),
            CacheBackend::Memory => None,
            CacheBackend::Redis => Some(Remote::open(config, tasks, Arc::clone(&clock))?),
        };
        Ok(Self(Some(Arc::new(Levels {
            memory: Memory::new(config, clock),
            remote,
            redis_worth: config.redis_worth,
            flights: Flights::default(),
            memory_hits: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }))))
    }

    /// Is there a cache at all? Without one, callers need no key.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The row in memory, without waiting for anything.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Row> {
        let levels = self.0.as_ref()?;
        let row = levels.memory.get(key)?;
        levels.memory_hits.fetch_add(1, Ordering::Relaxed);
        Some(row)
    }

    /// The kept row, or that of `run`; of identical calls at the same time one runs, and the others take its row.
    ///
    /// `service` is what a run is expected to take; it decides whether Redis is asked. `run` must not start its work
    /// before it is polled: a follower never polls it. Where the running call fails, panics or is dropped, a waiting
    /// one runs instead; after two failures all that wait run by themselves. No call waits for a deadline but the
    /// caller's: drop the future when it passes.
    ///
    /// # Errors
    /// What this call's own `run` failed with; errors are not kept.
    pub async fn get_or_run<E>(
        &self,
        key: &Key,
        service: Duration,
        run: impl Future<Output = Result<Row, E>>,
    ) -> Result<(Row, CacheStatus), E> {
        let Some(levels) = &self.0 else {
            return run.await.map(|row| (row, CacheStatus::Off));
        };
        if let Some(row) = self.get(key) {
            return Ok((row, CacheStatus::Hit));
        }
        levels.run_once(key, service, run).await
    }

    /// What the cache did and holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let Some(levels) = &self.0 else { return CacheStats::default() };
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (entries, bytes) = levels.memory.size();
        let remote = levels.remote.as_ref();
        CacheStats {
            memory_hits: read(&levels.memory_hits),
            redis_hits: remote.map_or(0, Remote::hits),
            joined: read(&levels.joined),
            misses: read(&levels.misses),
            redis_errors: remote.map_or(0, Remote::errors),
            entries,
            bytes,
            redis_up: remote.map(Remote::is_up),
        }
    }
}

/// Why a flight gave no row to one that flew along.
enum NoRow<E> {
    /// Its own run failed.
    Failed(E),
    /// Too many runs failed before its turn came.
    BrokenUp,
}

impl Levels {
    async fn run_once<E>(
        &self,
        key: &Key,
        service: Duration,
        run: impl Future<Output = Result<Row, E>>,
    ) -> Result<(Row, CacheStatus), E> {
        let mut run = pin!(run);
        let remote = self.remote.as_ref().filter(|_| service >= self.redis_worth);
        let flight = self.flights.board(key);
        let mut found = CacheStatus::Hit;
        let mut led = false;
        let landed = flight
            .row(async {
                if flight.failures() >= FAILURES_OF_A_FLIGHT {
                    return Err(NoRow::BrokenUp);
                }
                led = true;
                // An earlier flight may have landed between the look into memory and boarding this one.
                if let Some(row) = self.memory.get(key) {
                    self.memory_hits.fetch_add(1, Ordering::Relaxed);
                    return Ok(row);
                }
                // Boxed: else every answer's future is as large as a call of Redis.
                if let Some(remote) = remote
                    && let Some((row, left)) = Box::pin(remote.get(key)).await
                {
                    self.memory.put(key, &row, left);
                    return Ok(row);
                }
                found = CacheStatus::Miss;
                let row = self.run(key, remote, run.as_mut()).await;
                row.map_err(|error| {
                    flight.count_failure();
                    NoRow::Failed(error)
                })
            })
            .await;
        match landed {
            Ok(row) => {
                if !led {
                    self.joined.fetch_add(1, Ordering::Relaxed);
                }
                Ok((row, found))
            }
            Err(NoRow::Failed(error)) => Err(error),
            Err(NoRow::BrokenUp) => {
                drop(flight);
                self.run(key, remote, run).await.map(|row| (row, CacheStatus::Miss))
            }
        }
    }

    async fn run<E>(
        &self,
        key: &Key,
        remote: Option<&Remote>,
        run: impl Future<Output = Result<Row, E>>,
    ) -> Result<Row, E> {
        self.misses.fetch_add(1, Ordering::Relaxed);
        let row = run.await?;
        if !row.is_empty() && size_of_val(&*row) <= LARGEST_ROW_BYTES {
            self.memory.put(key, &row, Duration::MAX);
            if let Some(remote) = remote {
                remote.put(key, &row);
            }
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
