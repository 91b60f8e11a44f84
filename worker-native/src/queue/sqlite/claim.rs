//! Jobs on their way to a consumer: whose turn it is, whose lease ended, and what comes back.

use std::time::Duration;

use rusqlite::Row;

use super::books::{Page, all, one, run};
use super::clock::{ms, number, stored};
use super::sql;
use super::turns::{Head, Turn};
use crate::queue::job::{Claimed, Entry, Ticket};

/// Jobs whose pause is over that one claim puts back in line.
const PROMOTED: i64 = 1_000;

/// A job as the file gives it, to be read by whoever asked: the writing thread has enough to do.
pub(super) struct Held {
    id: i64,
    job_id: String,
    class: i64,
    tenant: String,
    lane: String,
    starts: i64,
    accepted: i64,
    deadline: Option<i64>,
    failures: Option<String>,
    bytes: i64,
    callback: Option<String>,
    body: Option<Vec<u8>>,
    now: i64,
}

impl Held {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            job_id: row.get(1)?,
            class: row.get(2)?,
            tenant: row.get(3)?,
            lane: row.get(4)?,
            starts: row.get(5)?,
            accepted: row.get(6)?,
            deadline: row.get(7)?,
            failures: row.get(8)?,
            bytes: row.get(9)?,
            callback: row.get(10)?,
            body: None,
            now: 0,
        })
    }

    pub(super) fn into_claimed(self) -> Claimed {
        let past = |from: i64, to: i64| Duration::from_millis(number(to.saturating_sub(from)));
        let entry = match &self.body {
            Some(body) => Entry::from_body(body),
            None => Err("its body is missing".to_owned()),
        };
        let failures = self.failures.as_deref().and_then(|failures| serde_json::from_str(failures).ok());
        Claimed {
            ticket: Ticket {
                job_id: self.job_id,
                lane: self.lane,
                flow: format!("{}:{}", self.class, self.tenant),
                place: self.id.to_string(),
                bytes: number(self.bytes),
                callback: self.callback,
            },
            attempt: super::books::to_u32(self.starts),
            waited: past(self.accepted, self.now),
            left: self.deadline.map(|deadline| past(self.now, deadline)),
            failures: failures.unwrap_or_default(),
            entry,
        }
    }
}

impl Page<'_> {
    /// Gives a consumer the jobs whose turn it is.
    pub(super) fn claim(&mut self, consumer: &str, limit: usize) -> rusqlite::Result<Vec<Held>> {
        let mut taken = Vec::new();
        self.promote()?;
        if self.task.returned > 0 {
            let returned = all(self.file, sql::FROM_RETURNED, (self.task.id, stored(limit as u64)), Held::read)?;
            self.task.returned -= stored(returned.len() as u64);
            self.hold(consumer, returned, &mut taken)?;
        }
        if taken.len() < limit && self.task.turns.any() {
            let lowest_first = self.task.turns.begins_low();
            while taken.len() < limit {
                let step = stored(ms(self.config.priority_step));
                let Some(turn) = self.task.turns.next(step, lowest_first) else { break };
                let jobs = self.take_turn(&turn, limit - taken.len())?;
                self.hold(consumer, jobs, &mut taken)?;
            }
        }
        Ok(taken)
    }

    /// Takes what one tenant may give in its turn; one that has nothing, whatever the books say, has no more turns.
    fn take_turn(&mut self, turn: &Turn, room: usize) -> rusqlite::Result<Vec<Held>> {
        let at_most = turn.at_most.min(room as u64);
        // One more, to know who is first then.
        let values = (self.task.id, stored(turn.class as u64), &*turn.tenant, stored(at_most.saturating_add(1)));
        let mut jobs = all(self.file, sql::FROM_FLOW, values, Held::read)?;
        let in_time = jobs.iter().skip(1).take_while(|job| job.accepted <= turn.until).count() + 1;
        let at_most = usize::try_from(at_most).unwrap_or(usize::MAX).min(in_time);
        let next = jobs.get(at_most).map(|job| Head { id: job.id, accepted: job.accepted });
        jobs.truncate(at_most);
        self.task.turns.served(turn.class, &turn.tenant, jobs.len() as u64, next);
        Ok(jobs)
    }

    /// Puts jobs whose pause is over back in line.
    fn promote(&mut self) -> rusqlite::Result<()> {
        if self.task.due > self.now {
            return Ok(());
        }
        let read = |row: &Row<'_>| {
            let head = Head { id: row.get(0)?, accepted: row.get(3)? };
            Ok((row.get::<_, i64>(1)?, row.get::<_, String>(2)?, head))
        };
        for (class, tenant, job) in all(self.file, sql::PROMOTABLE, (self.task.id, self.now, PROMOTED), read)? {
            run(self.file, sql::PROMOTE, [job.id])?;
            self.task.delayed -= 1;
            self.task.turns.add(usize::try_from(class).unwrap_or(usize::MAX), &tenant, job);
        }
        self.look_for_due()
    }

    /// Looks up when the first pause ends.
    pub(super) fn look_for_due(&mut self) -> rusqlite::Result<()> {
        let due = one(self.file, sql::EARLIEST_DELAYED, [self.task.id], |row| row.get(0))?;
        self.task.due = due.unwrap_or(i64::MAX);
        Ok(())
    }

    /// Takes over jobs whose lease ended.
    pub(super) fn reclaim(&mut self, consumer: &str, limit: usize) -> rusqlite::Result<Vec<Held>> {
        let overdue = all(self.file, sql::FROM_OVERDUE, (self.task.id, self.now, stored(limit as u64)), Held::read)?;
        for job in &overdue {
            self.task.lane(&job.lane).running -= 1;
        }
        let mut taken = Vec::with_capacity(overdue.len());
        self.hold(consumer, overdue, &mut taken)?;
        Ok(taken)
    }

    /// Gives jobs to a consumer, on top of what it takes already.
    fn hold(&mut self, consumer: &str, jobs: Vec<Held>, taken: &mut Vec<Held>) -> rusqlite::Result<()> {
        let until = self.now.saturating_add(stored(ms(self.config.lease)));
        for mut job in jobs {
            run(self.file, sql::HOLD, (job.id, until, consumer))?;
            job.body = one(self.file, sql::BODY, [job.id], |row| row.get(0))?;
            (job.starts, job.now) = (job.starts + 1, self.now);
            self.task.lane(&job.lane).running += 1;
            self.task.note(&job.job_id);
            taken.push(job);
        }
        Ok(())
    }

    /// Begins the lease of a job anew.
    pub(super) fn renew(&mut self, consumer: &str, ticket: &Ticket) -> rusqlite::Result<bool> {
        let Some(id) = place(ticket) else { return Ok(false) };
        let until = self.now.saturating_add(stored(ms(self.config.lease)));
        Ok(run(self.file, sql::RENEW, (id, self.task.id, consumer, until))? > 0)
    }
}

/// A ticket's row.
pub(super) fn place(ticket: &Ticket) -> Option<i64> {
    ticket.place.parse().ok()
}
