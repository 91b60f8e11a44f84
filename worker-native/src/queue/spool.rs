//! Jobs that Redis could not take: kept in a file of this process until it can, in the order in which they came.
//!
//! [`Spool`] is the file: what it has taken outlives the process, and it takes so many bytes and no more. It uses the
//! embedded queue's writing thread and file (`sqlite::group`, `sqlite::file`), with a table of its own.
//! [`SpoolingQueue`] (`spool/queue.rs`) puts it before a queue, and hands over what it holds (`spool/replay.rs`).
//! A job may be handed over twice, which its id makes harmless; none is dropped.

mod books;
mod queue;
mod replay;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::contract::{Depths, Enqueued, NewJob, Once, QueueError, Stored};
use super::job::Entry;
use super::sqlite::Clock;
use super::sqlite::clock::{self, ms, number, stored};
use super::sqlite::file::{self, Kind};
use super::sqlite::group::Writer;
use crate::config::FileSync;
use books::{Books, Kept};
pub use queue::SpoolingQueue;

const KIND: Kind = Kind {
    setting: "SPOOL_FILE",
    // "IRsp"
    mark: 0x4952_7370,
    versions: &[include_str!("spool/schema/1.sql")],
    way_out: "a spool is for one process: give each its own SPOOL_FILE",
};

/// What became of jobs handed to the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// On the disk, but for those whose key the spool has with another job. Depths are of the task's jobs in the spool.
    Kept(Vec<Enqueued>),
    /// There was no room for all of them, so none was taken.
    Full,
}

/// A job in the spool.
#[derive(Debug, Clone)]
pub struct Spooled {
    /// Its place: lower is earlier.
    pub place: i64,
    /// The task it was handed in for.
    pub task: String,
    /// As it was handed in, without a bound to its wait: it was accepted. What is left until its deadline has shrunk.
    pub job: NewJob,
}

/// The file in which jobs wait for Redis.
#[derive(Debug)]
pub struct Spool {
    writer: Writer<Books>,
    waiting: Arc<AtomicU64>,
    clock: ClockOf,
}

/// A clock, for types that show themselves.
struct ClockOf(Clock);

impl std::fmt::Debug for ClockOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&(self.0)()).finish()
    }
}

impl Spool {
    /// Opens the spool; makes it where it is missing. Each step on it answers within `limit`, or fails.
    ///
    /// # Errors
    /// [`QueueError::File`] that names the setting, as for the queue's file.
    pub fn open(path: &Path, max_bytes: u64, sync: FileSync, limit: Duration) -> Result<Self, QueueError> {
        Self::open_with(path, max_bytes, (sync, limit), clock::from)
    }

    fn open_with(
        path: &Path,
        max_bytes: u64,
        (sync, limit): (FileSync, Duration),
        clock: impl FnOnce(u64) -> Clock,
    ) -> Result<Self, QueueError> {
        let opened = file::open(path, &KIND, sync)?;
        let seen = books::last_seen(&opened.connection).map_err(file::failed)?;
        let (clock, waiting) = (clock(number(seen)), Arc::new(AtomicU64::new(0)));
        let books = Books::open(opened, stored(max_bytes), Arc::clone(&clock), Arc::clone(&waiting));
        let writer = Writer::start("spool-writer", books.map_err(file::failed)?, limit)
            .map_err(|error| file::fault(format!("SPOOL_FILE {}: no thread for it: {error}", path.display())))?;
        Ok(Self { writer, waiting, clock: ClockOf(clock) })
    }

    /// Jobs that wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes jobs of one task, all or none; when it answers `Kept` they are on the disk.
    ///
    /// A key that the spool knows is answered as the queue would. Keys that only the queue knows are found out when the
    /// job is handed over; it runs all the same then, since it was accepted.
    ///
    /// # Errors
    /// [`QueueError`]; then none was taken, but after [`QueueError::Slow`] that is not known.
    pub async fn append(&self, task: &str, jobs: &[NewJob]) -> Result<Appended, QueueError> {
        let now = self.now();
        let kept = jobs.iter().map(|job| Kept::new(task, job, now)).collect::<Result<Vec<_>, _>>()?;
        let task = task.to_owned();
        self.writer.write(kept.len(), move |books: &mut Books| books.append(&task, &kept)).await
    }

