//! Between the contract's types and what scripts take and give.

use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, Value};
use serde::Serialize;

use super::to_millis;
use crate::queue::contract::{Bound, Cancelled, Depths, Enqueued, Full, NewJob, QueueError, Settlement, Stored};
use crate::queue::job::{AttemptError, Claimed, Entry, Outcome, Ticket};

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

/// What few jobs have, as `enqueue.lua` takes it.
#[derive(Serialize)]
struct More<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    print: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
}

/// Jobs as `enqueue.lua` takes them: what they share once, made before the command, since that can fail.
pub(super) struct HandIns<'a> {
    kinds: Vec<(String, &'a str)>,
    jobs: Vec<HandIn<'a>>,
}

struct HandIn<'a> {
    kind: usize,
    id: &'a str,
    meta: String,
    left: Option<Duration>,
    body: Vec<u8>,
    more: Vec<u8>,
}

impl<'a> HandIns<'a> {
    /// Each job with the moment since which its time runs.
    pub(super) fn new(jobs: &'a [(NewJob, Instant)]) -> Result<Self, QueueError> {
        let mut all = Self { kinds: vec![], jobs: Vec::with_capacity(jobs.len()) };
        for (job, since) in jobs {
            let job = all.hand_in(job, since.elapsed())?;
            all.jobs.push(job);
        }
        Ok(all)
    }

