//! Claimed jobs that are not settled: put aside for a while, or handed back.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::Row;

use super::books::{Page, all, one, run};
use super::claim::place;
use super::clock::{ms, stored};
use super::sql;
use crate::queue::job::Ticket;

/// A retry as it is written.
pub(super) struct Pause {
    pub(super) ticket: Ticket,
    pub(super) delay: Duration,
    pub(super) charged: bool,
    /// JSON.
    pub(super) failures: String,
}

impl Page<'_> {
    /// Puts a claimed job aside; `false` where it is not the consumer's any more.
    pub(super) fn put_aside(&mut self, consumer: &str, pause: &Pause) -> rusqlite::Result<bool> {
        let Some((id, lane, starts)) = self.held(consumer, &pause.ticket)? else { return Ok(false) };
        let due = self.now.saturating_add(stored(ms(pause.delay)));
        let starts = if pause.charged { starts } else { (starts - 1).max(0) };
        run(self.file, sql::PUT_ASIDE, (id, due, starts, &pause.failures))?;
        self.task.lane(&lane).running -= 1;
        self.task.delayed += 1;
        self.task.due = self.task.due.min(due);
        self.task.note(&pause.ticket.job_id);
        Ok(true)
    }

    /// Hands a claimed job back, as if it had not been claimed.
    pub(super) fn hand_back(&mut self, consumer: &str, ticket: &Ticket) -> rusqlite::Result<()> {
        match self.held(consumer, ticket)? {
            Some((id, lane, starts)) => self.give_up(id, &lane, starts, &ticket.job_id),
            None => Ok(()),
        }
    }

    /// Hands back what the consumer was given since a moment, but for what it knows of.
    pub(super) fn hand_back_unknown(
        &mut self,
        consumer: &str,
        known: &HashSet<i64>,
        since: i64,
    ) -> rusqlite::Result<u64> {
        let since = since.saturating_add(stored(ms(self.config.lease)));
        let read = |row: &Row<'_>| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
        };
        let mut handed = 0;
        for (id, lane, starts, job_id) in all(self.file, sql::HELD_SINCE, (self.task.id, consumer, since), read)? {
            if !known.contains(&id) {
                self.give_up(id, &lane, starts, &job_id)?;
                handed += 1;
            }
        }
        Ok(handed)
    }

    fn give_up(&mut self, id: i64, lane: &str, starts: i64, job_id: &str) -> rusqlite::Result<()> {
        run(self.file, sql::HAND_BACK, (id, (starts - 1).max(0)))?;
        self.task.lane(lane).running -= 1;
        self.task.returned += 1;
        self.task.note(job_id);
        Ok(())
    }

    /// Row, lane and starts of a job that the consumer holds.
    fn held(&self, consumer: &str, ticket: &Ticket) -> rusqlite::Result<Option<(i64, String, i64)>> {
        let Some(id) = place(ticket) else { return Ok(None) };
        let read = |row: &Row<'_>| Ok((id, row.get(0)?, row.get(1)?));
        one(self.file, sql::JOB_HELD, (id, self.task.id, consumer), read)
    }
}
