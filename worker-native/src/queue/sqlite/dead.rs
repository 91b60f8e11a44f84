//! Dead letters: listed, handed in again, dropped. They are made where a job ends (`settle`).

use rusqlite::{Connection, Row};

use super::books::{Page, all, one, run};
use super::clock::{number, stored};
use super::sql;
use super::turns::Head;
use crate::queue::contract::{DeadLetter, QueueError};
use crate::queue::job::Entry;

/// A dead letter as the file gives it.
pub(super) struct Buried {
    job_id: String,
    body: Vec<u8>,
    result: String,
    failures: String,
    died: i64,
}

impl Buried {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            job_id: row.get(0)?,
            body: row.get(1)?,
            result: row.get(2)?,
            failures: row.get(3)?,
            died: row.get(4)?,
        })
    }

    pub(super) fn into_letter(self) -> Result<DeadLetter, QueueError> {
        Ok(DeadLetter {
            entry: Entry::from_body(&self.body),
            result: super::look::raw(self.result)?,
            failures: serde_json::from_str(&self.failures).unwrap_or_default(),
            died_at: number(self.died),
            job_id: self.job_id,
        })
    }
}

/// Dead letters that died after `since`, newest first.
pub(super) fn list(
    file: &Connection,
    task: &str,
    since: i64,
    skip: usize,
    limit: usize,
) -> rusqlite::Result<Vec<Buried>> {
    let (limit, skip) = (stored(limit as u64), stored(skip as u64));
    all(file, sql::DEAD_LIST, (task, since, limit, skip), Buried::read)
}

/// One dead letter that died after `since`.
pub(super) fn letter(file: &Connection, task: &str, since: i64, job_id: &str) -> rusqlite::Result<Option<Buried>> {
    one(file, sql::DEAD_ONE, (task, since, job_id), Buried::read)
}

impl Page<'_> {
    /// Hands a dead letter in again; `false` where there is none.
    pub(super) fn requeue(&mut self, job_id: &str) -> rusqlite::Result<bool> {
        let Some(seq) = self.dead_letter(job_id)? else { return Ok(false) };
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?));
        let old = one(self.file, sql::JOB_NAMED, (self.task.id, job_id), read)?;
        match old {
            // Handed in by its old id since its result expired: it is in the queue already.
            Some((_, state, _)) if state != sql::ENDED => return self.drop_dead(job_id),
            Some((id, _, result)) => {
                run(self.file, sql::JOB_DROP, [id])?;
                run(self.file, sql::RESULT_DROP, [result])?;
            }
            None => {}
        }
        run(self.file, sql::OUTBOX_FORGET, (self.task.id, job_id))?;
        let id = *self.next_job;
        *self.next_job += 1;
        run(self.file, sql::REQUEUE_JOB, (seq, id, self.now))?;
        run(self.file, sql::REQUEUE_BODY, (seq, id))?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let facts = one(self.file, sql::DEAD_FACTS, [seq], read)?;
        self.drop_dead(job_id)?;
        if let Some((class, tenant, lane, bytes)) = facts {
            let (tenant, lane): (String, String) = (tenant, lane);
            self.arrived(class, &tenant, &lane, bytes, Head { id, accepted: self.now })?;
        }
        self.task.note(job_id);
        Ok(true)
    }

    /// Drops a dead letter; `false` where there is none.
    pub(super) fn drop_dead(&mut self, job_id: &str) -> rusqlite::Result<bool> {
        let Some(seq) = self.dead_letter(job_id)? else { return Ok(false) };
        run(self.file, sql::DEAD_DROP, [seq])?;
        self.task.dead -= 1;
        Ok(true)
    }

    fn dead_letter(&self, job_id: &str) -> rusqlite::Result<Option<i64>> {
        let since = self.ago(self.config.dead_ttl);
        one(self.file, sql::DEAD_KNOWN, (self.task.id, job_id, since), |row| row.get(0))
    }
}
