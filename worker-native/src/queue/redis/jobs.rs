//! The way of jobs on Redis: each transition is the script of its name.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::Value;
use tokio::sync::Mutex;

use super::scripts as lua;
use super::wire::{self, Places};
use super::{RedisQueue, to_millis};
use crate::queue::contract::{
    AWAITED_TTL, Cancelled, Enqueued, JobQueue, NewJob, QueueError, Retry, Settled, Settlement, Tended,
};
use crate::queue::job::{Claimed, Ticket};
use crate::queue::link::Connection;

/// Shortest time between two looks at a task by all processes together.
const TEND_EVERY: Duration = Duration::from_secs(4);
/// Most jobs one script takes over or hands out: Redis serves nobody else meanwhile.
const MOST: usize = 1_000;

/// How far the clocks that Redis uses within one script may be apart, in milliseconds.
const SLACK_MS: u64 = 5;
/// How long a claim that got no answer may still come to its script: longer than any server is paused.
const LATEST: Duration = Duration::from_secs(3_600);
/// How long it is remembered that the loss of some data was counted: until every process has seen what came after.
const MOURNED: Duration = Duration::from_secs(24 * 3_600);
/// Longest time one command waits for a job.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What was last seen of a task's data, to tell when all of it is gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    name: String,
    unsettled: u64,
}

/// Each task's connection for waiting: a command that blocks must not hold up others.
pub(super) type Waiting = std::sync::Mutex<HashMap<String, Arc<Mutex<Option<Connection>>>>>;

#[async_trait]
impl JobQueue for RedisQueue {
    async fn enqueue(&self, task: &str, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, QueueError> {
        if jobs.is_empty() {
            return Ok(vec![]);
        }
        let (jobs, since) = (jobs.into_iter(), Instant::now());
        let jobs = jobs.map(|job| (job, since)).collect();
        let sender = || {
            let (queue, task) = (self.clone(), task.to_owned());
            async move {
                let send = |jobs| queue.enqueue_group(&task, jobs);
                queue.0.hand_ins.send_all(&task, send).await;
            }
        };
        // Also for a job that waits behind groups that get no answer.
        self.0.link.in_time(self.0.hand_ins.call(&self.0.tasks, task, jobs, sender)).await
    }

    async fn claim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError> {
        let step = to_millis(self.0.config.priority_step);
        let add = |command: &mut redis::Cmd| {
            command.arg(consumer).arg(self.next_claim()).arg(limit.min(MOST)).arg(step);
        };
        let (now, taken): (u64, wire::Taken) = self.invoke(&lua::CLAIM, task, add).await?;
        Ok(wire::claimed(now, taken))
    }

    async fn wait(&self, task: &str, up_to: Duration) -> Result<(), QueueError> {
        // For Redis no time is for ever.
        let up_to = up_to.clamp(Duration::from_millis(1), LONGEST_WAIT);
        let slot = {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(waiting.entry(task.to_owned()).or_default())
        };
        let mut slot = slot.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.0.link.blocking(LONGEST_WAIT)?,
        };
        let mut command = redis::cmd("BLPOP");
        command.arg(self.key(task, "wake")).arg(up_to.as_secs_f64());
        let woken: redis::RedisResult<Value> = command.query_async(&mut connection).await;
        // Not kept after an error: the command that was given up may still wait on it.
        woken?;
        *slot = Some(connection);
        Ok(())
    }

    async fn reclaim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError> {
        let lease = to_millis(self.0.config.lease);
        let add = |command: &mut redis::Cmd| {
            command.arg(consumer).arg(self.next_claim()).arg(lease).arg(limit.min(MOST));
        };
        let (now, taken, gone): (u64, wire::Taken, u64) = self.invoke(&lua::RECLAIM, task, add).await?;
        if gone > 0 {
            tracing::error!(
                task,
                entries = gone,
                "entries that a consumer held were deleted from Redis by somebody else"
            );
        }
        Ok(wire::claimed(now, taken))
    }

