//! The cache's promises on each backend, and what becomes of them when Redis turns bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use worker_native::cache::{Cache, CacheBackend, CacheConfig, CacheStatus, Clock, Key, KeyBase, Part, Row};

use crate::support::redis::Redis;
use crate::support::until;

/// A run worth asking Redis for.
const SLOW: Duration = Duration::from_millis(5);

/// One process's cache, on a clock that the test moves.
struct Process {
    cache: Cache,
    clock: Arc<AtomicU64>,
    tasks: TaskTracker,
}

impl Process {
    async fn start(redis: &Redis, backend: CacheBackend, change: impl FnOnce(&mut CacheConfig)) -> Self {
        // Test machines may stand still for longer than production's 50 ms; a broken connection fails at once anyway.
        let redis_timeout = Duration::from_secs(5);
        let mut config =
            CacheConfig { backend, redis_url: redis.url().into(), redis_timeout, ..CacheConfig::default() };
        change(&mut config);
        let clock = Arc::new(AtomicU64::new(0));
        let tasks = TaskTracker::new();
        let read = Arc::clone(&clock);
        let read: Clock = Arc::new(move || read.load(Ordering::SeqCst));
        let cache = Cache::open_with_clock(&config, &tasks, read).unwrap();
        if backend == CacheBackend::Redis {
            until("the cache's connection", || async { cache.stats().redis_up.unwrap().then_some(()) }).await;
        }
        Self { cache, clock, tasks }
    }

    fn forward(&self, by: Duration) {
        self.clock.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    async fn ask(&self, key: &Key, answer: f32) -> (f32, CacheStatus) {
        self.ask_for(key, answer, SLOW).await
    }

    async fn ask_for(&self, key: &Key, answer: f32, service: Duration) -> (f32, CacheStatus) {
        let run = async move { Ok::<Row, ()>(Arc::new([answer])) };
        let (row, status) = self.cache.get_or_run(key, service, run).await.unwrap();
        self.stored().await;
        (row[0], status)
    }

    /// Stores go on behind the answers: waits until they are through.
    async fn stored(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}

fn key(version: u32, sha256: &str, x: f32) -> Key {
    KeyBase::new("pump-anomaly", "autoencoder", version, &[sha256]).key(&[Part::Features(&[x])])
}

const HIT: CacheStatus = CacheStatus::Hit;
const MISS: CacheStatus = CacheStatus::Miss;

async fn identical_readings_at_once_run_once(backend: CacheBackend) {
    let redis = Redis::start().await;
    let process = Process::start(&redis, backend, |_| {}).await;
    let runs = AtomicU64::new(0);
    let (release, released) = tokio::sync::watch::channel(false);
    let polled = AtomicU64::new(0);
    let ask = |i: u16| {
        let (process, runs, polled, mut released) = (&process, &runs, &polled, released.clone());
        async move {
            polled.fetch_add(1, Ordering::SeqCst);
            let run = async {
                runs.fetch_add(1, Ordering::SeqCst);
                released.wait_for(|released| *released).await.unwrap();
                Ok::<Row, ()>(Arc::new([f32::from(i)]))
            };
            process.cache.get_or_run(&key(1, "a", 1.0), SLOW, run).await.unwrap()
        }
    };
    let all = futures_util::future::join_all((0..1_000).map(ask));
    let open = async {
        until("one run and all the others behind it", || async {
            (polled.load(Ordering::SeqCst) == 1_000 && runs.load(Ordering::SeqCst) == 1).then_some(())
        })
        .await;
        release.send(true).unwrap();
    };
    let (answers, ()) = tokio::join!(all, open);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(answers.iter().filter(|(_, status)| *status == MISS).count(), 1);
    assert!(answers.iter().all(|(row, _)| *row == answers[0].0));
}

async fn another_version_or_file_meets_no_old_row(backend: CacheBackend) {
    let redis = Redis::start().await;
    let process = Process::start(&redis, backend, |_| {}).await;
    assert_eq!(process.ask(&key(1, "a", 1.0), 1.0).await, (1.0, MISS));
    assert_eq!(process.ask(&key(2, "a", 1.0), 2.0).await, (2.0, MISS));
    assert_eq!(process.ask(&key(1, "b", 1.0), 3.0).await, (3.0, MISS));
    assert_eq!(process.ask(&key(1, "a", 1.0), 4.0).await, (1.0, HIT));
}

async fn a_failed_run_leaves_nothing(backend: CacheBackend) {
    let redis = Redis::start().await;
    let process = Process::start(&redis, backend, |_| {}).await;
    let failed = process.cache.get_or_run(&key(1, "a", 1.0), SLOW, async { Err("no") }).await;
    assert_eq!(failed.unwrap_err(), "no");
    process.stored().await;
    assert_eq!(process.ask(&key(1, "a", 1.0), 1.0).await, (1.0, MISS));
}

/// Stamps the contract for one backend.
macro_rules! contract {
    ($module:ident, $backend:expr, $($promise:ident),+) => {
        mod $module {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise($backend).await;
            })+
        }
    };
}

