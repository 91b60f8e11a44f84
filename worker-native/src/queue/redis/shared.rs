//! What processes share beside jobs: idempotency keys of calls answered at once, and facts about models.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{AsyncCommands, Value};

use super::scripts as lua;
use super::{RedisQueue, to_millis};
use crate::queue::contract::{Begun, Facts, NewFact, QueueError, Replays, Stored};

#[async_trait]
impl Replays for RedisQueue {
    async fn begin(&self, task: &str, key: &str, fingerprint: &str, patience: Duration) -> Result<Begun, QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(key).arg(fingerprint).arg(to_millis(patience));
        };
        let kept: Vec<String> = self.invoke(&lua::BEGIN, task, add).await?;
        match kept.as_slice() {
            [] => Ok(Begun::New),
            [print, ..] if print != fingerprint => Ok(Begun::Conflict),
            [_, status, _] if status == "0" => Ok(Begun::InFlight),
            [_, status, body] => {
                let status = status.parse().map_err(|_| QueueError::Corrupt(format!("a stored status: {status}")))?;
                Ok(Begun::Replayed(Stored { status, body: body.clone() }))
            }
            _ => Err(super::wire::corrupt("a stored answer")),
        }
    }

    async fn finish(&self, task: &str, key: &str, fingerprint: &str, answer: Option<Stored>) -> Result<(), QueueError> {
        let ttl = to_millis(self.0.config.idempotency_ttl);
        let add = |command: &mut redis::Cmd| {
            command.arg(key).arg(fingerprint);
            match answer {
                Some(answer) => command.arg(answer.status).arg(answer.body),
                None => command.arg("").arg(""),
            };
            command.arg(ttl);
        };
        self.invoke::<Value>(&lua::FINISH, task, add).await.map(drop)
    }
}

#[async_trait]
impl Facts for RedisQueue {
    async fn facts(&self, task: &str, name: &str) -> Result<Vec<(String, String)>, QueueError> {
        Ok(self.0.link.get().hgetall(self.key(task, name)).await?)
    }

    async fn set_fact(&self, task: &str, name: &str, field: &str, value: Option<&str>) -> Result<(), QueueError> {
        let mut command = redis::cmd(if value.is_some() { "HSET" } else { "HDEL" });
        command.arg(self.key(task, name)).arg(field).arg(value);
        self.run::<Value>(&command).await.map(drop)
    }

    /// One command for each hash, all at once: Redis takes what comes together in together, and syncs its file once.
    async fn set_facts(&self, facts: Vec<NewFact>) -> Result<(), QueueError> {
        let mut places: BTreeMap<String, BTreeMap<String, Option<String>>> = BTreeMap::new();
        for NewFact { task, name, field, value } in facts {
            places.entry(self.key(&task, &name)).or_default().insert(field, value);
        }
        let mut commands = Vec::with_capacity(places.len());
        for (key, fields) in &places {
            let (set, gone): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| value.is_some());
            if !set.is_empty() {
                let mut command = redis::cmd("HSET");
                command.arg(key);
                for (field, value) in set {
                    command.arg(field).arg(value);
                }
                commands.push(command);
            }
            if !gone.is_empty() {
                let mut command = redis::cmd("HDEL");
                command.arg(key).arg(gone.into_iter().map(|(field, _)| field).collect::<Vec<_>>());
                commands.push(command);
            }
        }
        let done = join_all(commands.iter().map(|command| self.run::<Value>(command))).await;
        done.into_iter().try_for_each(|done| done.map(drop))
    }
}