    fn hand_in(&mut self, job: &'a NewJob, waited: Duration) -> Result<HandIn<'a>, QueueError> {
        let NewJob { entry, left, room, once } = job;
        // They stand in one line with others.
        let texts = [Some(&entry.job_id), Some(&entry.lane), entry.callback.as_ref(), entry.tenant.as_ref()];
        if texts.into_iter().flatten().any(|text| text.is_empty() || text.contains(char::is_whitespace)) {
            return Err(corrupt("id, lane, tenant or callback of a job is empty or has white space"));
        }
        let (flow, lane) = (flow_of(entry), entry.lane.as_str());
        let known = self.kinds.iter().position(|kind| kind.0 == flow && kind.1 == lane);
        let kind = known.unwrap_or_else(|| {
            self.kinds.push((flow, lane));
            self.kinds.len() - 1
        });
        let body = entry.to_body().map_err(QueueError::Corrupt)?;
        let callback = entry.callback.as_deref().unwrap_or("-");
        let meta = format!("{lane} {} {} {callback} 0 ", entry.job_id, body.len());
        let more = match (room, once) {
            (None, None) => vec![],
            (room, once) => to_json(&More {
                room: *room,
                key: once.as_ref().map(|once| once.key.as_str()),
                print: once.as_ref().map(|once| once.fingerprint.as_str()),
                status: once.as_ref().map(|once| once.answer.status),
                answer: once.as_ref().map(|once| once.answer.body.as_str()),
            })?,
        };
        Ok(HandIn {
            kind: kind + 1,
            id: &entry.job_id,
            meta,
            left: left.map(|left| left.saturating_sub(waited)),
            body,
            more,
        })
    }

    pub(super) fn add(&self, command: &mut Cmd) {
        command.arg(self.kinds.len());
        for (flow, lane) in &self.kinds {
            command.arg(flow).arg(*lane);
        }
        for HandIn { kind, id, meta, left, body, more } in &self.jobs {
            command.arg(*kind).arg(*id).arg(meta);
            match left {
                Some(left) => command.arg(to_millis(*left)),
                None => command.arg("-"),
            };
            command.arg(body).arg(more);
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

/// A settlement with what few have, made before the command, since that can fail.
pub(super) struct Ending<'a> {
    settlement: &'a Settlement,
    more: Vec<u8>,
}

impl<'a> Ending<'a> {
    pub(super) fn new(settlement: &'a Settlement) -> Result<Self, QueueError> {
        let Settlement { ticket, outcome, awaited, failures, .. } = settlement;
        let mut more = serde_json::Map::new();
        if let Some(callback) = &ticket.callback {
            more.insert("callback".to_owned(), callback.as_str().into());
        }
        if *awaited {
            more.insert("awaited".to_owned(), true.into());
        }
        if matches!(outcome, Outcome::Expired | Outcome::Cancelled) {
            more.insert("unrun".to_owned(), true.into());
        }
        if *outcome == Outcome::Dead {
            let failures = String::from_utf8_lossy(&to_json(failures)?).into_owned();
            more.insert("dead".to_owned(), failures.into());
        }
        let more = if more.is_empty() { vec![] } else { to_json(&more)? };
        Ok(Self { settlement, more })
    }

    /// The settlement as `settle.lua` takes it.
    pub(super) fn add(&self, command: &mut Cmd) {
        let Settlement { ticket, result, .. } = self.settlement;
        command.arg(format!("{} {}", ticket.flow, ticket.lane)).arg(&ticket.place).arg(&ticket.job_id);
        command.arg(ticket.bytes).arg(result).arg(&self.more);
    }
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

/// What `claim.lua` and `reclaim.lua` give: for each flow its entries, with how often they were claimed before.
pub(super) type Taken = Vec<(String, u32, Vec<(String, Vec<Value>)>)>;

/// The jobs of what a claim gave.
pub(super) fn claimed(now: u64, taken: Taken) -> Vec<Claimed> {
    let mut jobs = Vec::with_capacity(taken.iter().map(|(_, _, entries)| entries.len()).sum());
    for (flow, before, entries) in taken {
        jobs.extend(entries.into_iter().map(|(place, fields)| one_claimed(now, &flow, before, place, &fields)));
    }
    jobs
}

fn one_claimed(now: u64, flow: &str, before: u32, place: String, fields: &[Value]) -> Claimed {
    let fields = Fields(fields);
    let meta = fields.bytes("m").and_then(|meta| std::str::from_utf8(meta).ok()).and_then(Meta::parse);
    let (flow, claims) = (flow.to_owned(), before.saturating_add(1));
    let (Some(meta), Some(body)) = (meta, fields.bytes("b")) else {
        let (job_id, lane) = (format!("unreadable-{place}"), String::new());
        return Claimed {
            ticket: Ticket { job_id, lane, flow, place, bytes: 0, callback: None },
            attempt: claims,
            waited: Duration::ZERO,
            left: None,
            failures: vec![],
            entry: Err("its fields are missing".to_owned()),
        };
    };
    Claimed {
        attempt: meta.starts.saturating_add(claims),
        waited: Duration::from_millis(now.saturating_sub(meta.at)),
        left: meta.until.map(|until| Duration::from_millis(until.saturating_sub(now))),
        failures: fields.bytes("e").and_then(failures).unwrap_or_default(),
        ticket: Ticket {
            job_id: meta.id.to_owned(),
            lane: meta.lane.to_owned(),
            bytes: meta.size,
            callback: meta.callback.map(str::to_owned),
            flow,
            place,
        },
        entry: Entry::from_body(body),
    }
}

/// What stands beside a stored job, as `lua/prelude.lua` tells.
struct Meta<'a> {
    id: &'a str,
    lane: &'a str,
    at: u64,
    until: Option<u64>,
    size: u64,
    starts: u32,
    callback: Option<&'a str>,
}

impl<'a> Meta<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(' ');
        let meta = Self {
            lane: parts.next()?,
            id: parts.next().filter(|id| !id.is_empty())?,
            size: parts.next()?.parse().ok()?,
            callback: parts.next().filter(|url| *url != "-"),
            starts: parts.next()?.parse().ok()?,
            at: parts.next()?.parse().ok()?,
            until: parts.next()?.parse().ok(),
        };
        Some(meta)
    }
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

#[cfg(test)]
mod tests {
    use shared::reading::Input;

    use super::*;

    #[test]
    fn what_a_job_has_waited_on_its_way_is_taken_off_its_time() {
        let since = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let job = |left| {
            let entry = Entry::new("pump", "fast", ("m", 1), Input::Features(vec![]));
            (NewJob { entry, left, room: None, once: None }, since)
        };
        let jobs = [job(Some(Duration::from_secs(60))), job(Some(Duration::from_secs(1))), job(None)];
        let left: Vec<_> = HandIns::new(&jobs).unwrap().jobs.iter().map(|job| job.left).collect();
        assert!(left[0].is_some_and(|left| left <= Duration::from_secs(58) && !left.is_zero()), "{left:?}");
        assert_eq!(left[1..], [Some(Duration::ZERO), None]);
    }
}