macro_rules! contracts {
    ($($promise:ident),+) => {
        contract!(in_memory, super::CacheBackend::Memory, $($promise),+);
        contract!(with_redis, super::CacheBackend::Redis, $($promise),+);
    };
}

contracts!(identical_readings_at_once_run_once, another_version_or_file_meets_no_old_row, a_failed_run_leaves_nothing);

/// The one cached row's name in Redis.
async fn only_name(redis: &Redis) -> String {
    let mut names: Vec<String> =
        redis::cmd("KEYS").arg("ir:cache:*").query_async(&mut redis.connection().await).await.unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

#[tokio::test]
async fn processes_share_rows_and_a_row_is_no_older_for_coming_from_redis() {
    let redis = Redis::start().await;
    let first = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    let key = key(1, "a", 1.0);
    assert_eq!(first.ask(&key, 1.5).await, (1.5, MISS));
    let name = only_name(&redis).await;
    let mut connection = redis.connection().await;
    let left: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut connection).await.unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    // As if it had been stored 50 seconds ago.
    let () = redis::cmd("PEXPIRE").arg(&name).arg(10_000).query_async(&mut connection).await.unwrap();
    let second = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    assert_eq!(second.ask(&key, 2.5).await, (1.5, HIT));
    let () = redis::cmd("DEL").arg(&name).query_async(&mut connection).await.unwrap();
    assert_eq!(second.ask(&key, 2.5).await, (1.5, HIT), "from memory now");
    second.forward(Duration::from_secs(10));
    assert_eq!(second.ask(&key, 2.5).await, (2.5, MISS));
    let stats = second.cache.stats();
    assert_eq!((stats.redis_hits, stats.memory_hits, stats.misses), (1, 1, 1));
}

#[tokio::test]
async fn redis_is_not_asked_for_what_runs_quicker() {
    let redis = Redis::start().await;
    let process = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    let quick = Duration::from_micros(499);
    assert_eq!(process.ask_for(&key(1, "a", 1.0), 1.0, quick).await, (1.0, MISS));
    let size: u64 = redis::cmd("DBSIZE").query_async(&mut redis.connection().await).await.unwrap();
    assert_eq!(size, 0);
    assert_eq!(process.ask_for(&key(1, "a", 1.0), 2.0, quick).await, (1.0, HIT), "memory has it all the same");
}

#[tokio::test]
async fn a_value_that_is_not_ours_counts_as_none() {
    let redis = Redis::start().await;
    let key = key(1, "a", 1.0);
    let first = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    first.ask(&key, 1.0).await;
    let name = only_name(&redis).await;
    let mut connection = redis.connection().await;
    let mut overwrite = redis::cmd("SETRANGE");
    overwrite.arg(&name).arg(9).arg("x");
    let mut other_type = redis::pipe();
    other_type.del(&name).lpush(&name, "x");
    let mut short = redis::cmd("SET");
    short.arg(&name).arg("x");
    let () = overwrite.query_async(&mut connection).await.unwrap();
    let process = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    assert_eq!(process.ask(&key, 2.0).await, (2.0, MISS), "changed");
    let () = short.query_async(&mut connection).await.unwrap();
    let process = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    assert_eq!(process.ask(&key, 3.0).await, (3.0, MISS), "cut");
    let () = other_type.query_async(&mut connection).await.unwrap();
    let process = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    assert_eq!(process.ask(&key, 4.0).await, (4.0, MISS), "a list");
    let stats = process.cache.stats();
    assert_eq!((stats.redis_up, stats.redis_errors), (Some(true), 1), "one odd value is no reason to give up on redis");
}

