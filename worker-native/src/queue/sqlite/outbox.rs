//! Callbacks that are due, and what processes remember of calls: keys used once, facts about models.

use std::time::Duration;

use rusqlite::Row;

use super::books::{Page, all, one, run};
use super::clock::{ms, number, stored};
use super::sql;
use crate::queue::contract::{Begun, Callback, QueueError, Stored};

/// A callback as the file gives it.
pub(super) struct Due {
    id: i64,
    job_id: String,
    url: String,
    attempt: i64,
    ended: i64,
    now: i64,
    result: Option<String>,
}

impl Due {
    pub(super) fn into_callback(self) -> Result<Callback, QueueError> {
        Ok(Callback {
            job_id: self.job_id,
            ended_at: number(self.ended),
            url: self.url,
            attempt: super::books::to_u32(self.attempt),
            age: Duration::from_millis(number(self.now.saturating_sub(self.ended))),
            result: self.result.map(super::look::raw).transpose()?,
        })
    }
}

impl Page<'_> {
    /// Takes callbacks that are due; they are due again after the lease.
    pub(super) fn callbacks(&mut self, limit: usize, lease: Duration) -> rusqlite::Result<Vec<Due>> {
        let now = self.now;
        let read = |row: &Row<'_>| {
            Ok(Due {
                id: row.get(0)?,
                job_id: row.get(1)?,
                url: row.get(2)?,
                attempt: row.get::<_, i64>(3)? + 1,
                ended: row.get(4)?,
                now,
                result: None,
            })
        };
        let mut due = all(self.file, sql::OUTBOX_DUE, (self.task.id, now, stored(limit as u64)), read)?;
        for callback in &mut due {
            run(self.file, sql::OUTBOX_TAKE, (callback.id, now.saturating_add(stored(ms(lease)))))?;
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let result = one(self.file, sql::RESULT_NAMED, (self.task.id, &callback.job_id), read)?;
            callback.result =
                result.filter(|(_, ended, awaited)| self.is_kept(*ended, *awaited)).map(|(json, ..)| json);
        }
        Ok(due)
    }

    /// The callback of that ending needs no more tries.
    pub(super) fn callback_done(&mut self, job_id: &str, ended_at: u64, note: &str) -> rusqlite::Result<()> {
        if run(self.file, sql::OUTBOX_DROP, (self.task.id, job_id, stored(ended_at)))? > 0 {
            self.note_callback(job_id, note)?;
        }
        Ok(())
    }

    /// The callback of that ending is to be tried again.
    pub(super) fn callback_later(
        &mut self,
        job_id: &str,
        ended_at: u64,
        delay: Duration,
        note: &str,
    ) -> rusqlite::Result<()> {
        let due = self.now.saturating_add(stored(ms(delay)));
        if run(self.file, sql::OUTBOX_LATER, (self.task.id, job_id, stored(ended_at), due))? > 0 {
            self.note_callback(job_id, note)?;
        }
        Ok(())
    }

    fn note_callback(&mut self, job_id: &str, note: &str) -> rusqlite::Result<()> {
        run(self.file, sql::NOTE, (self.task.id, job_id, note))?;
        self.task.note(job_id);
        Ok(())
    }

    /// Begins a call under a key, unless it was made before.
    pub(super) fn begin(&mut self, key: &str, fingerprint: &str, patience: Duration) -> rusqlite::Result<Begun> {
        if let Some((known, answer)) = self.call(key)? {
            return Ok(match answer {
                _ if known != fingerprint => Begun::Conflict,
                None => Begun::InFlight,
                Some(answer) => Begun::Replayed(answer),
            });
        }
        let expires = self.now.saturating_add(stored(ms(patience)));
        let none: Option<&str> = None;
        run(self.file, sql::ONCE_WRITE, (self.task.id, key, fingerprint, none, none, expires))?;
        self.sweep_keys(2)?;
        Ok(Begun::New)
    }

    /// Keeps a call's answer, or forgets the call.
    pub(super) fn finish(&mut self, key: &str, fingerprint: &str, answer: Option<&Stored>) -> rusqlite::Result<()> {
        if self.call(key)?.is_some_and(|(known, _)| known != fingerprint) {
            return Ok(());
        }
        match answer {
            Some(Stored { status, body }) => {
                let expires = self.now.saturating_add(stored(ms(self.config.idempotency_ttl)));
                run(self.file, sql::ONCE_WRITE, (self.task.id, key, fingerprint, status, body, expires))?
            }
            None => run(self.file, sql::ONCE_FORGET, (self.task.id, key))?,
        };
        Ok(())
    }

    /// The fingerprint of a call and, once it was made, its answer.
    fn call(&self, key: &str) -> rusqlite::Result<Option<(String, Option<Stored>)>> {
        let read = |row: &Row<'_>| {
            let body = row.get::<_, Option<String>>(2)?.unwrap_or_default();
            let answer = row.get::<_, Option<u16>>(1)?.map(|status| Stored { status, body });
            Ok((row.get(0)?, answer))
        };
        one(self.file, sql::ONCE, (self.task.id, key, self.now), read)
    }

    /// Sets a fact, or removes it.
    pub(super) fn set_fact(&mut self, name: &str, field: &str, value: Option<&str>) -> rusqlite::Result<()> {
        match value {
            Some(value) => run(self.file, sql::FACT_SET, (self.task.id, name, field, value))?,
            None => run(self.file, sql::FACT_DROP, (self.task.id, name, field))?,
        };
        Ok(())
    }
}