    async fn renew(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<Vec<bool>, QueueError> {
        let answers: Vec<u8> = self.invoke(&lua::RENEW, task, |command| Places(consumer, tickets).add(command)).await?;
        Ok(answers.into_iter().map(|answer| answer == 1).collect())
    }

    async fn settle(&self, task: &str, settlements: Vec<Settlement>) -> Result<Vec<Settled>, QueueError> {
        if settlements.is_empty() {
            return Ok(vec![]);
        }
        let sender = || {
            let (queue, task) = (self.clone(), task.to_owned());
            async move {
                let send = |settlements| queue.settle_group(&task, settlements);
                queue.0.settlements.send_all(&task, send).await;
            }
        };
        self.0.settlements.call(&self.0.tasks, task, settlements, sender).await
    }

    async fn retry(&self, task: &str, consumer: &str, retries: Vec<Retry>) -> Result<Vec<bool>, QueueError> {
        let mut failures = Vec::with_capacity(retries.len());
        for retry in &retries {
            failures.push(wire::to_json(&retry.failures)?);
        }
        let add = |command: &mut redis::Cmd| {
            command.arg(consumer);
            for (retry, failures) in retries.iter().zip(&failures) {
                command.arg(&retry.ticket.flow).arg(&retry.ticket.place);
                command.arg(to_millis(retry.delay)).arg(u8::from(retry.charged)).arg(failures);
            }
        };
        let answers: Vec<u8> = self.invoke(&lua::RETRY, task, add).await?;
        Ok(answers.into_iter().map(|answer| answer == 1).collect())
    }

    async fn release(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<(), QueueError> {
        let released = self.invoke::<Value>(&lua::RELEASE, task, |command| Places(consumer, tickets).add(command));
        released.await.map(drop)
    }

    async fn release_unknown(
        &self,
        task: &str,
        consumer: &str,
        held: &[Ticket],
        within: Duration,
    ) -> Result<u64, QueueError> {
        let called = Instant::now();
        let add = |command: &mut redis::Cmd| {
            command.arg(consumer).arg(self.0.claims.load(Ordering::Relaxed)).arg(to_millis(LATEST));
        };
        let now: u64 = self.invoke(&lua::FENCE, task, add).await?;
        // By Redis's clock, and rather a little too early: what Redis takes to answer must hide no job.
        let since = now.saturating_sub(to_millis(within + called.elapsed())).saturating_sub(SLACK_MS);
        let add = |command: &mut redis::Cmd| {
            command.arg(consumer).arg(since);
            for ticket in held {
                command.arg(&ticket.flow).arg(&ticket.place);
            }
        };
        self.invoke(&lua::RELEASE_UNKNOWN, task, add).await
    }

    async fn cancel(&self, task: &str, job_id: &str, result: &str) -> Result<Cancelled, QueueError> {
        let config = &self.0.config;
        let add = |command: &mut redis::Cmd| {
            command.arg(job_id).arg(result).arg(to_millis(config.result_ttl)).arg(config.history);
            command.arg(to_millis(AWAITED_TTL));
        };
        let answer: Vec<Value> = self.invoke(&lua::CANCEL, task, add).await?;
        wire::cancelled(&answer)
    }

    async fn tend(&self, task: &str) -> Result<Tended, QueueError> {
        let seen = self.seen(task).unwrap_or_default();
        let new = uuid::Uuid::new_v4().simple().to_string();
        let dead_ttl = to_millis(self.0.config.dead_ttl);
        let add = |command: &mut redis::Cmd| {
            command.arg(new).arg(&seen.name).arg(seen.unsettled).arg(to_millis(TEND_EVERY)).arg(dead_ttl);
            command.arg(to_millis(MOURNED));
        };
        let (name, lost, groups_remade): (String, u64, u64) = self.invoke(&lua::TEND, task, add).await?;
        // Of data that are new nothing has been seen yet.
        self.see(task, |seen| {
            if seen.name != name {
                *seen = Seen { name, unsettled: 0 };
            }
        });
        Ok(Tended { lost, groups_remade })
    }

    async fn leave(&self, task: &str, consumer: &str) -> Result<(), QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(consumer);
        };
        self.invoke::<Value>(&lua::LEAVE, task, add).await.map(drop)
    }

    async fn check_writable(&self, tasks: &[&str]) -> Result<(), QueueError> {
        // In a cluster each task is some server's, and each of these may be the one that takes nothing.
        let keys: Vec<String> = if self.0.link.is_cluster() {
            tasks.iter().map(|task| self.key(task, "ready")).collect()
        } else {
            vec![format!("{}:ready", self.0.config.prefix)]
        };
        let asked = keys.into_iter().map(|key| self.check_key(key));
        futures_util::future::try_join_all(asked).await.map(drop)
    }
}

impl RedisQueue {
    async fn check_key(&self, key: String) -> Result<(), QueueError> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg("1").arg("PX").arg(60_000);
        self.run::<Value>(&command).await.map(drop)
    }

    fn next_claim(&self) -> u64 {
        self.0.claims.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn enqueue_group(&self, task: &str, jobs: Vec<(NewJob, Instant)>) -> Result<Vec<Enqueued>, QueueError> {
        let jobs = wire::HandIns::new(&jobs)?;
        let config = &self.0.config;
        let add = |command: &mut redis::Cmd| {
            command.arg(config.max_depth).arg(config.max_bytes).arg(config.tenant_max_percent);
            command.arg(to_millis(config.idempotency_ttl)).arg(config.tenant_max_lines);
            jobs.add(command);
        };
        type Found = (Vec<Vec<Value>>, Vec<(String, i64)>, String);
        let (answers, depths, name): Found = self.invoke(&lua::ENQUEUE, task, add).await?;
        let depths = wire::depths(depths);
        self.saw_depth(task, &name, &depths);
        answers.iter().map(|answer| wire::enqueued(answer, &depths)).collect()
    }

    async fn settle_group(&self, task: &str, settlements: Vec<Settlement>) -> Result<Vec<Settled>, QueueError> {
        let config = &self.0.config;
        let settlements = settlements.iter().map(wire::Ending::new).collect::<Result<Vec<_>, _>>()?;
        let add = |command: &mut redis::Cmd| {
            command.arg(to_millis(config.result_ttl)).arg(config.history).arg(to_millis(AWAITED_TTL));
            command.arg(to_millis(config.dead_ttl)).arg(config.dead_max);
            for settlement in &settlements {
                settlement.add(command);
            }
        };
        let call = self.invoke(&lua::SETTLE, task, add);
        let (firsts, depths, name): (Vec<u8>, Vec<(String, i64)>, String) = call.await?;
        let depths = wire::depths(depths);
        self.saw_depth(task, &name, &depths);
        Ok(firsts.into_iter().map(|first| Settled { first: first == 1, depths: depths.clone() }).collect())
    }

    fn seen(&self, task: &str) -> Option<Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    fn see(&self, task: &str, note: impl FnOnce(&mut Seen)) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(task) {
            Some(seen) => note(seen),
            None => note(seen.entry(task.to_owned()).or_default()),
        }
    }

    /// Remembers how many jobs there were: if all data go, so many are lost. What is seen of data of another name is not
    /// that which goes; `tend` finds it and counts first.
    pub(super) fn saw_depth(&self, task: &str, name: &str, depths: &crate::queue::Depths) {
        self.see(task, |seen| {
            if seen.name == name {
                seen.unsettled = depths.values().map(|depth| u64::from(*depth)).sum();
            }
        });
    }
}