    /// The first jobs behind a place, in order; those that cannot be read are set aside, and told in the log.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn peek(&self, behind: i64, limit: usize) -> Result<Vec<Spooled>, QueueError> {
        let kept = self.writer.write(1, move |books: &mut Books| books.peek(behind, limit)).await?;
        let (now, mut jobs, mut unreadable) = (self.now(), Vec::with_capacity(kept.len()), Vec::new());
        for (place, kept) in kept {
            match kept.open(now) {
                Ok((task, job)) => jobs.push(Spooled { place, task, job }),
                Err(error) => {
                    tracing::error!(place, %error, "a job in the spool cannot be read; it stays in the file, set aside");
                    unreadable.push(place);
                }
            }
        }
        if !unreadable.is_empty() {
            self.writer.write(1, move |books: &mut Books| books.set_aside(&unreadable)).await?;
        }
        Ok(jobs)
    }

    /// One job, as [`Spool::peek`] gives it.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn find(&self, job_id: &str) -> Result<Option<Spooled>, QueueError> {
        if self.waiting() == 0 {
            return Ok(None);
        }
        let id = job_id.to_owned();
        let kept = self.writer.write(1, move |books: &mut Books| books.find(&id)).await?;
        let opened = kept.map(|(place, kept)| kept.open(self.now()).map(|(task, job)| Spooled { place, task, job }));
        opened.transpose()
    }

    /// Is a job in the spool?
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn contains(&self, job_id: &str) -> Result<bool, QueueError> {
        self.find(job_id).await.map(|job| job.is_some())
    }

    /// Lets go of jobs that somebody else has now.
    ///
    /// # Errors
    /// [`QueueError`]; then they are handed over once more.
    pub async fn forget(&self, places: Vec<i64>) -> Result<(), QueueError> {
        self.writer.write(places.len(), move |books: &mut Books| books.forget(&places)).await
    }

    /// A task's jobs in the spool by lane, and their size.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn counts(&self, task: &str) -> Result<(Depths, u64), QueueError> {
        if self.waiting() == 0 {
            return Ok((Depths::new(), 0));
        }
        let task = task.to_owned();
        self.writer.write(1, move |books: &mut Books| Ok(books.counts(&task))).await
    }

    /// Is there room for a small job?
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn has_room(&self) -> Result<bool, QueueError> {
        self.writer.write(1, |books: &mut Books| books.has_room()).await
    }

    /// Closes the file after what was handed in before; later requests are refused.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    fn now(&self) -> u64 {
        (self.clock.0)()
    }
}

impl Kept {
    fn new(task: &str, job: &NewJob, now: u64) -> Result<Self, QueueError> {
        let NewJob { entry, left, once, .. } = job;
        Ok(Self {
            task: task.to_owned(),
            job_id: entry.job_id.clone(),
            lane: entry.lane.clone(),
            body: entry.to_body().map_err(QueueError::Corrupt)?,
            deadline: left.map(|left| stored(now.saturating_add(ms(left)))),
            key: once.as_ref().map(|once| once.key.clone()),
            fingerprint: once.as_ref().map(|once| once.fingerprint.clone()),
            status: once.as_ref().map(|once| once.answer.status),
            answer: once.as_ref().map(|once| once.answer.body.clone()),
        })
    }

    fn open(self, now: u64) -> Result<(String, NewJob), QueueError> {
        let entry = Entry::from_body(&self.body).map_err(QueueError::Corrupt)?;
        let left = self.deadline.map(|deadline| Duration::from_millis(number(deadline).saturating_sub(now)));
        let once = match (self.key, self.fingerprint, self.status, self.answer) {
            (Some(key), Some(fingerprint), Some(status), Some(body)) => {
                Some(Once { key, fingerprint, answer: Stored { status, body } })
            }
            _ => None,
        };
        Ok((self.task, NewJob { entry, left, room: None, once }))
    }
}
