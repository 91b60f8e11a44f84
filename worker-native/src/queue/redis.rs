//! The queue on Redis Streams.
//!
//! Every step that changes two things is one script under `lua/`. All keys of a task carry the
//! task's hash tag, so that a script's keys share a slot. No stream is trimmed by length: an entry
//! goes when its job is settled.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Script, Value};
use serde_json::value::RawValue;

use super::{Claimed, Depths, Enqueued, Entry, JobState, Outcome, QueueError, ResultsFilter, Settled};
use crate::config::QueueConfig;

const GROUP: &str = "consumers";
/// How long one claim waits for a job before it looks at the shutdown again.
const BLOCK: Duration = Duration::from_millis(500);
/// How many results one round trip reads while it filters.
const RESULTS_PAGE: usize = 500;

/// The queue on Redis; cheap to clone.
#[derive(Clone)]
pub struct RedisQueue {
    config: Arc<QueueConfig>,
    client: redis::Client,
    connection: ConnectionManager,
    scripts: Arc<Scripts>,
}

struct Scripts {
    enqueue: Script,
    reclaim: Script,
    settle: Script,
}

impl std::fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisQueue").field("prefix", &self.config.prefix).finish_non_exhaustive()
    }
}

/// A consumer's own connection: a claim blocks, and must not hold up other commands.
pub struct ClaimConnection(ConnectionManager);

impl std::fmt::Debug for ClaimConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClaimConnection")
    }
}

impl RedisQueue {
    /// Prepares the queue; the first command connects.
    ///
    /// # Errors
    /// [`QueueError`] when the URL cannot be used.
    pub fn open(config: &QueueConfig) -> Result<Self, QueueError> {
        let client = redis::Client::open(config.redis_url.as_str())?;
        let connection =
            ConnectionManager::new_lazy_with_config(client.clone(), manager(Some(config.command_timeout)))?;
        let scripts = Scripts {
            enqueue: Script::new(include_str!("lua/enqueue.lua")),
            reclaim: Script::new(include_str!("lua/reclaim.lua")),
            settle: Script::new(include_str!("lua/settle.lua")),
        };
        Ok(Self { config: Arc::new(config.clone()), client, connection, scripts: Arc::new(scripts) })
    }

    fn key(&self, task: &str, name: &str) -> String {
        format!("{}:{{{task}}}:{name}", self.config.prefix)
    }

    fn job_key(&self, task: &str, job_id: &str) -> String {
        format!("{}:{{{task}}}:job:{job_id}", self.config.prefix)
    }

