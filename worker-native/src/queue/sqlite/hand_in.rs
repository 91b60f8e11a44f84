//! Jobs on their way into the file: keys used before, bounds, and the rows of what is taken.

use rusqlite::Row;

use super::books::{Page, one, run, to_u32};
use super::clock::{ms, number, stored};
use super::sql;
use super::turns::Head;
use crate::queue::contract::{Bound, Enqueued, Full, NewJob, Once, QueueError, Stored};
use crate::queue::job::Priority;

/// A job of so many bytes more weighs as two in a transaction, so that large ones make no long one.
const JOB_BYTES: usize = 4_096;

/// A job as it is written: made before it comes to the writing thread, which has enough to do.
pub(super) struct Parcel {
    job_id: String,
    class: i64,
    tenant: String,
    lane: String,
    body: Vec<u8>,
    deadline: Option<i64>,
    weight: usize,
    room: Option<u32>,
    once: Option<Once>,
    callback: Option<String>,
}

impl Parcel {
    /// `now` is when it is handed in, on the queue's clock: its time runs also while it waits to be written.
    pub(super) fn new(job: NewJob, now: u64) -> Result<Self, QueueError> {
        let NewJob { entry, left, room, once } = job;
        let body = entry.to_body().map_err(QueueError::Corrupt)?;
        Ok(Self {
            class: class_of(entry.priority),
            weight: 1 + body.len() / JOB_BYTES,
            body,
            deadline: left.map(|left| stored(now.saturating_add(ms(left)))),
            room,
            once,
            job_id: entry.job_id,
            tenant: entry.tenant.unwrap_or_default(),
            lane: entry.lane,
            callback: entry.callback.filter(|url| !url.is_empty()),
        })
    }

    /// What it adds to a transaction, in jobs.
    pub(super) const fn weight(&self) -> usize {
        self.weight
    }

    fn size(&self) -> i64 {
        stored(self.body.len() as u64)
    }
}

const fn class_of(priority: Priority) -> i64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

impl Page<'_> {
    /// Stores jobs, each on its own merits.
    pub(super) fn enqueue(&mut self, parcels: &[Parcel]) -> rusqlite::Result<Vec<Enqueued>> {
        let mut answers = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            answers.push(self.take_in(parcel)?);
        }
        let keyed = parcels.iter().filter(|parcel| parcel.once.is_some()).count();
        if keyed > 0 {
            self.sweep_keys(2 * stored(keyed as u64))?;
        }
        let depths = self.task.depths();
        for answer in &mut answers {
            if let Enqueued::Accepted(after) = answer {
                after.clone_from(&depths);
            }
        }
        Ok(answers)
    }

    fn take_in(&mut self, parcel: &Parcel) -> rusqlite::Result<Enqueued> {
        if let Some(once) = &parcel.once
            && let Some(before) = self.used_before(once)?
        {
            return Ok(before);
        }
        if let Some(bound) = self.bound_met(parcel)? {
            // One that is there already takes no more room.
            let known = one(self.file, sql::JOB_KNOWN, (self.task.id, &parcel.job_id), |_| Ok(()))?;
            let full = Full { bound, depth: to_u32(self.task.depth()), bytes: number(self.task.bytes) };
            return Ok(if known.is_some() { Enqueued::Accepted(<_>::default()) } else { Enqueued::Full(full) });
        }
        self.store(parcel)?;
        Ok(Enqueued::Accepted(<_>::default()))
    }

    fn used_before(&self, once: &Once) -> rusqlite::Result<Option<Enqueued>> {
        let read = |row: &Row<'_>| {
            if row.get_ref(0)?.as_str()? != once.fingerprint {
                return Ok(Enqueued::Conflict);
            }
            // One that is being made, by another door, has no answer to give.
            let Some(status) = row.get::<_, Option<u16>>(1)? else { return Ok(Enqueued::Conflict) };
            Ok(Enqueued::Replayed(Stored { status, body: row.get::<_, Option<String>>(2)?.unwrap_or_default() }))
        };
        one(self.file, sql::ONCE, (self.task.id, &once.key, self.now), read)
    }

    /// The first bound that leaves no room.
    fn bound_met(&mut self, parcel: &Parcel) -> rusqlite::Result<Option<Bound>> {
        let (depth, bytes, size) = (self.task.depth(), self.task.bytes, parcel.size());
        let (max_depth, max_bytes) = (i64::from(self.config.max_depth), stored(self.config.max_bytes));
        if depth >= max_depth {
            return Ok(Some(Bound::Jobs));
        }
        if bytes.saturating_add(size) > max_bytes {
            return Ok(Some(Bound::Bytes));
        }
        if parcel.room.is_some_and(|room| depth >= i64::from(room)) {
            return Ok(Some(Bound::Wait));
        }
        let percent = i64::from(self.config.tenant_max_percent);
        let over = self.usage(&parcel.tenant)?.is_some_and(|usage| {
            usage.jobs.saturating_mul(100) >= max_depth.saturating_mul(percent)
                || usage.bytes.saturating_add(size).saturating_mul(100) > max_bytes.saturating_mul(percent)
        });
        Ok(over.then_some(Bound::Tenant))
    }

    fn store(&mut self, parcel: &Parcel) -> rusqlite::Result<()> {
        let Parcel { job_id, class, tenant, lane, callback, .. } = parcel;
        let (id, size, now) = (*self.next_job, parcel.size(), self.now);
        let values = (id, self.task.id, job_id, class, tenant, lane, now, parcel.deadline, size, callback);
        if run(self.file, sql::JOB_NEW, values)? == 0 {
            return Ok(());
        }
        run(self.file, sql::BODY_NEW, (id, &parcel.body))?;
        *self.next_job += 1;
        if let Some(Once { key, fingerprint, answer }) = &parcel.once {
            let expires = now.saturating_add(stored(ms(self.config.idempotency_ttl)));
            let values = (self.task.id, key, fingerprint, answer.status, &answer.body, expires);
            run(self.file, sql::ONCE_WRITE, values)?;
        }
        self.arrived(*class, tenant, lane, size, Head { id, accepted: now })
    }

    /// Counts a job that has just been stored to wait.
    pub(super) fn arrived(
        &mut self,
        class: i64,
        tenant: &str,
        lane: &str,
        size: i64,
        job: Head,
    ) -> rusqlite::Result<()> {
        if let Some(usage) = self.usage(tenant)? {
            usage.jobs += 1;
            usage.bytes += size;
        }
        self.task.lane(lane).depth += 1;
        self.task.bytes += size;
        self.task.turns.add(usize::try_from(class).unwrap_or(usize::MAX), tenant, job);
        Ok(())
    }
}