#[tokio::test]
async fn a_redis_that_dies_costs_hits_only_and_is_used_again_when_it_is_back() {
    let mut redis = Redis::start().await;
    let process = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    process.ask(&key(1, "a", 1.0), 1.0).await;
    redis.stop();
    assert_eq!(process.ask(&key(1, "a", 2.0), 2.0).await, (2.0, MISS));
    assert_eq!(process.ask(&key(1, "a", 2.0), 9.0).await, (2.0, HIT), "memory goes on");
    assert_eq!(process.ask(&key(1, "a", 1.0), 9.0).await, (1.0, HIT));
    let errors = process.cache.stats().redis_errors;
    assert_eq!(process.cache.stats().redis_up, Some(false));
    for i in 10..60_u8 {
        process.ask(&key(1, "a", f32::from(i)), 0.0).await;
    }
    assert_eq!(process.cache.stats().redis_errors, errors, "it is left alone during the pause");
    redis.crash_and_restart().await;
    let (back, reader) = (AtomicU64::new(100), &process);
    until("redis in use again", || async {
        reader.forward(Duration::from_millis(50));
        let i = back.fetch_add(1, Ordering::SeqCst);
        reader.ask(&key(2, "a", f32::from(u16::try_from(i).unwrap())), 0.0).await;
        reader.cache.stats().redis_up.unwrap().then_some(())
    })
    .await;
    assert_eq!(process.ask(&key(1, "a", 3.0), 3.0).await, (3.0, MISS));
    let other = Process::start(&redis, CacheBackend::Redis, |_| {}).await;
    assert_eq!(other.ask(&key(1, "a", 3.0), 9.0).await, (3.0, HIT), "stored in redis");
    assert_eq!(other.ask(&key(1, "a", 1.0), 9.0).await, (1.0, HIT), "from before the crash");
}

#[tokio::test]
async fn a_redis_that_hangs_costs_one_timeout_and_then_a_pause() {
    let redis = Redis::start().await;
    let process =
        Process::start(&redis, CacheBackend::Redis, |config| config.redis_timeout = Duration::from_millis(50)).await;
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(3_600_000);
    let () = pause.query_async(&mut redis.connection().await).await.unwrap();
    assert_eq!(process.ask(&key(1, "a", 1.0), 1.0).await, (1.0, MISS));
    let stats = process.cache.stats();
    assert_eq!((stats.redis_up, stats.redis_errors), (Some(false), 1));
    assert_eq!(process.ask(&key(1, "a", 2.0), 2.0).await, (2.0, MISS));
    assert_eq!(process.cache.stats().redis_errors, 1, "not asked again");
}

#[tokio::test]
async fn a_service_without_redis_starts_and_answers_from_memory() {
    let mut redis = Redis::start().await;
    redis.stop();
    let tasks = TaskTracker::new();
    let config = CacheConfig { backend: CacheBackend::Redis, redis_url: redis.url().into(), ..CacheConfig::default() };
    let cache = Cache::open(&config, &tasks).unwrap();
    let process = Process { cache, clock: Arc::default(), tasks };
    assert_eq!(process.ask(&key(1, "a", 1.0), 1.0).await, (1.0, MISS));
    assert_eq!(process.ask(&key(1, "a", 1.0), 2.0).await, (1.0, HIT));
    assert_eq!(process.cache.stats().redis_up, Some(false));
    let wrong = CacheConfig { redis_url: "redis//secret".to_owned().into(), ..config };
    let error = Cache::open(&wrong, &TaskTracker::new()).unwrap_err();
    assert!(error.contains("REDIS_URL") && !error.contains("secret"), "{error}");
}