    /// Is Redis there and writable by us?
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] otherwise.
    pub async fn ping(&self) -> Result<(), QueueError> {
        let mut connection = self.connection.clone();
        redis::cmd("PING").query_async::<Value>(&mut connection).await?;
        Ok(())
    }

    /// Stores one job; when this returns `Accepted`, the job is Redis's.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]; the job may or may not have been stored when the answer was lost.
    pub async fn enqueue(&self, entry: &Entry) -> Result<Enqueued, QueueError> {
        let json = serde_json::to_vec(entry).map_err(|error| QueueError::Corrupt(error.to_string()))?;
        let mut script = self.scripts.enqueue.prepare_invoke();
        script
            .key(self.key(&entry.task, "stream"))
            .key(self.job_key(&entry.task, &entry.job_id))
            .key(self.key(&entry.task, "depth"))
            .arg(json)
            .arg(entry.feature_bytes())
            .arg(&entry.lane)
            .arg(self.config.max_depth);
        let (accepted, depth, depths): (u32, u32, Vec<(String, i64)>) =
            script.invoke_async(&mut self.connection.clone()).await?;
        Ok(if accepted == 1 { Enqueued::Accepted(to_depths(depths)) } else { Enqueued::Full { depth } })
    }

    /// A connection for one consumer's claims.
    ///
    /// # Errors
    /// [`QueueError`] when the URL cannot be used.
    pub fn claim_connection(&self) -> Result<ClaimConnection, QueueError> {
        let config = manager(Some(BLOCK + self.config.command_timeout));
        Ok(ClaimConnection(ConnectionManager::new_lazy_with_config(self.client.clone(), config)?))
    }

    /// Waits up to half a second for new jobs of a task and claims them; makes the group where it is missing.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]; jobs claimed by a command whose answer was lost come back after the lease.
    pub async fn claim(
        &self,
        connection: &mut ClaimConnection,
        task: &str,
        consumer: &str,
    ) -> Result<Vec<Claimed>, QueueError> {
        let key = self.key(task, "stream");
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(self.config.claim_batch);
        command.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(500)).arg("STREAMS").arg(&key).arg(">");
        match command.query_async::<Option<Vec<(String, Vec<(String, Fields)>)>>>(&mut connection.0).await {
            Ok(streams) => {
                let entries = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
                Ok(entries.map(|(id, fields)| claimed(id, 1, &fields)).collect())
            }
            Err(error) if error.code() == Some("NOGROUP") => {
                self.make_group(task).await?;
                Ok(vec![])
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn make_group(&self, task: &str) -> Result<(), QueueError> {
        let mut connection = self.connection.clone();
        // From 0 and not from `$`: what lies in the stream already was answered 202.
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(self.key(task, "stream")).arg(GROUP).arg("0").arg("MKSTREAM");
        match command.query_async::<()>(&mut connection).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes over jobs whose lease ended, from consumers that died or lost their claim's answer.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    pub async fn reclaim(&self, task: &str, consumer: &str) -> Result<Vec<Claimed>, QueueError> {
        let mut script = self.scripts.reclaim.prepare_invoke();
        script
            .key(self.key(task, "stream"))
            .arg(GROUP)
            .arg(consumer)
            .arg(u64::try_from(self.config.lease.as_millis()).unwrap_or(u64::MAX))
            .arg(self.config.claim_batch);
        match script.invoke_async::<Vec<(String, u32, Fields)>>(&mut self.connection.clone()).await {
            Ok(entries) => Ok(entries
                .into_iter()
                .map(|(id, starts, fields)| claimed(id, starts.saturating_add(1), &fields))
                .collect()),
            Err(error) if error.code() == Some("NOGROUP") || error.to_string().contains("NOGROUP") => Ok(vec![]),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores the result of a claimed job and acknowledges it, in one step.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]; settling again is harmless.
    pub async fn settle(
        &self,
        task: &str,
        job_id: &str,
        lane: &str,
        stream_id: &str,
        outcome: Outcome,
        result_json: &str,
    ) -> Result<Settled, QueueError> {
        let mut script = self.scripts.settle.prepare_invoke();
        script
            .key(self.key(task, "stream"))
            .key(self.job_key(task, job_id))
            .key(self.key(task, "depth"))
            .key(self.key(task, "results"))
            .arg(GROUP)
            .arg(stream_id)
            .arg(lane)
            .arg(outcome.name())
            .arg(result_json)
            .arg(self.config.result_ttl.as_secs())
            .arg(self.config.history);
        let (first, depths): (u32, Vec<(String, i64)>) = script.invoke_async(&mut self.connection.clone()).await?;
        Ok(Settled { first: first == 1, depths: to_depths(depths) })
    }

    /// A job's state; `None` for an id that never was, or whose result has expired.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn job(&self, task: &str, job_id: &str) -> Result<Option<JobState>, QueueError> {
        let key = self.job_key(task, job_id);
        let (state, result): (Option<String>, Option<String>) =
            self.connection.clone().hmget(key, &["state", "result"]).await?;
        let result = result.map(|json| parse_json(json.as_str())).transpose()?;
        Ok(state.map(|state| JobState { state, result }))
    }

    /// The newest results of some tasks, newest first.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn results(&self, tasks: &[&str], filter: &ResultsFilter) -> Result<Vec<Box<RawValue>>, QueueError> {
        let mut found = Vec::new();
        for task in tasks {
            found.extend(self.results_of(task, filter).await?);
        }
        found.sort_by_key(|(finished_at, _)| std::cmp::Reverse(*finished_at));
        found.truncate(filter.limit);
        Ok(found.into_iter().map(|(_, result)| result).collect())
    }

    async fn results_of(&self, task: &str, filter: &ResultsFilter) -> Result<Vec<(u64, Box<RawValue>)>, QueueError> {
        let key = self.key(task, "results");
        let page = if filter.sensor_id.is_some() { RESULTS_PAGE } else { filter.limit.clamp(1, RESULTS_PAGE) };
        let mut found = Vec::new();
        let mut start = 0;
        loop {
            let (from, to) = (to_index(start), to_index(start + page - 1));
            let texts: Vec<String> = self.connection.clone().lrange(&key, from, to).await?;
            for text in &texts {
                let peek: Peek<'_> = parse_json(text)?;
                // The list is in order of settlement: behind one that is too old all are.
                if filter.since.is_some_and(|since| peek.finished_at < since) {
                    return Ok(found);
                }
                if filter.sensor_id.is_none() || filter.sensor_id.as_deref() == peek.sensor_id.as_deref() {
                    found.push((peek.finished_at, parse_json(text)?));
                }
                if found.len() >= filter.limit {
                    return Ok(found);
                }
            }
            if texts.len() < page {
                return Ok(found);
            }
            start += page;
        }
    }

    /// Unsettled jobs of a task by tier.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    pub async fn depths(&self, task: &str) -> Result<Depths, QueueError> {
        let depths: Vec<(String, i64)> = self.connection.clone().hgetall(self.key(task, "depth")).await?;
        Ok(to_depths(depths))
    }

    /// Facts that all processes share about a task's models, under `name`: model or tier to value.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    pub async fn facts(&self, task: &str, name: &str) -> Result<Vec<(String, String)>, QueueError> {
        Ok(self.connection.clone().hgetall(self.key(task, name)).await?)
    }

    /// Sets a shared fact, or removes it.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    pub async fn set_fact(&self, task: &str, name: &str, field: &str, value: Option<&str>) -> Result<(), QueueError> {
        let key = self.key(task, name);
        let mut connection = self.connection.clone();
        let (): () = match value {
            Some(value) => connection.hset(key, field, value).await?,
            None => connection.hdel(key, field).await?,
        };
        Ok(())
    }
}

