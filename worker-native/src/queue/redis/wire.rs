//! Between the contract's types and what scripts take and give.

use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};
use serde::Serialize;

use super::to_millis;
use crate::queue::contract::{Bound, Cancelled, Depths, Enqueued, Full, NewJob, QueueError, Settlement, Stored};
use crate::queue::job::{AttemptError, Claimed, Entry, Ticket};

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, QueueError> {
    serde_json::to_vec(value).map_err(|error| QueueError::Corrupt(error.to_string()))
}

pub(super) fn corrupt(what: &str) -> QueueError {
    QueueError::Corrupt(what.to_owned())
}

fn take<T: FromRedisValue>(value: Option<&Value>, what: &str) -> Result<T, QueueError> {
    let value = value.ok_or_else(|| corrupt(what))?;
    redis::from_redis_value_ref(value).map_err(|error| QueueError::Corrupt(format!("{what}: {error}")))
}

pub(super) fn depths(pairs: Vec<(String, i64)>) -> Depths {
    pairs.into_iter().map(|(lane, depth)| (lane, u32::try_from(depth.max(0)).unwrap_or(u32::MAX))).collect()
}

/// Where a job waits: its class, and its tenant's line in it.
pub(super) fn flow_of(entry: &Entry) -> String {
    match &entry.tenant {
        Some(tenant) => format!("{}:{tenant}", entry.priority.name()),
        None => entry.priority.name().to_owned(),
    }
}

/// A job as `enqueue.lua` takes it.
pub(super) fn add_job(command: &mut Cmd, job: &NewJob, json: &[u8]) {
    let entry = &job.entry;
    command.arg(&entry.job_id).arg(flow_of(entry)).arg(entry.tenant.as_deref().unwrap_or_default()).arg(&entry.lane);
    command.arg(json).arg(entry.feature_bytes());
    match job.left {
        Some(left) => command.arg(to_millis(left)),
        None => command.arg(""),
    };
    match job.room {
        Some(room) => command.arg(room),
        None => command.arg(""),
    };
    command.arg(entry.callback.as_deref().unwrap_or_default());
    match &job.once {
        Some(once) => {
            command.arg(&once.key).arg(&once.fingerprint).arg(once.answer.status).arg(&once.answer.body);
        }
        None => {
            command.arg("").arg("").arg("").arg("");
        }
    }
}

/// An answer of `enqueue.lua`.
pub(super) fn enqueued(answer: &[Value], depths: &Depths) -> Result<Enqueued, QueueError> {
    let kind: u8 = take(answer.first(), "an answer to a hand-in")?;
    Ok(match kind {
        0 => {
            let bound: String = take(answer.get(1), "a bound")?;
            let bound = match bound.as_str() {
                "bytes" => Bound::Bytes,
                "wait" => Bound::Wait,
                "tenant" => Bound::Tenant,
                _ => Bound::Jobs,
            };
            Enqueued::Full(Full { bound, depth: take(answer.get(2), "a depth")?, bytes: take(answer.get(3), "bytes")? })
        }
        2 => Enqueued::Replayed(Stored {
            status: take(answer.get(1), "a status")?,
            body: take(answer.get(2), "a body")?,
        }),
        3 => Enqueued::Conflict,
        _ => Enqueued::Accepted(depths.clone()),
    })
}

/// A settlement as `settle.lua` takes it.
pub(super) fn add_settlement(command: &mut Cmd, settlement: &Settlement, failures: &[u8]) {
    let Ticket { job_id, lane, flow, place, bytes, callback } = &settlement.ticket;
    command.arg(flow).arg(place).arg(job_id).arg(lane).arg(bytes).arg(callback.as_deref().unwrap_or_default());
    command.arg(settlement.outcome.name()).arg(&settlement.result);
    command.arg(if settlement.awaited { "1" } else { "" }).arg(failures);
}

/// A consumer and the places of its jobs, as several scripts take them.
pub(super) struct Places<'a>(pub(super) &'a str, pub(super) &'a [Ticket]);

impl Places<'_> {
    pub(super) fn add(&self, command: &mut Cmd) {
        command.arg(self.0);
        for ticket in self.1 {
            command.arg(&ticket.flow).arg(&ticket.place);
        }
    }
}

/// The jobs that `claim.lua` and `reclaim.lua` give.
pub(super) fn claimed(now: u64, taken: Vec<Value>) -> Result<Vec<Claimed>, QueueError> {
    taken.into_iter().map(|one| one_claimed(now, one)).collect()
}

type Raw = (String, String, u32, Vec<Value>);

fn one_claimed(now: u64, value: Value) -> Result<Claimed, QueueError> {
    let raw = redis::from_redis_value::<Raw>(value);
    let (flow, place, before, fields) = raw.map_err(|error| QueueError::Corrupt(error.to_string()))?;
    let fields = Fields(&fields);
    let entry = match (fields.bytes("job"), fields.bytes("features")) {
        (Some(json), Some(features)) => Entry::from_parts(json, features),
        _ => Err("its fields are missing".to_owned()),
    };
    let at = fields.number("at").unwrap_or(now);
    let until = fields.number("until");
    let starts = fields.number("n").and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    Ok(Claimed {
        attempt: starts.saturating_add(before).saturating_add(1),
        waited: Duration::from_millis(now.saturating_sub(at)),
        left: until.map(|until| Duration::from_millis(until.saturating_sub(now))),
        failures: fields.bytes("errors").and_then(failures).unwrap_or_default(),
        ticket: Ticket {
            job_id: fields.text("id").unwrap_or_else(|| format!("unreadable-{place}")),
            lane: fields.text("lane").unwrap_or_default(),
            bytes: fields.number("size").unwrap_or_default(),
            callback: fields.text("callback").filter(|url| !url.is_empty()),
            flow,
            place,
        },
        entry,
    })
}

pub(super) fn failures(json: &[u8]) -> Option<Vec<AttemptError>> {
    serde_json::from_slice(json).ok()
}

/// Names and values in turn, as Redis gives an entry or a hash.
pub(super) struct Fields<'a>(pub(super) &'a [Value]);

impl Fields<'_> {
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (pairs, _) = self.0.as_chunks::<2>();
        pairs.iter().find_map(|[key, value]| match (key, value) {
            (Value::BulkString(key), Value::BulkString(value)) if key == name.as_bytes() => Some(value.as_slice()),
            _ => None,
        })
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.bytes(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// The answer of `cancel.lua`.
pub(super) fn cancelled(answer: &[Value]) -> Result<Cancelled, QueueError> {
    let kind: u8 = take(answer.first(), "an answer to a cancellation")?;
    Ok(match kind {
        1 => Cancelled::Done { running: take::<u8>(answer.get(1), "a job's state")? == 1 },
        2 => Cancelled::Ended(outcome_of(&take::<String>(answer.get(1), "a result")?)?),
        _ => Cancelled::Unknown,
    })
}

/// The outcome that a stored result tells.
pub(super) fn outcome_of(result: &str) -> Result<String, QueueError> {
    #[derive(serde::Deserialize)]
    struct Peek {
        outcome: String,
    }
    let peek: Peek = serde_json::from_str(result).map_err(|error| QueueError::Corrupt(error.to_string()))?;
    Ok(peek.outcome)
}
