//! What is particular to the file; the contract's suite holds for it as for the other backend.

mod crash;
mod file;
mod plans;
mod room;
mod steps;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::reading::Input;
use tempfile::TempDir;

use super::*;
use crate::config::{Config, Source};
use crate::queue::contract::*;
use crate::queue::job::{Claimed, Entry, Outcome, Priority};

const TASK: &str = "pump-anomaly";

/// A queue in a folder of its own, on a clock that stands still until it is told.
struct Bench {
    folder: TempDir,
    queue: SqliteQueue,
    time: Arc<AtomicU64>,
    config: QueueConfig,
}

fn config(file: &Path, settings: &[(&str, &str)]) -> QueueConfig {
    let mut pairs: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pairs.insert("QUEUE_FILE".to_owned(), file.to_str().unwrap().to_owned());
    Config::read(Source::new(pairs, None).unwrap()).unwrap().queue
}

fn stopped(time: &Arc<AtomicU64>) -> impl FnOnce(u64) -> Clock {
    let time = Arc::clone(time);
    move |_| Arc::new(move || time.load(Ordering::SeqCst))
}

impl Bench {
    fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("deep/queue.sqlite"), settings);
        let time = Arc::new(AtomicU64::new(1_000_000));
        let queue = SqliteQueue::open_with(&config, stopped(&time)).unwrap();
        Self { folder, queue, time, config }
    }

    fn pass(&self, ms: u64) {
        self.time.fetch_add(ms, Ordering::SeqCst);
    }

    /// The same file in a new process.
    fn reopen(self) -> Self {
        let Self { folder, queue, time, config } = self;
        drop(queue);
        let queue = SqliteQueue::open_with(&config, stopped(&time)).unwrap();
        Self { folder, queue, time, config }
    }

    async fn put(&self, job: Entry) -> String {
        let id = job.job_id.clone();
        let answers = self.queue.enqueue(TASK, vec![new_job(job)]).await.unwrap();
        assert!(matches!(answers.as_slice(), [Enqueued::Accepted(_)]), "{answers:?}");
        id
    }

    async fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.queue.claim(TASK, "c1", limit).await.unwrap()
    }

    async fn ids(&self, limit: usize) -> Vec<String> {
        self.claim(limit).await.into_iter().map(|job| job.ticket.job_id).collect()
    }

    async fn counts(&self) -> Counts {
        self.queue.counts(TASK).await.unwrap()
    }

    async fn state(&self, id: &str) -> Option<String> {
        self.queue.job(TASK, id).await.unwrap().map(|job| job.state)
    }

    async fn end(&self, job: &Claimed, outcome: Outcome) -> bool {
        let settled = self.queue.settle(TASK, vec![settlement(job, outcome)]).await.unwrap();
        settled[0].first
    }
}

fn entry(lane: &str) -> Entry {
    let entry = Entry::new(TASK, lane, ("m", 1), Input::Features(vec![0.5; 8]));
    Entry { sensor_id: Some("s1".to_owned()), ..entry }
}

fn of_tenant(tenant: &str) -> Entry {
    Entry { tenant: Some(tenant.to_owned()), ..entry("fast") }
}

fn new_job(entry: Entry) -> NewJob {
    NewJob { entry, left: None, room: None, once: None }
}

fn settlement(job: &Claimed, outcome: Outcome) -> Settlement {
    let id = &job.ticket.job_id;
    let result = serde_json::json!({"job_id": id, "outcome": outcome.name(), "finished_at": 7, "sensor_id": "s1"});
    Settlement { ticket: job.ticket.clone(), outcome, result: result.to_string(), awaited: false, failures: vec![] }
}
