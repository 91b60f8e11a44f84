//! What the cache promises, on memory; `tests/integration/cache.rs` has the same with Redis.

use std::sync::atomic::AtomicBool;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::*;

const SLOW: Duration = Duration::from_secs(1);

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn forward(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

fn cache(config: &CacheConfig) -> (Cache, Hands) {
    let hands = Hands::default();
    let read = hands.clone();
    let clock: Clock = Arc::new(move || read.0.load(Ordering::SeqCst));
    (Cache::open_with_clock(config, &TaskTracker::new(), clock).unwrap(), hands)
}

fn key(x: f32) -> Key {
    KeyBase::new("t", "m", 1, &["sha"]).key(&[Part::Features(&[x])])
}

fn row(x: f32) -> Row {
    Arc::new([x])
}

async fn ask(cache: &Cache, key: &Key, answer: Result<Row, &'static str>) -> Result<(Row, CacheStatus), &'static str> {
    cache.get_or_run(key, SLOW, async { answer }).await
}

#[tokio::test]
async fn a_row_is_kept_for_its_time_and_no_longer() {
    let (cache, hands) = cache(&CacheConfig { ttl: Duration::from_secs(60), ..CacheConfig::default() });
    assert_eq!(ask(&cache, &key(1.0), Ok(row(1.0))).await, Ok((row(1.0), CacheStatus::Miss)));
    hands.forward(59_999);
    assert_eq!(ask(&cache, &key(1.0), Ok(row(2.0))).await, Ok((row(1.0), CacheStatus::Hit)));
    assert_eq!(ask(&cache, &key(2.0), Ok(row(2.0))).await, Ok((row(2.0), CacheStatus::Miss)));
    hands.forward(1);
    assert_eq!(cache.get(&key(1.0)), None);
    assert_eq!(ask(&cache, &key(1.0), Ok(row(3.0))).await, Ok((row(3.0), CacheStatus::Miss)));
    assert_eq!(ask(&cache, &key(1.0), Ok(row(4.0))).await, Ok((row(3.0), CacheStatus::Hit)));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.memory_hits, stats.joined), (3, 2, 0));
}

#[tokio::test]
async fn a_hit_in_memory_is_there_at_the_first_poll() {
    let (cache, _) = cache(&CacheConfig::default());
    ask(&cache, &key(1.0), Ok(row(1.0))).await.unwrap();
    let again = cache.get_or_run::<()>(&key(1.0), SLOW, std::future::pending()).now_or_never();
    assert_eq!(again, Some(Ok((row(1.0), CacheStatus::Hit))));
}

#[tokio::test]
async fn without_a_cache_each_reading_runs() {
    let (cache, _) = cache(&CacheConfig { backend: CacheBackend::Off, ..CacheConfig::default() });
    for x in [1.0, 2.0] {
        assert_eq!(ask(&cache, &key(1.0), Ok(row(x))).await, Ok((row(x), CacheStatus::Off)));
    }
    assert!(!cache.is_on() && cache.get(&key(1.0)).is_none());
    assert_eq!(cache.stats(), CacheStats::default());
}

#[tokio::test]
async fn errors_and_absurd_rows_are_not_kept() {
    let (cache, _) = cache(&CacheConfig::default());
    assert_eq!(ask(&cache, &key(1.0), Err("no")).await, Err("no"));
    assert_eq!(ask(&cache, &key(1.0), Ok(row(1.0))).await, Ok((row(1.0), CacheStatus::Miss)));
    let large: Row = vec![0.0; LARGEST_ROW_BYTES / 4 + 1].into();
    for _ in 0..2 {
        assert_eq!(ask(&cache, &key(2.0), Ok(Arc::clone(&large))).await.unwrap().1, CacheStatus::Miss);
        assert_eq!(ask(&cache, &key(3.0), Ok(Arc::new([]))).await.unwrap().1, CacheStatus::Miss);
    }
}

#[tokio::test]
async fn memory_is_bounded_by_rows_and_by_bytes() {
    let by_rows = CacheConfig { max_entries: 100, max_bytes: 64 << 20, ..CacheConfig::default() };
    let by_bytes = CacheConfig { max_entries: 1_000_000, max_bytes: 100 * (4_000 + 400), ..CacheConfig::default() };
    for (config, width) in [(by_rows, 1), (by_bytes, 1_000)] {
        let (cache, _) = cache(&config);
        let memory = &cache.0.as_ref().unwrap().memory;
        for i in 0..2_000_u16 {
            memory.put(&key(f32::from(i)), &vec![0.0; width].into(), SLOW);
        }
        memory.tidy();
        let stats = cache.stats();
        assert!((90..=100).contains(&stats.entries) && stats.bytes <= config.max_bytes, "{stats:?}");
    }
}

