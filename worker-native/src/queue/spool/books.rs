//! The spool's table, and what the writing thread knows of it: how many jobs there are, and how large they are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension, Row};

use super::Appended;
use crate::queue::contract::{Depths, Enqueued, Stored};
use crate::queue::sqlite::Clock;
use crate::queue::sqlite::clock::{number, stored};
use crate::queue::sqlite::file::{Lock, Opened, keep_log_short};
use crate::queue::sqlite::group::Ledger;

/// What a row takes in the file beside its texts, roughly.
const ROW: usize = 256;
/// Free pages of an empty spool that stay in the file, and those that one step gives back.
const FREE_PAGES: i64 = 1_024;

const COLUMNS: &str = "place, task, job_id, lane, body, deadline, key, fingerprint, status, answer";

/// A job as its row has it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) task: String,
    pub(super) job_id: String,
    pub(super) lane: String,
    pub(super) body: Vec<u8>,
    pub(super) deadline: Option<i64>,
    pub(super) key: Option<String>,
    pub(super) fingerprint: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) answer: Option<String>,
}

impl Kept {
    fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Self)> {
        let kept = Self {
            task: row.get(1)?,
            job_id: row.get(2)?,
            lane: row.get(3)?,
            body: row.get(4)?,
            deadline: row.get(5)?,
            key: row.get(6)?,
            fingerprint: row.get(7)?,
            status: row.get(8)?,
            answer: row.get(9)?,
        };
        Ok((row.get(0)?, kept))
    }

    fn size(&self) -> i64 {
        let texts = [&self.key, &self.fingerprint, &self.answer];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        stored((self.body.len() + texts + self.job_id.len() + ROW) as u64)
    }
}

/// Jobs of a task, by lane, and their size.
#[derive(Debug, Default)]
struct Held {
    lanes: HashMap<String, i64>,
    bytes: i64,
}

/// The writing thread's books.
pub(super) struct Books {
    file: Connection,
    path: PathBuf,
    max_bytes: i64,
    clock: Clock,
    tasks: HashMap<String, Held>,
    waiting: Arc<AtomicU64>,
    doubtful: bool,
    changes: u64,
    // Behind the connection: given up when that is closed.
    _lock: Lock,
}

/// The file's clock as it was last written.
pub(super) fn last_seen(file: &Connection) -> rusqlite::Result<i64> {
    file.query_row("SELECT clock FROM ledger WHERE one = 1", [], |row| row.get(0))
}

impl Books {
    pub(super) fn open(
        opened: Opened,
        max_bytes: i64,
        clock: Clock,
        waiting: Arc<AtomicU64>,
    ) -> rusqlite::Result<Self> {
        let Opened { connection: file, path, lock } = opened;
        let tasks = HashMap::new();
        let mut books = Self { file, path, max_bytes, clock, tasks, waiting, doubtful: true, changes: 0, _lock: lock };
        books.refresh()?;
        books.publish();
        Ok(books)
    }

    fn bytes(&self) -> i64 {
        self.tasks.values().map(|held| held.bytes).sum()
    }

