//! The file must not grow for ever, and an idle queue must not work the disk.

use std::fs;

use super::steps::rows;
use super::*;

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[tokio::test]
async fn a_file_that_was_large_gives_its_room_back() {
    let bench = Bench::new(&[("RESULT_TTL_SECONDS", "10")]);
    let large = || Entry { input: Input::Features(vec![0.5; 4_000]), ..entry("fast") };
    for _ in 0..30 {
        let jobs = (0..100).map(|_| new_job(large())).collect();
        bench.queue.enqueue(TASK, jobs).await.unwrap();
    }
    loop {
        let jobs = bench.claim(1_000).await;
        if jobs.is_empty() {
            break;
        }
        bench.queue.settle(TASK, jobs.iter().map(|job| settlement(job, Outcome::Done)).collect()).await.unwrap();
    }
    let pages = rows(&bench, "PRAGMA page_count").await;
    assert!(pages > 10_000, "{pages}");
    bench.pass(10_000);
    for _ in 0..5 {
        bench.queue.tend(TASK).await.unwrap();
    }
    assert_eq!(rows(&bench, "SELECT count(*) FROM job").await, 0);
    let left = rows(&bench, "PRAGMA page_count").await;
    assert!(left < 6_000, "{left} of {pages}");
    let bench = bench.reopen();
    assert!(length(&bench.config.file) < 6_000 * 4_096);
}

#[tokio::test]
async fn rounds_of_jobs_leave_the_file_as_it_was() {
    let bench = Bench::new(&[("RESULT_TTL_SECONDS", "10")]);
    let mut sizes = Vec::new();
    for _ in 0..12 {
        let jobs = (0..500).map(|_| new_job(of_tenant(&uuid::Uuid::new_v4().to_string()))).collect();
        bench.queue.enqueue(TASK, jobs).await.unwrap();
        let jobs = bench.claim(1_000).await;
        assert_eq!(jobs.len(), 500);
        bench.queue.settle(TASK, jobs.iter().map(|job| settlement(job, Outcome::Done)).collect()).await.unwrap();
        bench.pass(10_000);
        bench.queue.tend(TASK).await.unwrap();
        sizes.push(rows(&bench, "PRAGMA page_count").await);
    }
    assert!(sizes[11] <= sizes[2] + 8, "{sizes:?}");
    assert_eq!(rows(&bench, "SELECT count(*) FROM tenant").await, 0);
}

#[tokio::test]
async fn what_expired_goes_as_fast_as_more_comes() {
    let bench = Bench::new(&[("RESULT_TTL_SECONDS", "10"), ("IDEMPOTENCY_TTL_SECONDS", "10")]);
    for round in 0..20 {
        let keyed = |number: usize| {
            let answer = Stored { status: 202, body: "{}".to_owned() };
            let once = Once { key: format!("{round}-{number}"), fingerprint: "f".to_owned(), answer };
            NewJob { once: Some(once), ..new_job(entry("fast")) }
        };
        bench.queue.enqueue(TASK, (0..100).map(keyed).collect()).await.unwrap();
        let jobs = bench.claim(100).await;
        // Some for callers who wait: these are kept for a minute.
        let settlement = |(number, job)| Settlement { awaited: number < 20, ..settlement(job, Outcome::Done) };
        bench.queue.settle(TASK, jobs.iter().enumerate().map(settlement).collect()).await.unwrap();
        bench.pass(11_000);
    }
    // The awaited ones of a minute, and what was settled behind them.
    assert!(rows(&bench, "SELECT count(*) FROM result").await <= 700);
    assert!(rows(&bench, "SELECT count(*) FROM job").await <= 700);
    assert!(rows(&bench, "SELECT count(*) FROM once").await <= 200);
}

#[tokio::test]
async fn an_idle_consumer_writes_nothing() {
    let bench = Bench::new(&[]);
    let id = bench.put(entry("fast")).await;
    let job = bench.claim(1).await.remove(0);
    bench.end(&job, Outcome::Done).await;
    let mut log = bench.config.file.clone().into_os_string();
    log.push("-wal");
    let before = fs::read(&log).unwrap();
    for _ in 0..20 {
        bench.pass(1);
        assert!(bench.claim(64).await.is_empty());
        assert!(bench.queue.reclaim(TASK, "c1", 64).await.unwrap().is_empty());
        assert!(bench.queue.callbacks(TASK, 9, Duration::from_secs(1)).await.unwrap().is_empty());
        bench.queue.tend(TASK).await.unwrap();
        bench.state(&id).await;
        bench.counts().await;
    }
    assert!(fs::read(&log).unwrap() == before);
}
