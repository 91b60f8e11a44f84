//! What the queue on Redis survives beside the contract: others who change its data, and a Redis that gives up.

mod away;
mod harmed;
mod keys;

use std::collections::BTreeMap;

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;

use super::rig::{OnRedis, Rig, TASK};

/// A connection beside the queue, for those who harm it.
#[derive(Debug)]
struct Admin(MultiplexedConnection);

impl Admin {
    async fn of(rig: &Rig<OnRedis>) -> Self {
        Self(rig.backend.0.connection().await)
    }

    /// A command as one would type it.
    async fn ask<T: FromRedisValue>(&mut self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut self.0).await.unwrap()
    }

    async fn tell(&mut self, words: &str) {
        let _: redis::Value = self.ask(words).await;
    }

    /// Names and values of the consumers of a stream.
    async fn consumers(&mut self, flow: &str) -> Vec<String> {
        type Consumers = Vec<BTreeMap<String, redis::Value>>;
        let found: Consumers = self.ask(&format!("XINFO CONSUMERS {} consumers", key(&format!("flow:{flow}")))).await;
        found.iter().map(|one| redis::from_redis_value_ref(&one["name"]).unwrap()).collect()
    }
}

fn key(name: &str) -> String {
    format!("ir:{{{TASK}}}:{name}")
}
