use std::collections::BTreeMap;
use std::path::PathBuf;

use shared::reading::Input;
use tempfile::TempDir;

use super::replay::pass;
use super::*;
use crate::config::{Config, Source};
use crate::queue::contract::{JobBook, JobQueue};
use crate::queue::job::Priority;
use crate::queue::sqlite::SqliteQueue;

/// Only a disk that stalls needs longer.
const LIMIT: Duration = Duration::from_secs(20);

const TASK: &str = "pump-anomaly";

struct Bench {
    folder: TempDir,
    spool: Spool,
    time: Arc<AtomicU64>,
}

impl Bench {
    fn new(max_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(5_000));
        let spool = open(&folder.path().join("spool.sqlite"), max_bytes, &time);
        Self { folder, spool, time }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("spool.sqlite")
    }

    fn reopen(self, max_bytes: u64) -> Self {
        let (path, Self { folder, spool, time }) = (self.path(), self);
        drop(spool);
        let spool = open(&path, max_bytes, &time);
        Self { folder, spool, time }
    }

    /// A queue to hand over to; its file does what Redis would.
    fn queue(&self, settings: &[(&str, &str)]) -> SqliteQueue {
        let mut pairs: BTreeMap<String, String> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let file = self.folder.path().join("queue.sqlite");
        pairs.insert("QUEUE_FILE".to_owned(), file.to_str().unwrap().to_owned());
        SqliteQueue::open(&Config::read(Source::new(pairs, None).unwrap()).unwrap().queue).unwrap()
    }

    async fn keep(&self, jobs: &[NewJob]) -> Vec<Enqueued> {
        match self.spool.append(TASK, jobs).await.unwrap() {
            Appended::Kept(answers) => answers,
            Appended::Full => panic!("the spool is full"),
        }
    }

    async fn ids(&self) -> Vec<String> {
        self.spool.peek(0, 10_000).await.unwrap().into_iter().map(|job| job.job.entry.job_id).collect()
    }
}

fn open(path: &Path, max_bytes: u64, time: &Arc<AtomicU64>) -> Spool {
    let time = Arc::clone(time);
    let clock = move |_| -> Clock { Arc::new(move || time.load(Ordering::SeqCst)) };
    Spool::open_with(path, max_bytes, (FileSync::Full, LIMIT), clock).unwrap()
}

fn job(tenant: Option<&str>) -> NewJob {
    let entry = Entry {
        timestamp: Some(0.5),
        priority: Priority::High,
        tenant: tenant.map(str::to_owned),
        ..Entry::new(TASK, "fast", ("m", 1), Input::Features(vec![0.25; 4]))
    };
    NewJob { entry, left: None, room: Some(1), once: None }
}

fn keyed(key: &str, fingerprint: &str) -> NewJob {
    let answer = Stored { status: 202, body: "{}".to_owned() };
    let once = Once { key: key.to_owned(), fingerprint: fingerprint.to_owned(), answer };
    NewJob { once: Some(once), ..job(None) }
}

fn id(job: &NewJob) -> String {
    job.entry.job_id.clone()
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart_in_order_and_with_less_time_left() {
    let bench = Bench::new(1 << 20);
    let first = NewJob { left: Some(Duration::from_millis(900)), ..keyed("k", "f") };
    let jobs = [first.clone(), job(Some("t")), job(None)];
    let answers = bench.keep(&jobs).await;
    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Accepted(depths) if depths["fast"] == 3)));
    assert_eq!(bench.spool.waiting(), 3);
    bench.time.fetch_add(400, Ordering::SeqCst);
    let bench = bench.reopen(1 << 20);
    assert_eq!(bench.spool.waiting(), 3);
    assert_eq!(bench.ids().await, jobs.iter().map(id).collect::<Vec<_>>());
    let back = bench.spool.find(&id(&first)).await.unwrap().unwrap();
    assert_eq!((back.job.left, back.task.as_str()), (Some(Duration::from_millis(500)), TASK));
    assert_eq!((back.job.entry, back.job.once, back.job.room), (first.entry.clone(), first.once.clone(), None));
    bench.time.fetch_add(9_000, Ordering::SeqCst);
    assert_eq!(bench.spool.find(&id(&first)).await.unwrap().unwrap().job.left, Some(Duration::ZERO));
    // The same job once more, as after a lost answer, is one job.
    bench.keep(&jobs[..1]).await;
    assert_eq!(bench.spool.waiting(), 3);
    bench.spool.forget(vec![back.place]).await.unwrap();
    assert!(!bench.spool.contains(&id(&first)).await.unwrap() && bench.spool.contains(&id(&jobs[1])).await.unwrap());
    assert_eq!(bench.spool.counts(TASK).await.unwrap().0["fast"], 2);
}

