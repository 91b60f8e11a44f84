//! What the writing thread knows of the file, so that it need not ask it: each task's counters and whose turn it is.
//!
//! Counters change here at every step and are written once a transaction, in it. When a transaction is taken back,
//! all of this is read anew from the file, which alone is right. A step works on one task's [`Page`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::board::{Board, Signal};
use super::clock::{Clock, number, stored};
use super::file::{Lock, Opened, keep_log_short};
use super::group::Ledger;
use super::sql;
use super::turns::{CLASSES, Head, Turns};
use crate::config::QueueConfig;
use crate::queue::contract::Depths;

/// Runs a statement that gives nothing; how many rows it changed.
pub(super) fn run(file: &Connection, statement: &str, values: impl Params) -> rusqlite::Result<usize> {
    file.prepare_cached(statement)?.execute(values)
}

/// Runs a statement that gives one row at most.
pub(super) fn one<T>(
    file: &Connection,
    statement: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    file.prepare_cached(statement)?.query_row(values, read).optional()
}

/// Runs a statement to its end.
pub(super) fn all<T>(
    file: &Connection,
    statement: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    file.prepare_cached(statement)?.query_map(values, read)?.collect()
}

/// Unsettled jobs of a lane, and those of them that are held.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lane {
    pub(super) depth: i64,
    pub(super) running: i64,
}

/// Unsettled jobs of a tenant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) jobs: i64,
    pub(super) bytes: i64,
}

/// One task's counters, and whose turn it is.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: i64,
    pub(super) lanes: BTreeMap<String, Lane>,
    pub(super) bytes: i64,
    pub(super) delayed: i64,
    pub(super) settled: i64,
    pub(super) unrun: i64,
    pub(super) lost: i64,
    pub(super) dead: i64,
    pub(super) returned: i64,
    pub(super) turns: Turns,
    /// When the first pause ends, or earlier.
    pub(super) due: i64,
    /// Jobs to be told of; only while somebody watches.
    changed: Vec<String>,
    touched: bool,
    signal: Arc<Signal>,
}

/// The writing thread's books.
pub(super) struct Books {
    file: Connection,
    config: Arc<QueueConfig>,
    clock: Clock,
    board: Arc<Board>,
    tasks: HashMap<String, Task>,
    /// Of the tenants that this transaction has touched.
    usage: HashMap<(i64, String), Usage>,
    next_job: i64,
    doubtful: bool,
    /// Rows changed by this connection before the transaction.
    changes: u64,
    path: std::path::PathBuf,
    // Behind the connection: given up when that is closed.
    _lock: Lock,
}

/// One task's part of the books, for one step.
pub(super) struct Page<'a> {
    pub(super) file: &'a Connection,
    pub(super) config: &'a QueueConfig,
    pub(super) task: &'a mut Task,
    pub(super) usage: &'a mut HashMap<(i64, String), Usage>,
    pub(super) next_job: &'a mut i64,
    /// The step's time.
    pub(super) now: i64,
}

impl Books {
    /// Reads the books of a file.
    pub(super) fn open(
        opened: Opened,
        config: Arc<QueueConfig>,
        clock: Clock,
        board: Arc<Board>,
    ) -> rusqlite::Result<Self> {
        let Opened { connection: file, path, lock } = opened;
        let (tasks, usage) = (HashMap::new(), HashMap::new());
        let mut books = Self {
            file,
            config,
            clock,
            board,
            tasks,
            usage,
            next_job: 1,
            doubtful: true,
            changes: 0,
            path,
            _lock: lock,
        };
        books.refresh()?;
        Ok(books)
    }

    /// Gives back what was held when the file was last closed; how many jobs that were.
    pub(super) fn take_back(&mut self) -> rusqlite::Result<usize> {
        let transaction = self.file.unchecked_transaction()?;
        let mut jobs = 0;
        for task in self.tasks.values() {
            jobs += run(&self.file, sql::ORPHANS_BACK, [task.id])?;
            for (name, lane) in &task.lanes {
                run(&self.file, sql::LANE_WRITE, (task.id, name, lane.depth, 0))?;
            }
        }
        transaction.commit()?;
        self.doubtful = true;
        self.refresh()?;
        Ok(jobs)
    }

