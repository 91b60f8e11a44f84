//! Looking at jobs, results and numbers; on the connections that cannot write.

use std::time::Duration;

use rusqlite::{Connection, Row};
use serde_json::value::RawValue;

use super::books::{all, one, to_u32};
use super::clock::{number, stored};
use super::sql;
use crate::queue::contract::{AWAITED_TTL, Counts, Depths, QueueError, ResultsFilter};
use crate::queue::job::JobState;

/// A stored text as the JSON it is.
pub(super) fn raw(text: String) -> Result<Box<RawValue>, QueueError> {
    RawValue::from_string(text).map_err(|error| QueueError::Corrupt(error.to_string()))
}

/// A job as the file tells it.
pub(super) struct Seen {
    state: i64,
    starts: i64,
    failures: Option<String>,
    accepted: i64,
    note: Option<String>,
    result: Option<(String, String)>,
}

/// What of the file's is out of date.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Results that ended by then are shown no more.
    pub(super) since: i64,
    /// The same for those that a caller waited for.
    pub(super) awaited_since: i64,
}

impl Kept {
    pub(super) fn new(now: u64, ttl: Duration) -> Self {
        let ago = |age: Duration| stored(now).saturating_sub(stored(super::clock::ms(age)));
        Self { since: ago(ttl), awaited_since: ago(AWAITED_TTL) }
    }
}

/// One job.
pub(super) fn job(file: &Connection, task: &str, job_id: &str, kept: Kept) -> rusqlite::Result<Option<Seen>> {
    let read = |row: &Row<'_>| {
        let state = row.get(0)?;
        let mut seen = Seen {
            state,
            starts: row.get(1)?,
            failures: row.get(2)?,
            accepted: row.get(3)?,
            note: row.get(4)?,
            result: None,
        };
        if state == sql::ENDED {
            let (ended, awaited): (Option<i64>, Option<bool>) = (row.get(7)?, row.get(8)?);
            let since = if awaited.unwrap_or_default() { kept.awaited_since } else { kept.since };
            if ended.is_none_or(|ended| ended <= since) {
                return Ok(None);
            }
            seen.result = Some((row.get(5)?, row.get(6)?));
        }
        Ok(Some(seen))
    };
    one(file, sql::JOB, (task, job_id), read).map(Option::flatten)
}

/// An unsettled job as it was handed in.
pub(super) fn body(file: &Connection, task: &str, job_id: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    one(file, sql::JOB_BODY, (task, job_id), |row| row.get(0))
}

impl Seen {
    pub(super) fn into_state(self, now: u64) -> Result<JobState, QueueError> {
        let failures = self.failures.as_deref().and_then(|failures| serde_json::from_str(failures).ok());
        let waited = Duration::from_millis(now.saturating_sub(number(self.accepted)));
        let (state, result) = match self.result {
            Some((outcome, json)) => (outcome, Some(raw(json)?)),
            None => (name_of(self.state).to_owned(), None),
        };
        Ok(JobState {
            state,
            attempt: to_u32(self.starts),
            failures: failures.unwrap_or_default(),
            waited: result.is_none().then_some(waited),
            result,
            callback: self.note,
        })
    }
}

const fn name_of(state: i64) -> &'static str {
    match state {
        sql::RUNNING => "running",
        sql::DELAYED => "retrying",
        _ => "queued",
    }
}

/// The newest results of one task with the time they tell, the latest settled first; of so many as the history has.
pub(super) fn results(
    file: &Connection,
    task: &str,
    filter: &ResultsFilter,
    history: u32,
    kept: Kept,
) -> rusqlite::Result<Vec<(i64, String)>> {
    let since = filter.since.map(stored);
    let mut listed = file.prepare_cached(sql::LISTED)?;
    let mut rows = listed.query((task, i64::MAX, history))?;
    let mut found = Vec::new();
    while found.len() < filter.limit
        && let Some(row) = rows.next()?
    {
        let (seq, finished): (i64, i64) = (row.get(0)?, row.get(1)?);
        if filter.ends_before(number(finished)) {
            break;
        }
        let is_wanted = since.is_none_or(|since| finished >= since)
            && (filter.sensor_id.is_none() || row.get_ref(2)?.as_str_or_null()? == filter.sensor_id.as_deref())
            && filter
                .outcome
                .is_none_or(|outcome| row.get_ref(3).is_ok_and(|name| name.as_str() == Ok(outcome.name())));
        if is_wanted && let Some(json) = listed_result(file, seq, kept)? {
            found.push((finished, json));
        }
    }
    Ok(found)
}

/// One page of all results of a task, the latest settled first.
pub(super) struct Page {
    pub(super) results: Vec<String>,
    /// Where the next page begins, and how many results the history has from there on.
    pub(super) next: Option<(i64, u32)>,
}

/// The results before `before`; `left` is what the history has of them.
pub(super) fn page(
    file: &Connection,
    task: &str,
    before: i64,
    left: u32,
    limit: u32,
    kept: Kept,
) -> rusqlite::Result<Page> {
    let limit = limit.clamp(1, left.max(1));
    let seqs: Vec<i64> = all(file, sql::LISTED, (task, before, limit), |row| row.get(0))?;
    let (full, left) = (seqs.len() == limit as usize, left.saturating_sub(limit));
    let next = seqs.last().filter(|_| full && left > 0).map(|last| (*last, left));
    let mut results = Vec::with_capacity(seqs.len());
    for seq in seqs {
        results.extend(listed_result(file, seq, kept)?);
    }
    Ok(Page { results, next })
}

fn listed_result(file: &Connection, seq: i64, kept: Kept) -> rusqlite::Result<Option<String>> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?));
    let result: Option<(String, i64)> = one(file, sql::LISTED_ONE, [seq], read)?;
    Ok(result.filter(|(_, ended)| *ended > kept.since).map(|(json, _)| json))
}

/// The task's numbers; all zero for a task that the file does not know.
pub(super) fn counts(file: &Connection, task: &str) -> rusqlite::Result<Counts> {
    // One moment for all of them.
    let moment = file.unchecked_transaction()?;
    let whole = |row: &Row<'_>, column| row.get(column).map(number);
    let read = |row: &Row<'_>| {
        Ok(Counts {
            bytes: whole(row, 0)?,
            delayed: whole(row, 1)?,
            settled: whole(row, 2)?,
            lost: whole(row, 3)?,
            dead: whole(row, 4)?,
            unrun: whole(row, 5)?,
            ..Counts::default()
        })
    };
    let mut counts = one(file, sql::COUNTS, [task], read)?.unwrap_or_default();
    let lane = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, to_u32(row.get(1)?), to_u32(row.get(2)?)));
    let lanes = all(file, sql::COUNTS_LANES, [task], lane)?;
    let by = |of: fn(&(String, u32, u32)) -> u32| -> Depths {
        lanes.iter().map(|lane| (lane.0.clone(), of(lane))).filter(|(_, jobs)| *jobs > 0).collect()
    };
    (counts.depths, counts.running) = (by(|lane| lane.1), by(|lane| lane.2));
    moment.commit()?;
    Ok(counts)
}

/// All facts of a name.
pub(super) fn facts(file: &Connection, task: &str, name: &str) -> rusqlite::Result<Vec<(String, String)>> {
    all(file, sql::FACTS, (task, name), |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Unsettled jobs as counted, and as they are.
pub(super) fn audit(file: &Connection, task: &str) -> rusqlite::Result<(i64, i64)> {
    let found = one(file, sql::AUDIT, [task], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.unwrap_or_default())
}
