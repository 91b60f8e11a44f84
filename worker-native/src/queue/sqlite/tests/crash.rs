//! Processes that end without a word, and disks that are full.

use std::fs;

use super::steps::rows;
use super::*;
use crate::queue::sqlite::group::Ledger;

/// What a crash leaves of a file: itself and its log, as they are at this moment.
fn wreck(bench: &Bench) -> (TempDir, QueueConfig) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite");
    fs::copy(&bench.config.file, &file).unwrap();
    let mut log = bench.config.file.clone().into_os_string();
    log.push("-wal");
    fs::copy(log, folder.path().join("queue.sqlite-wal")).unwrap();
    (folder, QueueConfig { file, ..bench.config.clone() })
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let bench = Bench::new(&[]);
    let mut jobs = Vec::new();
    for number in 0..200 {
        jobs.push(bench.put(of_tenant(&format!("t{}", number % 7))).await);
    }
    let claimed = bench.claim(60).await;
    for job in &claimed[..40] {
        assert!(bench.end(job, Outcome::Done).await);
    }
    let (_folder, config) = wreck(&bench);
    let queue = SqliteQueue::open_with(&config, stopped(&bench.time)).unwrap();
    let counts = queue.counts(TASK).await.unwrap();
    assert_eq!((counts.depths["fast"], counts.running, counts.settled), (160, Depths::new(), 40));
    for job in &claimed[..40] {
        assert_eq!(queue.job(TASK, &job.ticket.job_id).await.unwrap().unwrap().state, "done");
    }
    // What ran goes first, and its start counts.
    let again = queue.claim(TASK, "c2", 20).await.unwrap();
    let running: Vec<&str> = claimed[40..].iter().map(|job| job.ticket.job_id.as_str()).collect();
    assert_eq!(again.iter().map(|job| job.ticket.job_id.as_str()).collect::<Vec<_>>(), running);
    assert!(again.iter().all(|job| job.attempt == 2));
    let rest = queue.claim(TASK, "c2", 1_000).await.unwrap();
    assert_eq!((rest.len(), rest.iter().all(|job| job.attempt == 1)), (140, true));
    // A process that lost its file without knowing changes nothing for the one that has it.
    assert!(queue.renew(TASK, "c1", &[claimed[50].ticket.clone()]).await.unwrap() == [false]);
}

#[tokio::test]
async fn a_restart_keeps_pauses_keys_facts_and_time() {
    let bench = Bench::new(&[]);
    let id = bench.put(entry("fast")).await;
    let job = bench.claim(1).await.remove(0);
    let retry = Retry { ticket: job.ticket, delay: Duration::from_millis(500), charged: false, failures: vec![] };
    bench.queue.retry(TASK, "c1", vec![retry]).await.unwrap();
    bench.queue.set_fact(TASK, "accuracy", "m", Some("0.9")).await.unwrap();
    bench.queue.begin(TASK, "k", "f", Duration::from_secs(9)).await.unwrap();
    let bench = bench.reopen();
    assert_eq!(bench.queue.facts(TASK, "accuracy").await.unwrap(), [("m".to_owned(), "0.9".to_owned())]);
    assert_eq!(bench.queue.begin(TASK, "k", "f", Duration::from_secs(9)).await.unwrap(), Begun::InFlight);
    assert!(bench.claim(1).await.is_empty());
    bench.pass(500);
    let back = bench.claim(1).await.remove(0);
    assert_eq!((back.ticket.job_id.as_str(), back.attempt), (id.as_str(), 1));
    // A clock that has fallen back does not bring time back.
    let config = bench.config.clone();
    drop(bench.queue);
    let seen = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&seen);
    let queue = SqliteQueue::open_with(&config, move |last| {
        heard.store(last, Ordering::SeqCst);
        clock::from(u64::MAX / 4)
    });
    assert!(queue.unwrap().now() >= u64::MAX / 4);
    assert_eq!(seen.load(Ordering::SeqCst), 1_000_500);
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_lets_go_of_what_is_there() {
    let bench = Bench::new(&[]);
    for _ in 0..50 {
        bench.put(entry("fast")).await;
    }
    limit_pages(&bench, 8).await;
    let fill = || async {
        bench.queue.enqueue(TASK, vec![new_job(Entry { model: "m".repeat(3_000), ..entry("fast") })]).await
    };
    let mut stored = 50;
    let error = loop {
        match fill().await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("full"), "{error}");
    assert!(matches!(error, QueueError::File(_)));
    assert!(bench.queue.check_writable(&[TASK]).await.is_err());
    // Nothing is half done, and looking works.
    assert_eq!(bench.counts().await.depths["fast"], stored);
    assert_eq!(rows(&bench, "SELECT count(*) FROM job").await, i64::from(stored));
    assert_eq!(rows(&bench, "SELECT count(*) FROM body").await, i64::from(stored));
    // Those that fail do not make others fail.
    let job = bench.claim(1).await.remove(0);
    let (ended, refused) = tokio::join!(bench.end(&job, Outcome::Done), fill());
    assert!(ended && refused.is_err());
    for job in bench.claim(1_000).await {
        assert!(bench.end(&job, Outcome::Done).await);
    }
    fill().await.unwrap();
    bench.queue.check_writable(&[TASK]).await.unwrap();
    assert_eq!(bench.counts().await.depths["fast"], 1);
    // In books read anew, as after every transaction that was taken back.
    let bench = bench.reopen();
    assert_eq!((bench.counts().await.settled, bench.claim(9).await.len()), (u64::from(stored), 1));
}

/// So many more pages the file may have.
async fn limit_pages(bench: &Bench, more: i64) {
    let step = move |books: &mut Books| {
        let file = books.connection();
        let pages: i64 = file.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        file.query_row(&format!("PRAGMA max_page_count = {}", pages + more), [], |_| Ok(()))
    };
    bench.queue.0.writer.write(1, step).await.unwrap();
}

#[tokio::test]
async fn jobs_that_somebody_else_removed_are_counted_as_lost() {
    let bench = Bench::new(&[]);
    for number in 0..10 {
        bench.put(of_tenant(if number < 5 { "a" } else { "b" })).await;
    }
    bench.claim(2).await;
    assert_eq!(bench.queue.tend(TASK).await.unwrap(), Tended::default());
    let other = rusqlite::Connection::open(&bench.config.file).unwrap();
    other
        .execute("DELETE FROM job WHERE id IN (SELECT id FROM job WHERE tenant = 'a' ORDER BY id DESC LIMIT 3)", [])
        .unwrap();
    drop(other);
    assert_eq!(bench.queue.tend(TASK).await.unwrap().lost, 0, "it is not looked at all the time");
    bench.pass(60_000);
    assert_eq!(bench.queue.tend(TASK).await.unwrap().lost, 3);
    let counts = bench.counts().await;
    assert_eq!((counts.lost, counts.depths["fast"], counts.running["fast"]), (3, 7, 2));
    assert_eq!(rows(&bench, "SELECT jobs FROM tenant WHERE name = 'a'").await, 2);
    bench.pass(60_000);
    assert_eq!(bench.queue.tend(TASK).await.unwrap().lost, 0);
    assert_eq!(bench.claim(99).await.len(), 5);
}