type Fields = Vec<(String, Vec<u8>)>;

fn claimed(stream_id: String, attempt: u32, fields: &[(String, Vec<u8>)]) -> Claimed {
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    let entry = match (field("job"), field("features")) {
        (Some(json), Some(features)) => Entry::from_parts(json, features),
        _ => Err("its fields are missing".to_owned()),
    };
    Claimed { stream_id, attempt, entry }
}

fn to_depths(pairs: Vec<(String, i64)>) -> Depths {
    pairs.into_iter().map(|(lane, depth)| (lane, u32::try_from(depth.max(0)).unwrap_or(u32::MAX))).collect()
}

fn to_index(position: usize) -> isize {
    isize::try_from(position).unwrap_or(isize::MAX)
}

/// The fields of a stored result that the listing looks at.
#[derive(serde::Deserialize)]
struct Peek<'a> {
    finished_at: u64,
    #[serde(borrow, default)]
    sensor_id: Option<std::borrow::Cow<'a, str>>,
}

fn parse_json<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Corrupt(error.to_string()))
}

fn manager(response: Option<Duration>) -> ConnectionManagerConfig {
    // Few retries inside: callers answer 503 quickly, and consumers have a backoff of their own.
    ConnectionManagerConfig::new()
        .set_response_timeout(response)
        .set_connection_timeout(Some(Duration::from_millis(500)))
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(500))
}