    /// A task's page; `None` for a task that the file does not know.
    pub(super) fn page(&mut self, task: &str) -> Option<Page<'_>> {
        let now = stored((self.clock)());
        let task = self.tasks.get_mut(task)?;
        task.touched = true;
        let (usage, next_job) = (&mut self.usage, &mut self.next_job);
        Some(Page { file: &self.file, config: &self.config, task, usage, next_job, now })
    }

    /// A task's page, made where it is missing.
    pub(super) fn page_or_new(&mut self, task: &str) -> rusqlite::Result<Page<'_>> {
        if !self.tasks.contains_key(task) {
            run(&self.file, sql::TASK_NEW, [task])?;
            let fresh = Task::new(self.file.last_insert_rowid(), self.board.signal(task));
            self.tasks.insert(task.to_owned(), fresh);
        }
        self.page(task).ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// Reads a task's page again from the file.
    pub(super) fn reread(&mut self, task: &str) -> rusqlite::Result<()> {
        if let Some(task) = self.tasks.get_mut(task) {
            task.read_turns(&self.file)?;
        }
        Ok(())
    }

    fn read(&mut self) -> rusqlite::Result<()> {
        self.tasks.clear();
        self.usage.clear();
        let ledger = |row: &Row<'_>| row.get(0);
        self.next_job = one(&self.file, sql::LEDGER, [], ledger)?.unwrap_or(1);
        let board = &self.board;
        let known = all(&self.file, sql::TASKS, [], |row| {
            let name: String = row.get(1)?;
            let mut task = Task::new(row.get(0)?, board.signal(&name));
            (task.bytes, task.delayed, task.settled) = (row.get(2)?, row.get(3)?, row.get(4)?);
            (task.lost, task.dead, task.unrun) = (row.get(5)?, row.get(6)?, row.get(7)?);
            Ok((name, task))
        })?;
        for (name, mut task) in known {
            let lane = |row: &Row<'_>| Ok((row.get(0)?, Lane { depth: row.get(1)?, running: row.get(2)? }));
            task.lanes = all(&self.file, sql::LANES, [task.id], lane)?.into_iter().collect();
            task.read_turns(&self.file)?;
            task.publish();
            self.tasks.insert(name, task);
        }
        Ok(())
    }
}

impl Ledger for Books {
    fn connection(&self) -> &Connection {
        &self.file
    }

    fn refresh(&mut self) -> rusqlite::Result<()> {
        if self.doubtful {
            self.read()?;
            self.doubtful = false;
        }
        self.changes = self.file.total_changes();
        Ok(())
    }

    fn seal(&mut self) -> rusqlite::Result<()> {
        // An idle consumer's claims must not make the disk work.
        if self.file.total_changes() == self.changes {
            return Ok(());
        }
        for task in self.tasks.values().filter(|task| task.touched) {
            let Task { id, bytes, delayed, settled, lost, dead, unrun, .. } = task;
            run(&self.file, sql::TASK_WRITE, (id, bytes, delayed, settled, lost, dead, unrun))?;
            for (name, lane) in &task.lanes {
                run(&self.file, sql::LANE_WRITE, (id, name, lane.depth, lane.running))?;
            }
        }
        for ((task, name), usage) in self.usage.drain() {
            if usage.jobs > 0 {
                run(&self.file, sql::TENANT_WRITE, (task, &name, usage.jobs, usage.bytes))?;
            } else {
                run(&self.file, sql::TENANT_FORGET, (task, &name))?;
            }
        }
        run(&self.file, sql::LEDGER_WRITE, (self.next_job, stored((self.clock)())))?;
        Ok(())
    }

    fn committed(&mut self) {
        for task in self.tasks.values_mut().filter(|task| task.touched) {
            task.touched = false;
            task.publish();
        }
    }

    fn undone(&mut self) {
        self.doubtful = true;
    }

    fn tidy(&mut self) {
        keep_log_short(&self.file, &self.path);
    }
}

