//! Keeping the file small and its numbers right: what expired goes in small steps, between other writes.

use std::collections::HashMap;

use rusqlite::Row;

use super::books::{Books, Lane, Page, Usage, all, one, run};
use super::clock::stored;
use super::group::Ledger;
use super::sql;
use crate::queue::contract::AWAITED_TTL;

/// Rows that one step removes, of each kind.
pub(super) const STEP: i64 = 500;
/// Free pages that stay in the file: it will need them again (16 MiB).
const FREE_PAGES: i64 = 4_096;
/// Free pages that one step gives back to the disk.
const GIVEN_BACK: i64 = 1_024;

impl Page<'_> {
    /// Removes some of what expired; whether there may be more.
    pub(super) fn sweep(&mut self) -> rusqlite::Result<bool> {
        let results = self.sweep_results(STEP)?;
        let keys = self.sweep_keys(STEP)?;
        let dead = self.sweep_dead()?;
        let labels = self.sweep_answers(STEP)?.max(self.sweep_labels(STEP)?);
        Ok(results || stored(keys.max(dead).max(labels) as u64) >= STEP)
    }

    /// Removes so many results that expired, of each kind; whether there may be more. Done with every settlement, so
    /// that the file cannot grow faster than it is looked after.
    pub(super) fn sweep_results(&self, limit: i64) -> rusqlite::Result<bool> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let awaited = all(self.file, sql::EXPIRED_AWAITED, (self.ago(AWAITED_TTL), limit), read)?;
        let mut oldest = Vec::new();
        let mut select = self.file.prepare_cached(sql::OLDEST_RESULTS)?;
        let mut rows = select.query([limit])?;
        while let Some(row) = rows.next()? {
            // What lies behind is younger, or waits at most for an awaited one before it.
            if self.is_kept(row.get(2)?, row.get(3)?) {
                break;
            }
            oldest.push((row.get(0)?, row.get(1)?));
        }
        drop(rows);
        self.remove(&awaited)?;
        self.remove(&oldest)?;
        Ok(stored(awaited.len().max(oldest.len()) as u64) >= limit)
    }

    /// Forgets so many idempotency keys whose time is over.
    pub(super) fn sweep_keys(&self, limit: i64) -> rusqlite::Result<usize> {
        run(self.file, sql::ONCE_EXPIRED, (self.now, limit))
    }

    fn remove(&self, results: &[(i64, i64)]) -> rusqlite::Result<()> {
        for (seq, job) in results {
            run(self.file, sql::RESULT_DROP, [seq])?;
            run(self.file, sql::JOB_DROP, [job])?;
        }
        Ok(())
    }

    fn sweep_dead(&mut self) -> rusqlite::Result<usize> {
        let since = self.ago(self.config.dead_ttl);
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let oldest = all(self.file, sql::DEAD_EXPIRED, (self.task.id, STEP), read)?;
        let mut removed = 0;
        for (seq, _) in oldest.iter().take_while(|(_, died)| *died <= since) {
            removed += run(self.file, sql::DEAD_DROP, [seq])?;
        }
        self.task.dead -= stored(removed as u64);
        Ok(removed)
    }

    /// Makes the counters anew from the jobs; how many jobs were counted and are not there.
    fn recount(&mut self) -> rusqlite::Result<i64> {
        let before = self.task.depth();
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, i64>(4)?,
            ))
        };
        let rows = all(self.file, sql::RECOUNT, [self.task.id], read)?;
        run(self.file, sql::TENANTS_FORGET, [self.task.id])?;
        let mut usage: HashMap<String, Usage> = HashMap::new();
        self.task.lanes.values_mut().for_each(|lane| *lane = Lane::default());
        (self.task.bytes, self.task.delayed) = (0, 0);
        for (lane, tenant, state, jobs, bytes) in rows {
            let lane = self.task.lane(&lane);
            lane.depth += jobs;
            lane.running += if state == sql::RUNNING { jobs } else { 0 };
            self.task.delayed += if state == sql::DELAYED { jobs } else { 0 };
            self.task.bytes += bytes;
            let usage = usage.entry(tenant).or_default();
            (usage.jobs, usage.bytes) = (usage.jobs + jobs, usage.bytes + bytes);
        }
        let task = self.task.id;
        self.usage.retain(|(of, _), _| *of != task);
        let tenants = usage.into_iter().filter(|(tenant, _)| !tenant.is_empty());
        self.usage.extend(tenants.map(|(tenant, usage)| ((task, tenant), usage)));
        let lost = (before - self.task.depth()).max(0);
        self.task.lost += lost;
        Ok(lost)
    }
}

impl Books {
    /// Makes a task's counters and turns anew from its jobs; how many jobs were lost.
    pub(super) fn mend(&mut self, task: &str) -> rusqlite::Result<i64> {
        let Some(mut page) = self.page(task) else { return Ok(0) };
        let lost = page.recount()?;
        self.reread(task)?;
        Ok(lost)
    }

    /// Gives some free pages back to the disk; whether there are more to give.
    pub(super) fn shrink(&mut self) -> rusqlite::Result<bool> {
        let file = self.connection();
        let pages = |pragma: &str| one(file, pragma, [], |row| row.get::<_, i64>(0));
        let free = pages("PRAGMA freelist_count")?.unwrap_or(0);
        let total = pages("PRAGMA page_count")?.unwrap_or(0);
        let spare = free - FREE_PAGES.max(total / 4);
        if spare <= 0 {
            return Ok(false);
        }
        // To its end: each step gives one page back.
        let statement = format!("PRAGMA incremental_vacuum({})", spare.min(GIVEN_BACK));
        let mut vacuum = file.prepare(&statement)?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(spare > GIVEN_BACK)
    }

    /// Asks for room as a job would, and gives it back.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let file = self.connection();
        run(file, sql::PROBE, [])?;
        run(file, sql::PROBE_TIDY, [file.last_insert_rowid()])?;
        Ok(())
    }
}