#[tokio::test]
async fn a_full_spool_takes_all_or_none_and_has_room_again_later() {
    let bench = Bench::new(4_096);
    let mut kept = Vec::new();
    for jobs in [2, 1] {
        loop {
            let jobs: Vec<NewJob> = (0..jobs).map(|_| job(None)).collect();
            match bench.spool.append(TASK, &jobs).await.unwrap() {
                Appended::Kept(_) => kept.extend(jobs.iter().map(id)),
                Appended::Full => break,
            }
        }
    }
    assert!(kept.len() >= 4 && bench.spool.counts(TASK).await.unwrap().1 <= 4_096);
    assert_eq!(bench.ids().await, kept);
    assert!(!bench.spool.has_room().await.unwrap());
    let bench = bench.reopen(4_096);
    assert_eq!(bench.spool.append(TASK, &[job(None), job(None)]).await.unwrap(), Appended::Full);
    let places = bench.spool.peek(0, 2).await.unwrap().iter().map(|job| job.place).collect();
    bench.spool.forget(places).await.unwrap();
    bench.keep(&[job(None), job(None)]).await;
    assert_eq!(bench.ids().await[..kept.len() - 2], kept[2..]);
}

#[tokio::test]
async fn handing_over_keeps_order_and_repeats_harmlessly() {
    let bench = Bench::new(1 << 20);
    let jobs: Vec<NewJob> = (0..700).map(|_| job(None)).collect();
    bench.keep(&jobs).await;
    let queue = bench.queue(&[]);
    // Some were stored before, and nobody heard of it.
    queue.enqueue(TASK, jobs[..10].to_vec()).await.unwrap();
    assert_eq!(pass(&bench.spool, &queue).await.unwrap(), 700);
    assert_eq!(bench.spool.waiting(), 0);
    assert_eq!(queue.counts(TASK).await.unwrap().depths["fast"], 700);
    let claimed = queue.claim(TASK, "c", 1_000).await.unwrap();
    let order: Vec<String> = claimed.into_iter().map(|job| job.ticket.job_id).collect();
    assert_eq!(order, jobs.iter().map(id).collect::<Vec<_>>());
    assert_eq!(pass(&bench.spool, &queue).await.unwrap(), 0);
}

#[tokio::test]
async fn what_finds_no_room_stays_and_keeps_nobody_else_back() {
    let bench = Bench::new(1 << 20);
    let jobs: Vec<NewJob> = (0..6).map(|number| job(Some(if number < 4 { "a" } else { "b" }))).collect();
    bench.keep(&jobs).await;
    let queue = bench.queue(&[("QUEUE_MAX_DEPTH", "10"), ("TENANT_MAX_PERCENT", "20")]);
    assert_eq!(pass(&bench.spool, &queue).await.unwrap(), 4);
    assert_eq!(bench.ids().await, [id(&jobs[2]), id(&jobs[3])]);
    for job in queue.claim(TASK, "c", 9).await.unwrap() {
        queue.cancel(TASK, &job.ticket.job_id, "{}").await.unwrap();
    }
    assert_eq!(pass(&bench.spool, &queue).await.unwrap(), 2);
    assert_eq!(bench.spool.waiting(), 0);
}

#[tokio::test]
async fn keys_are_kept_as_far_as_they_are_known_and_no_accepted_job_is_dropped() {
    let bench = Bench::new(1 << 20);
    let first = keyed("k", "f");
    let answers = bench.keep(&[first.clone(), keyed("k", "f"), keyed("k", "g"), keyed("l", "f")]).await;
    assert!(matches!(
        &answers[..],
        [Enqueued::Accepted(_), Enqueued::Replayed(_), Enqueued::Conflict, Enqueued::Accepted(_)]
    ));
    assert_eq!(bench.spool.waiting(), 2);
    let queue = bench.queue(&[]);
    // `l` was used before the queue went away, by another job.
    let before = keyed("l", "f");
    queue.enqueue(TASK, vec![before.clone()]).await.unwrap();
    assert_eq!(pass(&bench.spool, &queue).await.unwrap(), 2);
    assert_eq!(queue.counts(TASK).await.unwrap().depths["fast"], 3);
    let again = queue.enqueue(TASK, vec![keyed("k", "f")]).await.unwrap();
    assert!(matches!(&again[..], [Enqueued::Replayed(_)]), "the key came with its job: {again:?}");
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_set_aside() {
    let bench = Bench::new(1 << 20);
    let jobs = [job(None), job(None), job(None)];
    bench.keep(&jobs).await;
    let other = rusqlite::Connection::open(bench.path()).unwrap();
    other.execute("UPDATE spooled SET body = x'00' WHERE job_id = ?1", [id(&jobs[1])]).unwrap();
    let queue = bench.queue(&[]);
    assert_eq!(pass(&bench.spool, &queue).await.unwrap(), 2);
    assert_eq!(bench.spool.waiting(), 0);
    let rows = other.query_row("SELECT count(*) FROM spooled", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(rows, 1, "it stays in the file");
    assert_eq!(bench.reopen(1 << 20).spool.waiting(), 0);
}

#[tokio::test]
async fn a_spool_is_for_one_process() {
    let bench = Bench::new(1 << 20);
    let error = Spool::open(&bench.path(), 1, FileSync::Full, LIMIT).unwrap_err().to_string();
    assert!(error.contains("SPOOL_FILE") && error.contains(&std::process::id().to_string()), "{error}");
    bench.spool.close().await;
    assert!(matches!(bench.spool.append(TASK, &[job(None)]).await, Err(QueueError::Closed)));
    // A queue's file is no spool.
    drop(bench.queue(&[]));
    let error =
        Spool::open(&bench.folder.path().join("queue.sqlite"), 1, FileSync::Full, LIMIT).unwrap_err().to_string();
    assert!(error.contains("another program"), "{error}");
}
