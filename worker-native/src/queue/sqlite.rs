//! The queue in one SQLite file, for one process: a complete, durable queue without a server.
//!
//! One thread writes (`sqlite/group.rs`): what waits for it is done in one transaction, committed once, and only then
//! answered, so that a slow disk makes larger groups and not a longer line. Two threads read (`sqlite/readers.rs`).
//! With `QUEUE_FILE_SYNC=full` a commit is on the disk when it is answered, whatever happens next. With `normal` the
//! file cannot be damaged either, but a loss of power (not a crash of the process) may take back the last commits.
//!
//! Jobs that were held when the process ended wait again when the file is opened, before others, and that start
//! counts: it may be what ended the process. SQL stands in `sqlite/sql.rs`, tables in `sqlite/schema/`.

mod aside;
mod board;
mod books;
mod claim;
pub(super) mod clock;
mod dead;
mod doors;
pub(super) mod file;
pub(super) mod group;
mod hand_in;
mod labels;
mod look;
mod outbox;
mod readers;
mod settle;
mod sql;
mod sweep;
mod turns;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::contract::QueueError;
use crate::config::QueueConfig;
use board::Board;
use books::{Books, Page};
pub use clock::Clock;
use file::Kind;
use group::Writer;
use look::Kept;
use readers::Readers;

const KIND: Kind = Kind {
    setting: "QUEUE_FILE",
    // "IRqu"
    mark: 0x4952_7175,
    versions: &[include_str!("sqlite/schema/1.sql"), include_str!("sqlite/schema/2.sql")],
    way_out: "a file is for one process: give this one another file, or several processes one Redis (REDIS_URL)",
};

/// The queue in a file; cheap to clone. The last clone to go waits for what was handed in.
#[derive(Debug, Clone)]
pub struct SqliteQueue(Arc<Inner>);

struct Inner {
    config: Arc<QueueConfig>,
    clock: Clock,
    board: Arc<Board>,
    // Before the writer: the last connection to close tidies up.
    readers: Readers,
    writer: Writer<Books>,
    /// When each task's counters were last compared with its jobs.
    audited: Mutex<HashMap<String, u64>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteQueue").field("file", &self.config.file).finish_non_exhaustive()
    }
}

impl SqliteQueue {
    /// Opens `QUEUE_FILE`; makes it where it is missing.
    ///
    /// # Errors
    /// [`QueueError::File`] that names the setting: the file is another process's, another program's or a newer
    /// version's, or cannot be used.
    pub fn open(config: &QueueConfig) -> Result<Self, QueueError> {
        Self::open_with(config, clock::from)
    }

    /// Opens the file with a clock made from the time that it last saw; for tests that cannot wait.
    ///
    /// # Errors
    /// As [`SqliteQueue::open`].
    pub fn open_with(config: &QueueConfig, clock: impl FnOnce(u64) -> Clock) -> Result<Self, QueueError> {
        let opened = file::open(&config.file, &KIND, config.file_sync)?;
        let seen = books::one(&opened.connection, sql::LEDGER, [], |row| row.get(1)).map_err(file::failed)?;
        let clock = clock(clock::number(seen.unwrap_or_default()));
        let (config, board, path) = (Arc::new(config.clone()), Arc::new(Board::default()), opened.path.clone());
        let mut books = Books::open(opened, Arc::clone(&config), Arc::clone(&clock), Arc::clone(&board));
        let jobs = books.as_mut().map_err(|error| file::fault(error.to_string()))?.take_back();
        let jobs = jobs.map_err(file::failed)?;
        if jobs > 0 {
            tracing::warn!(jobs, file = %path.display(), "jobs were running when the queue was last closed; they wait again");
        }
        let books = books.map_err(file::failed)?;
        let limit = config.file_timeout;
        let readers = Readers::start(&path, limit)?;
        let writer = Writer::start("queue-writer", books, limit)
            .map_err(|error| file::fault(format!("QUEUE_FILE {}: no thread for it: {error}", path.display())))?;
        Ok(Self(Arc::new(Inner { config, clock, board, readers, writer, audited: Mutex::default() })))
    }

    /// Closes the file after what was handed in before; later requests are refused with [`QueueError::Closed`].
    pub async fn close(&self) {
        self.0.writer.close().await;
    }

    /// Runs a step on a task's page, made where it is missing.
    async fn write<T: Send + 'static>(
        &self,
        task: &str,
        weight: usize,
        mut step: impl FnMut(&mut Page<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let task = task.to_owned();
        self.0.writer.write(weight, move |books: &mut Books| step(&mut books.page_or_new(&task)?)).await
    }

    /// Runs a step on a task's page; nothing for a task that the file does not know.
    async fn write_known<T: Default + Send + 'static>(
        &self,
        task: &str,
        weight: usize,
        mut step: impl FnMut(&mut Page<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let task = task.to_owned();
        let step = move |books: &mut Books| match books.page(&task) {
            Some(mut page) => step(&mut page),
            None => Ok(T::default()),
        };
        self.0.writer.write(weight, step).await
    }

    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.0.readers.read(look).await
    }

    fn now(&self) -> u64 {
        (self.0.clock)()
    }

    fn kept(&self) -> Kept {
        Kept::new(self.now(), self.0.config.result_ttl)
    }
}

#[cfg(test)]
mod tests;
