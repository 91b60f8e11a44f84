//! The end of a job: its one result, and all that hangs on it, in one step. Cancellation ends it the same way.

use std::borrow::Cow;

use rusqlite::Row;
use serde::Deserialize;

use super::books::{Page, all, one, run};
use super::claim::place;
use super::clock::stored;
use super::sql;
use crate::queue::contract::{AWAITED_TTL, Cancelled, QueueError, Settled, Settlement};
use crate::queue::job::{Outcome, Ticket};

/// A settlement as it is written: made before it comes to the writing thread.
pub(super) struct Verdict {
    ticket: Option<Ticket>,
    outcome: Outcome,
    result: String,
    /// What the result tells that listings look at.
    finished: Option<i64>,
    sensor: Option<String>,
    awaited: bool,
    /// JSON.
    failures: String,
}

/// The fields of a result that listings look at.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(default)]
    finished_at: Option<u64>,
    #[serde(borrow, default)]
    sensor_id: Option<Cow<'a, str>>,
}

impl Verdict {
    pub(super) fn new(settlement: Settlement) -> Result<Self, QueueError> {
        let Settlement { ticket, outcome, result, awaited, failures } = settlement;
        let failures = serde_json::to_string(&failures).map_err(|error| QueueError::Corrupt(error.to_string()))?;
        let (ticket, result) = (Some(ticket), result);
        Ok(Self { ticket, awaited, failures, ..Self::of(outcome, result) })
    }

    /// Of a job that is called off.
    pub(super) fn cancelled(result: &str) -> Self {
        Self::of(Outcome::Cancelled, result.to_owned())
    }

    fn of(outcome: Outcome, result: String) -> Self {
        let peek = serde_json::from_str::<Peek<'_>>(&result).ok();
        let finished = peek.as_ref().and_then(|peek| peek.finished_at).map(stored);
        let sensor = peek.and_then(|peek| peek.sensor_id).map(Cow::into_owned);
        Self { ticket: None, outcome, finished, sensor, result, awaited: false, failures: "[]".to_owned() }
    }
}

/// An unsettled job.
struct Unsettled {
    job_id: String,
    class: i64,
    tenant: String,
    lane: String,
    state: i64,
    bytes: i64,
    callback: Option<String>,
}

impl Page<'_> {
    /// Settles jobs; the first settlement of each counts.
    pub(super) fn settle(&mut self, verdicts: &[Verdict]) -> rusqlite::Result<Vec<Settled>> {
        let mut firsts = Vec::with_capacity(verdicts.len());
        for verdict in verdicts {
            let first = match verdict.ticket.as_ref().and_then(|ticket| Some((ticket, place(ticket)?))) {
                Some((ticket, id)) => self.end(id, &ticket.job_id, verdict)?.is_some(),
                None => false,
            };
            firsts.push(first);
        }
        self.sweep_results(2 * stored(verdicts.len() as u64))?;
        let depths = self.task.depths();
        Ok(firsts.into_iter().map(|first| Settled { first, depths: depths.clone() }).collect())
    }

    /// Ends a job whatever it is doing.
    pub(super) fn cancel(&mut self, job_id: &str, verdict: &Verdict) -> rusqlite::Result<Cancelled> {
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?));
        let Some((id, state, result)) = one(self.file, sql::JOB_NAMED, (self.task.id, job_id), read)? else {
            return Ok(Cancelled::Unknown);
        };
        if state == sql::ENDED {
            let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
            let known = one(self.file, sql::RESULT_OUTCOME, [result], read)?;
            let known = known.filter(|(_, ended, awaited)| self.is_kept(*ended, *awaited));
            return Ok(known.map_or(Cancelled::Unknown, |(outcome, ..)| Cancelled::Ended(outcome)));
        }
        let ended = self.end(id, job_id, verdict)?;
        Ok(ended.map_or(Cancelled::Unknown, |state| Cancelled::Done { running: state == sql::RUNNING }))
    }

    /// Is a result still to be shown?
    pub(super) fn is_kept(&self, ended: i64, awaited: bool) -> bool {
        ended > self.ago(if awaited { AWAITED_TTL } else { self.config.result_ttl })
    }

    /// Ends an unsettled job; the state it was in, or `None` where it has ended before.
    fn end(&mut self, id: i64, job_id: &str, verdict: &Verdict) -> rusqlite::Result<Option<i64>> {
        let read = |row: &Row<'_>| {
            Ok(Unsettled {
                job_id: row.get(0)?,
                class: row.get(1)?,
                tenant: row.get(2)?,
                lane: row.get(3)?,
                state: row.get(4)?,
                bytes: row.get(5)?,
                callback: row.get(6)?,
            })
        };
        let job = one(self.file, sql::UNSETTLED, (id, self.task.id), read)?;
        let Some(job) = job.filter(|job| job.job_id == job_id) else { return Ok(None) };
        if verdict.outcome == Outcome::Dead {
            self.bury(id, &job.job_id, &verdict.result, &verdict.failures)?;
        }
        let Verdict { finished, sensor, awaited, outcome, result, .. } = verdict;
        let finished = finished.unwrap_or(self.now);
        let values = (self.task.id, id, self.now, finished, sensor, awaited, outcome.name(), result);
        run(self.file, sql::RESULT_NEW, values)?;
        run(self.file, sql::END, (id, self.file.last_insert_rowid()))?;
        run(self.file, sql::BODY_DROP, [id])?;
        if let Some(url) = &job.callback {
            run(self.file, sql::OUTBOX_NEW, (self.task.id, &job.job_id, url, self.now))?;
        }
        self.left(id, &job)?;
        self.task.unrun += i64::from(matches!(verdict.outcome, Outcome::Expired | Outcome::Cancelled));
        self.task.note(&job.job_id);
        Ok(Some(job.state))
    }

    /// Counts a job that has just ended.
    fn left(&mut self, id: i64, job: &Unsettled) -> rusqlite::Result<()> {
        if let Some(usage) = self.usage(&job.tenant)? {
            usage.jobs -= 1;
            usage.bytes -= job.bytes;
        }
        let lane = self.task.lane(&job.lane);
        lane.depth -= 1;
        if job.state == sql::RUNNING {
            lane.running -= 1;
        }
        self.task.bytes -= job.bytes;
        self.task.settled += 1;
        match job.state {
            sql::DELAYED => {
                self.task.delayed -= 1;
                self.look_for_due()?;
            }
            sql::RETURNED => self.task.returned -= 1,
            sql::WAITING => {
                let class = usize::try_from(job.class).unwrap_or(usize::MAX);
                if self.task.turns.is_head(class, &job.tenant, id) {
                    self.reset_head(job.class, &job.tenant)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Keeps a job as a dead letter; the oldest goes where there are too many.
    fn bury(&mut self, id: i64, job_id: &str, result: &str, failures: &str) -> rusqlite::Result<()> {
        let before = run(self.file, sql::DEAD_DROP_NAMED, (self.task.id, job_id))?;
        self.task.dead -= stored(before as u64);
        self.task.dead += stored(run(self.file, sql::DEAD_NEW, (id, result, failures, self.now))? as u64);
        let over = self.task.dead - i64::from(self.config.dead_max);
        if over > 0 {
            for seq in all(self.file, sql::DEAD_OLDEST, (self.task.id, over.min(1_000)), |row| row.get::<_, i64>(0))? {
                self.task.dead -= stored(run(self.file, sql::DEAD_DROP, [seq])? as u64);
            }
        }
        Ok(())
    }
}
