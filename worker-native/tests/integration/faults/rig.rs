//! What most scenarios start: a Redis, models of one task, and services on them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::book::Book;
use crate::support::models::Models;
use crate::support::native::Native;
use crate::support::readings::{body, normal};
use crate::support::redis::Redis;
use crate::support::until;

/// A worker that is gone is noticed within this.
const LEASE_MS: &str = "1000";

/// Where every refusal counts: a disk that is slow for a moment is not what is looked at.
pub(super) const PATIENT: (&str, &str) = ("REDIS_TIMEOUT_MS", "10000");

/// A Redis, models, and the book.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) redis: Redis,
    pub(super) models: Models,
    pub(super) book: Book,
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self { redis: Redis::start().await, models: models(), book: Book::default() }
    }

    /// A service with all parts.
    pub(super) async fn all(&self) -> Native {
        self.service("all", &[]).await
    }

    /// One that takes jobs and runs none.
    pub(super) async fn api(&self) -> Native {
        self.service("api", &[]).await
    }

    /// One that only runs them.
    pub(super) async fn worker(&self) -> Native {
        self.service("worker", &[]).await
    }

    pub(super) async fn service(&self, role: &str, more: &[(&str, &str)]) -> Native {
        serve(&self.redis.url(), &self.models, role, more).await
    }

    /// A command to this Redis, as one would type it.
    pub(super) async fn tell(&self, words: &str) {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        let _: redis::Value = command.query_async(&mut self.redis.connection().await).await.unwrap();
    }
}

pub(super) fn models() -> Models {
    Models::of(&["pump-anomaly"])
}

/// A service whose every job is a run of the model: no answer comes from a cache.
pub(super) async fn serve(redis_url: &str, models: &Models, role: &str, more: &[(&str, &str)]) -> Native {
    let dir = models.path().to_str().unwrap();
    let mut settings = vec![("MODEL_DIR", dir), ("ROLE", role), ("CACHE_BACKEND", "off"), ("LEASE_MS", LEASE_MS)];
    settings.extend_from_slice(more);
    Native::start(redis_url, &settings).await
}

/// A reading that every scenario can send.
pub(super) fn reading() -> Value {
    body(&normal())
}

/// Nobody's end is known but by its result.
pub(super) const fn nothing() -> BTreeSet<String> {
    BTreeSet::new()
}

/// Ids whose settlement a service has logged as the first.
pub(super) fn settled(native: &Native) -> BTreeSet<String> {
    let lines = native.log_lines();
    let settled = lines.iter().filter(|line| line["message"] == "job settled" && line["first"] == true);
    settled.map(|line| line["job_id"].as_str().unwrap().to_owned()).collect()
}

/// Has a service logged a line that holds these words?
pub(super) fn has_told(native: &Native, words: &str) -> bool {
    native.log_lines().iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains(words)))
}

/// Waits until it has.
pub(super) async fn told(native: &Native, words: &str) {
    until("a log line", || async { has_told(native, words).then_some(()) }).await;
}