/// A run that stands until it is released, and tells when it began.
fn held(answer: Row) -> (oneshot::Receiver<()>, oneshot::Sender<()>, impl Future<Output = Result<Row, &'static str>>) {
    let (began, has_begun) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let run = async move {
        // Not every test waits for it.
        let _unheard = began.send(());
        released.await.map_err(|_| "given up")?;
        Ok(answer)
    };
    (has_begun, release, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_identical_readings_run_once() {
    let (cache, _) = cache(&CacheConfig::default());
    let (has_begun, release, run) = held(row(1.0));
    let all = TaskTracker::new();
    let first = all.spawn({
        let cache = cache.clone();
        async move { cache.get_or_run(&key(1.0), SLOW, run).await }
    });
    has_begun.await.unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let boarded = Arc::new(AtomicU64::new(0));
    let followers: Vec<_> = (0..999)
        .map(|_| {
            let (cache, ran, boarded) = (cache.clone(), Arc::clone(&ran), Arc::clone(&boarded));
            all.spawn(async move {
                boarded.fetch_add(1, Ordering::SeqCst);
                cache
                    .get_or_run::<&str>(&key(1.0), SLOW, async {
                        ran.store(true, Ordering::SeqCst);
                        Ok(row(2.0))
                    })
                    .await
            })
        })
        .collect();
    while boarded.load(Ordering::SeqCst) < 999 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert_eq!(first.await.unwrap(), Ok((row(1.0), CacheStatus::Miss)));
    for follower in followers {
        assert_eq!(follower.await.unwrap(), Ok((row(1.0), CacheStatus::Hit)));
    }
    assert!(!ran.load(Ordering::SeqCst), "one ran");
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.joined + stats.memory_hits), (1, 999));
    assert!(stats.joined > 0, "some waited: {stats:?}");
    assert_eq!(cache.0.unwrap().flights.under_way(), 0);
}

#[tokio::test]
async fn where_the_running_one_is_dropped_or_panics_a_waiting_one_runs() {
    for panics in [false, true] {
        let (cache, _) = cache(&CacheConfig::default());
        let (_, release, run) = held(row(1.0));
        let key = key(1.0);
        let run = async move {
            let row = run.await;
            assert!(!panics, "on purpose");
            row
        };
        let mut leader = Box::pin(std::panic::AssertUnwindSafe(cache.get_or_run(&key, SLOW, run)).catch_unwind());
        assert!((&mut leader).now_or_never().is_none());
        let mut follower = Box::pin(ask(&cache, &key, Ok(row(2.0))));
        assert!((&mut follower).now_or_never().is_none(), "it waits");
        if panics {
            release.send(()).unwrap();
            assert!(leader.await.is_err());
        } else {
            drop(leader);
        }
        assert_eq!(follower.await, Ok((row(2.0), CacheStatus::Miss)));
        assert_eq!(cache.0.unwrap().flights.under_way(), 0);
    }
}

#[tokio::test]
async fn one_that_waits_may_leave_at_its_own_deadline() {
    let (cache, _) = cache(&CacheConfig::default());
    let key = key(1.0);
    let (_, release, run) = held(row(1.0));
    let mut leader = Box::pin(cache.get_or_run(&key, SLOW, run));
    assert!((&mut leader).now_or_never().is_none());
    for _ in 0..2 {
        let late = tokio::time::timeout(Duration::ZERO, ask(&cache, &key, Ok(row(2.0)))).await;
        assert!(late.is_err());
    }
    assert_eq!(cache.0.as_ref().unwrap().flights.under_way(), 1, "the leader still flies");
    release.send(()).unwrap();
    assert_eq!(leader.await, Ok((row(1.0), CacheStatus::Miss)));
    assert_eq!(ask(&cache, &key, Ok(row(3.0))).await, Ok((row(1.0), CacheStatus::Hit)));
}

#[tokio::test]
async fn a_failure_is_its_own_ones_and_two_end_the_waiting_for_each_other() {
    let (cache, _) = cache(&CacheConfig::default());
    let key = key(1.0);
    let (_, release, run) = held(row(1.0));
    let mut leader = Box::pin(cache.get_or_run(&key, SLOW, run));
    assert!((&mut leader).now_or_never().is_none());
    let (_, release_second, second) = held(row(2.0));
    let mut second = Box::pin(cache.get_or_run(&key, SLOW, second));
    assert!((&mut second).now_or_never().is_none());
    // Runs that never end: each is to be begun, none is to keep the others waiting.
    let begun = Arc::new(AtomicU64::new(0));
    let mut others: Vec<_> = (0..5)
        .map(|_| {
            let begun = Arc::clone(&begun);
            Box::pin(cache.get_or_run::<&str>(&key, SLOW, async move {
                begun.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }))
        })
        .collect();
    for other in &mut others {
        assert!(other.now_or_never().is_none());
    }
    drop(release);
    assert_eq!(leader.await, Err("given up"));
    assert!((&mut second).now_or_never().is_none(), "one failure: the next one runs, the others wait");
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    drop(release_second);
    assert_eq!(second.await, Err("given up"));
    for other in &mut others {
        assert!(other.now_or_never().is_none());
    }
    assert_eq!(begun.load(Ordering::SeqCst), 5, "each by itself");
    assert_eq!(cache.0.as_ref().unwrap().flights.under_way(), 0);
}
