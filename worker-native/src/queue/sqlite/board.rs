//! What waits outside the file: consumers for jobs, watchers for changes. Told after each commit, never before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::clock::{Clock, stored};
use crate::queue::contract::Change;

/// Changes that one who watches may be behind.
const CAPACITY: usize = 1_024;

/// One task's place on the board.
#[derive(Debug)]
pub(super) struct Signal {
    /// Is there something to claim now?
    claimable: AtomicBool,
    /// When the next pause ends.
    due: AtomicI64,
    bell: Notify,
    changes: OnceLock<broadcast::Sender<Change>>,
}

impl Default for Signal {
    fn default() -> Self {
        Self {
            claimable: AtomicBool::new(false),
            due: AtomicI64::new(i64::MAX),
            bell: Notify::new(),
            changes: OnceLock::new(),
        }
    }
}

impl Signal {
    /// Says what there is to claim, and when there will be more.
    pub(super) fn set(&self, claimable: bool, due: i64) {
        self.claimable.store(claimable, Ordering::Release);
        let before = self.due.swap(due, Ordering::AcqRel);
        if claimable || due < before {
            self.bell.notify_waiters();
        }
    }

    /// Waits until there may be something to claim, `up_to` at the longest.
    pub(super) async fn wait(&self, clock: &Clock, up_to: Duration) {
        let end = Instant::now() + up_to;
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            // From here on a bell is heard, so that none falls between the look and the wait.
            rung.as_mut().enable();
            let pause = self.due.load(Ordering::Acquire).saturating_sub(stored(clock()));
            if self.claimable.load(Ordering::Acquire) || pause <= 0 {
                return;
            }
            let pause = Duration::from_millis(u64::try_from(pause).unwrap_or_default());
            let until = Instant::now().checked_add(pause).map_or(end, |due| due.min(end));
            if tokio::time::timeout_at(until, rung).await.is_err() {
                return;
            }
        }
    }

    /// Changes from now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.get_or_init(|| broadcast::channel(CAPACITY).0).subscribe()
    }

    /// Does anybody watch?
    pub(super) fn is_watched(&self) -> bool {
        self.changes.get().is_some_and(|changes| changes.receiver_count() > 0)
    }

    /// Tells who watches.
    pub(super) fn tell(&self, jobs: Vec<String>) {
        if let Some(changes) = self.changes.get().filter(|_| !jobs.is_empty()) {
            // Nobody may be there to hear it.
            drop(changes.send(Change::Jobs(jobs.into())));
        }
    }
}

/// All tasks' places.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<HashMap<String, Arc<Signal>>>);

impl Board {
    /// A task's place; made where it is missing.
    pub(super) fn signal(&self, task: &str) -> Arc<Signal> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get(task) {
            Some(signal) => Arc::clone(signal),
            None => Arc::clone(places.entry(task.to_owned()).or_default()),
        }
    }
}