impl Task {
    fn new(id: i64, signal: Arc<Signal>) -> Self {
        Self {
            id,
            lanes: BTreeMap::new(),
            bytes: 0,
            delayed: 0,
            settled: 0,
            unrun: 0,
            lost: 0,
            dead: 0,
            returned: 0,
            turns: Turns::default(),
            due: i64::MAX,
            changed: Vec::new(),
            touched: false,
            signal,
        }
    }

    /// Whose turn it is, from the jobs; costs what the tenants are many, not the jobs.
    fn read_turns(&mut self, file: &Connection) -> rusqlite::Result<()> {
        self.turns = Turns::default();
        let count = |row: &Row<'_>| row.get(0);
        self.returned = one(file, sql::RETURNED_COUNT, [self.id], count)?.unwrap_or(0);
        self.due = one(file, sql::EARLIEST_DELAYED, [self.id], count)?.unwrap_or(i64::MAX);
        for class in 0..CLASSES {
            let number = stored(class as u64);
            let head = |row: &Row<'_>| Ok(Head { id: row.get(0)?, accepted: row.get(1)? });
            if let Some(head) = one(file, sql::FLOW_HEAD, (self.id, number, ""), head)? {
                self.turns.add(class, "", head);
            }
            let next = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, Head { id: row.get(1)?, accepted: row.get(2)? }));
            let mut tenant = String::new();
            while let Some((name, head)) = one(file, sql::NEXT_FLOW, (self.id, number, &tenant), next)? {
                self.turns.add(class, &name, head);
                tenant = name;
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.signal.set(self.returned > 0 || self.turns.any(), self.due);
        self.signal.tell(std::mem::take(&mut self.changed));
    }

    /// Unsettled jobs, of all lanes.
    pub(super) fn depth(&self) -> i64 {
        self.lanes.values().map(|lane| lane.depth).sum()
    }

    /// Unsettled jobs by lane; without the lanes that have none.
    pub(super) fn depths(&self) -> Depths {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.depth > 0)
            .map(|(name, lane)| (name.clone(), to_u32(lane.depth)))
            .collect()
    }

    /// A lane's counters.
    pub(super) fn lane(&mut self, name: &str) -> &mut Lane {
        self.lanes.entry(name.to_owned()).or_default()
    }

    /// Notes a change of a job for those who watch.
    pub(super) fn note(&mut self, job_id: &str) {
        if self.signal.is_watched() {
            self.changed.push(job_id.to_owned());
        }
    }
}

impl Page<'_> {
    /// What a tenant has; none for jobs without one.
    pub(super) fn usage(&mut self, tenant: &str) -> rusqlite::Result<Option<&mut Usage>> {
        if tenant.is_empty() {
            return Ok(None);
        }
        let key = (self.task.id, tenant.to_owned());
        if !self.usage.contains_key(&key) {
            let read = |row: &Row<'_>| Ok(Usage { jobs: row.get(0)?, bytes: row.get(1)? });
            let known = one(self.file, sql::TENANT, (self.task.id, tenant), read)?;
            self.usage.insert(key.clone(), known.unwrap_or_default());
        }
        Ok(self.usage.get_mut(&key))
    }

    /// A tenant's first waiting job changed: looks it up.
    pub(super) fn reset_head(&mut self, class: i64, tenant: &str) -> rusqlite::Result<()> {
        let read = |row: &Row<'_>| Ok(Head { id: row.get(0)?, accepted: row.get(1)? });
        let head = one(self.file, sql::FLOW_HEAD, (self.task.id, class, tenant), read)?;
        self.task.turns.reset(usize::try_from(class).unwrap_or(usize::MAX), tenant, head);
        Ok(())
    }

    /// The milliseconds of a setting.
    pub(super) fn ago(&self, age: std::time::Duration) -> i64 {
        self.now.saturating_sub(stored(super::clock::ms(age)))
    }
}

/// A counter as the contract tells it.
pub(super) fn to_u32(count: i64) -> u32 {
    u32::try_from(number(count)).unwrap_or(u32::MAX)
}
