//! The queue on Redis Streams: hand in, claim, take over, settle.
//!
//! Every step that changes two things is one script under `lua/`. All keys of a task carry the
//! task's hash tag, so that a script's keys share a slot. No stream is trimmed by length: an entry
//! goes when its job is settled. Reading results is `super::results`'s.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{AsyncCommands, FromRedisValue, Script, ScriptInvocation, Value};

use super::link::Link;
use super::{Claimed, Depths, Enqueued, Entry, Outcome, QueueError, Settled};
use crate::config::QueueConfig;

const GROUP: &str = "consumers";
/// How long one claim waits for a job before it looks at the shutdown again.
const BLOCK: Duration = Duration::from_millis(500);

/// The queue on Redis; cheap to clone.
#[derive(Clone)]
pub struct RedisQueue {
    config: Arc<QueueConfig>,
    link: Arc<Link>,
    scripts: Arc<Scripts>,
}

struct Scripts {
    enqueue: Script,
    reclaim: Script,
    settle: Script,
    leave: Script,
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
        let link = Link::open(&config.redis_url, config.command_timeout)?;
        let scripts = Scripts {
            enqueue: Script::new(include_str!("lua/enqueue.lua")),
            reclaim: Script::new(include_str!("lua/reclaim.lua")),
            settle: Script::new(include_str!("lua/settle.lua")),
            leave: Script::new(include_str!("lua/leave.lua")),
        };
        Ok(Self { config: Arc::new(config.clone()), link: Arc::new(link), scripts: Arc::new(scripts) })
    }

    pub(super) fn key(&self, task: &str, name: &str) -> String {
        format!("{}:{{{task}}}:{name}", self.config.prefix)
    }

    pub(super) fn job_key(&self, task: &str, job_id: &str) -> String {
        format!("{}:{{{task}}}:job:{job_id}", self.config.prefix)
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    async fn invoke<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, QueueError> {
        self.link.checked(script.invoke_async(&mut self.link.get()).await)
    }

    async fn run<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, QueueError> {
        self.link.checked(command.query_async(&mut self.link.get()).await)
    }

    /// Would Redis take a job now? Asked by a write, since a full or read-only Redis still answers a ping.
    ///
    /// # Errors
    /// [`QueueError`] otherwise.
    pub async fn check_writable(&self) -> Result<(), QueueError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:ready", self.config.prefix)).arg("1").arg("PX").arg(60_000);
        self.run::<Value>(&command).await.map(drop)
    }

    /// Stores one job; when this returns `Accepted`, the job is Redis's.
    ///
    /// # Errors
    /// [`QueueError`]; the job may or may not have been stored when the answer was lost.
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
            .arg(self.config.max_depth)
            .arg(&entry.job_id);
        let (accepted, depth, depths): (u32, u32, Vec<(String, i64)>) = self.invoke(&script).await?;
        Ok(if accepted == 1 { Enqueued::Accepted(to_depths(depths)) } else { Enqueued::Full { depth } })
    }

    /// A connection for one consumer's claims.
    ///
    /// # Errors
    /// [`QueueError`] when the URL cannot be used.
    pub fn claim_connection(&self) -> Result<ClaimConnection, QueueError> {
        Ok(ClaimConnection(self.link.blocking(BLOCK)?))
    }

    /// Waits up to half a second for new jobs of a task and claims them; makes the group where it is missing.
    ///
    /// # Errors
    /// [`QueueError`]; jobs claimed by a command whose answer was lost come back after the lease. A consumer drops
    /// its connection then: this one is not repaired.
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
            Err(error) if is_no_group(&error) => self.make_group(task).await.map(|()| vec![]),
            Err(error) => Err(error.into()),
        }
    }

    async fn make_group(&self, task: &str) -> Result<(), QueueError> {
        let mut command = redis::cmd("XGROUP");
        // From 0 and not from `$`: what lies in the stream already was answered 202.
        command.arg("CREATE").arg(self.key(task, "stream")).arg(GROUP).arg("0").arg("MKSTREAM");
        match self.run::<Value>(&command).await {
            Err(QueueError::Unavailable(error)) if error.code() == Some("BUSYGROUP") => Ok(()),
            made => made.map(drop),
        }
    }

    /// Takes over jobs whose lease ended, from consumers that died or lost their claim's answer.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn reclaim(&self, task: &str, consumer: &str) -> Result<Vec<Claimed>, QueueError> {
        let mut script = self.scripts.reclaim.prepare_invoke();
        script
            .key(self.key(task, "stream"))
            .arg(GROUP)
            .arg(consumer)
            .arg(u64::try_from(self.config.lease.as_millis()).unwrap_or(u64::MAX))
            .arg(self.config.claim_batch);
        match self.invoke::<Vec<(String, u32, Fields)>>(&script).await {
            Ok(entries) => Ok(entries
                .into_iter()
                .map(|(id, starts, fields)| claimed(id, starts.saturating_add(1), &fields))
                .collect()),
            Err(QueueError::Unavailable(error)) if is_no_group(&error) => Ok(vec![]),
            Err(error) => Err(error),
        }
    }

    /// Gives a claimed job back unstarted: it is claimed again after the lease, and this claim does not count.
    ///
    /// # Errors
    /// [`QueueError`]; then the claim counts as a start.
    pub async fn give_back(&self, task: &str, consumer: &str, job: &Claimed) -> Result<(), QueueError> {
        let mut command = redis::cmd("XCLAIM");
        command.arg(self.key(task, "stream")).arg(GROUP).arg(consumer).arg(0).arg(&job.stream_id);
        command.arg("RETRYCOUNT").arg(job.attempt.saturating_sub(1)).arg("JUSTID");
        self.run::<Value>(&command).await.map(drop)
    }

    /// Stores the result of a claimed job and acknowledges it, in one step.
    ///
    /// # Errors
    /// [`QueueError`]; settling again is harmless.
    pub async fn settle(
        &self,
        task: &str,
        job: &Claimed,
        outcome: Outcome,
        result_json: &str,
    ) -> Result<Settled, QueueError> {
        let mut script = self.scripts.settle.prepare_invoke();
        script
            .key(self.key(task, "stream"))
            .key(self.job_key(task, &job.job_id))
            .key(self.key(task, "depth"))
            .key(self.key(task, "results"))
            .arg(GROUP)
            .arg(&job.stream_id)
            .arg(&job.lane)
            .arg(outcome.name())
            .arg(result_json)
            .arg(self.config.result_ttl.as_secs())
            .arg(self.config.history);
        let (first, depths): (u32, Vec<(String, i64)>) = self.invoke(&script).await?;
        Ok(Settled { first: first == 1, depths: to_depths(depths) })
    }

    /// Takes a consumer that ends out of the group; one with jobs under its name stays until they are taken over.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn leave(&self, task: &str, consumer: &str) -> Result<(), QueueError> {
        let mut script = self.scripts.leave.prepare_invoke();
        script.key(self.key(task, "stream")).arg(GROUP).arg(consumer);
        self.invoke::<Value>(&script).await.map(drop)
    }

    /// Unsettled jobs of a task by tier.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn depths(&self, task: &str) -> Result<Depths, QueueError> {
        Ok(to_depths(self.link.checked(self.link.get().hgetall(self.key(task, "depth")).await)?))
    }

    /// Facts that all processes share about a task's models, under `name`: model or tier to value.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn facts(&self, task: &str, name: &str) -> Result<Vec<(String, String)>, QueueError> {
        self.link.checked(self.link.get().hgetall(self.key(task, name)).await)
    }

    /// Sets a shared fact, or removes it.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn set_fact(&self, task: &str, name: &str, field: &str, value: Option<&str>) -> Result<(), QueueError> {
        let mut command = redis::cmd(if value.is_some() { "HSET" } else { "HDEL" });
        command.arg(self.key(task, name)).arg(field).arg(value);
        self.run::<Value>(&command).await.map(drop)
    }
}

type Fields = Vec<(String, Vec<u8>)>;

fn claimed(stream_id: String, attempt: u32, fields: &[(String, Vec<u8>)]) -> Claimed {
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    let text = |name: &str| field(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned);
    let entry = match (field("job"), field("features")) {
        (Some(json), Some(features)) => Entry::from_parts(json, features),
        _ => Err("its fields are missing".to_owned()),
    };
    Claimed {
        job_id: text("id").unwrap_or_else(|| format!("unreadable-{stream_id}")),
        lane: text("lane").unwrap_or_default(),
        stream_id,
        attempt,
        entry,
    }
}

fn is_no_group(error: &redis::RedisError) -> bool {
    // From within a script the code stands at the front of the text only.
    error.code() == Some("NOGROUP") || error.to_string().contains("NOGROUP")
}

fn to_depths(pairs: Vec<(String, i64)>) -> Depths {
    pairs.into_iter().map(|(lane, depth)| (lane, u32::try_from(depth.max(0)).unwrap_or(u32::MAX))).collect()
}