    /// Keeps jobs, all or none; one that is there already is kept once.
    pub(super) fn append(&mut self, task: &str, jobs: &[Kept]) -> rusqlite::Result<Appended> {
        let size: i64 = jobs.iter().map(Kept::size).sum();
        if self.bytes().saturating_add(size) > self.max_bytes {
            return Ok(Appended::Full);
        }
        let mut insert = self.file.prepare_cached(
            "INSERT INTO spooled (task, job_id, lane, body, deadline, key, fingerprint, status, answer, size) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (job_id) DO NOTHING",
        )?;
        let held = self.tasks.entry(task.to_owned()).or_default();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Kept { job_id, lane, body, deadline, key, fingerprint, status, answer, .. } = job;
            if let Some(before) = used_before(&self.file, task, job)? {
                answers.push(before);
                continue;
            }
            answers.push(Enqueued::Accepted(Depths::new()));
            let size = job.size();
            let values = (task, job_id, lane, body, deadline, key, fingerprint, status, answer, size);
            if insert.execute(values)? > 0 {
                *held.lanes.entry(lane.clone()).or_default() += 1;
                held.bytes += size;
            }
        }
        drop(insert);
        let depths = self.counts(task).0;
        for answer in &mut answers {
            if let Enqueued::Accepted(after) = answer {
                after.clone_from(&depths);
            }
        }
        Ok(Appended::Kept(answers))
    }

    pub(super) fn peek(&mut self, behind: i64, limit: usize) -> rusqlite::Result<Vec<(i64, Kept)>> {
        let statement = format!("SELECT {COLUMNS} FROM spooled WHERE place > ?1 AND aside = 0 ORDER BY place LIMIT ?2");
        let mut select = self.file.prepare_cached(&statement)?;
        select.query_map((behind, stored(limit as u64)), Kept::read)?.collect()
    }

    pub(super) fn find(&mut self, job_id: &str) -> rusqlite::Result<Option<(i64, Kept)>> {
        let statement = format!("SELECT {COLUMNS} FROM spooled WHERE job_id = ?1 AND aside = 0");
        self.file.prepare_cached(&statement)?.query_row([job_id], Kept::read).optional()
    }

    /// Removes rows.
    pub(super) fn forget(&mut self, places: &[i64]) -> rusqlite::Result<()> {
        self.take_off(places, "DELETE FROM spooled WHERE place = ?1 AND aside = 0 RETURNING task, lane, size")
    }

    /// Leaves rows in the file that nobody can read, and counts them no more.
    pub(super) fn set_aside(&mut self, places: &[i64]) -> rusqlite::Result<()> {
        self.take_off(places, "UPDATE spooled SET aside = 1 WHERE place = ?1 AND aside = 0 RETURNING task, lane, size")
    }

    fn take_off(&mut self, places: &[i64], statement: &str) -> rusqlite::Result<()> {
        let mut remove = self.file.prepare_cached(statement)?;
        for place in places {
            let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
            if let Some((task, lane, size)) = remove.query_row([place], read).optional()?
                && let Some(held) = self.tasks.get_mut(&task)
            {
                *held.lanes.entry(lane).or_default() -= 1;
                held.bytes -= size;
            }
        }
        self.tasks.retain(|_, held| held.bytes > 0);
        Ok(())
    }

    pub(super) fn counts(&self, task: &str) -> (Depths, u64) {
        let Some(held) = self.tasks.get(task) else { return (Depths::new(), 0) };
        let lanes = held.lanes.iter().filter(|(_, jobs)| **jobs > 0);
        let depths = lanes.map(|(lane, jobs)| (lane.clone(), u32::try_from(*jobs).unwrap_or(u32::MAX))).collect();
        (depths, number(held.bytes))
    }

    /// Asks for room by writing, since a full disk still answers a look.
    pub(super) fn has_room(&mut self) -> rusqlite::Result<bool> {
        self.write_clock()?;
        Ok(self.bytes().saturating_add(stored(4 * ROW as u64)) <= self.max_bytes)
    }

    fn write_clock(&self) -> rusqlite::Result<()> {
        let mut update = self.file.prepare_cached("UPDATE ledger SET clock = ?1 WHERE one = 1")?;
        update.execute([stored((self.clock)())]).map(drop)
    }

    fn publish(&self) {
        let jobs: i64 = self.tasks.values().flat_map(|held| held.lanes.values()).sum();
        self.waiting.store(number(jobs), Ordering::Release);
    }
}

impl Ledger for Books {
    fn connection(&self) -> &Connection {
        &self.file
    }

    fn refresh(&mut self) -> rusqlite::Result<()> {
        if self.doubtful {
            self.tasks.clear();
            let mut select = self.file.prepare_cached(
                "SELECT task, lane, count(*), sum(size) FROM spooled WHERE aside = 0 GROUP BY task, lane",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let held = self.tasks.entry(row.get(0)?).or_default();
                held.lanes.insert(row.get(1)?, row.get(2)?);
                held.bytes += row.get::<_, i64>(3)?;
            }
            self.doubtful = false;
        }
        self.changes = self.file.total_changes();
        Ok(())
    }

    fn seal(&mut self) -> rusqlite::Result<()> {
        if self.file.total_changes() == self.changes { Ok(()) } else { self.write_clock() }
    }

    fn committed(&mut self) {
        self.publish();
    }

    fn undone(&mut self) {
        self.doubtful = true;
    }

    fn tidy(&mut self) {
        keep_log_short(&self.file, &self.path);
        if self.waiting.load(Ordering::Acquire) == 0
            && let Err(error) = give_back(&self.file)
        {
            tracing::debug!(%error, "the empty spool keeps its size");
        }
    }
}

/// What a key was used for before, by another job in the spool.
fn used_before(file: &Connection, task: &str, job: &Kept) -> rusqlite::Result<Option<Enqueued>> {
    let (Some(key), Some(fingerprint)) = (&job.key, &job.fingerprint) else { return Ok(None) };
    let mut select = file.prepare_cached(
        "SELECT fingerprint, status, answer FROM spooled WHERE task = ?1 AND key = ?2 AND job_id <> ?3 AND aside = 0",
    )?;
    let read = |row: &Row<'_>| {
        if row.get_ref(0)?.as_str_or_null()? != Some(fingerprint) {
            return Ok(Enqueued::Conflict);
        }
        Ok(Enqueued::Replayed(Stored { status: row.get(1)?, body: row.get(2)? }))
    };
    select.query_row((task, key, &job.job_id), read).optional()
}

/// Gives some of an empty spool's room back to the disk.
fn give_back(file: &Connection) -> rusqlite::Result<()> {
    let free: i64 = file.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    if free <= FREE_PAGES {
        return Ok(());
    }
    // To its end: each step gives one page back.
    let mut vacuum = file.prepare(&format!("PRAGMA incremental_vacuum({FREE_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
