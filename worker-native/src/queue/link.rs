//! The way to Redis that all commands of a process share, and its repair.
//!
//! The client library reconnects by itself after IO errors only. After an answer that says "not
//! here" (a refused password, a master that became a replica) it would stay on that connection for
//! ever, so every command's result passes through [`Link::checked`], which then makes a new one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{ErrorKind, RedisError, RedisResult};

use super::QueueError;
use crate::clock::now_ms;

/// At most one repair in this time: commands under way fail by the hundred when a connection turns bad.
const REPAIR_LEASE_MS: u64 = 1_000;

/// A connection that can be replaced.
pub(super) struct Link {
    client: redis::Client,
    timeout: Duration,
    current: ArcSwap<ConnectionManager>,
    repaired_at: AtomicU64,
}

impl Link {
    /// Prepares the way; the first command connects.
    pub(super) fn open(url: &str, timeout: Duration) -> RedisResult<Self> {
        let client = redis::Client::open(url)?;
        let current = ArcSwap::from_pointee(connection(&client, timeout)?);
        Ok(Self { client, timeout, current, repaired_at: AtomicU64::new(0) })
    }

    /// The connection for one command.
    pub(super) fn get(&self) -> ConnectionManager {
        ConnectionManager::clone(&self.current.load())
    }

    /// A connection of its own for commands that wait up to `block`.
    pub(super) fn blocking(&self, block: Duration) -> RedisResult<ConnectionManager> {
        connection(&self.client, block + self.timeout)
    }

    /// Sees to a command's result: repairs the connection where it will not do so by itself.
    pub(super) fn checked<T>(&self, result: RedisResult<T>) -> Result<T, QueueError> {
        result.map_err(|error| {
            if is_stuck(&error) && self.may_repair() {
                match connection(&self.client, self.timeout) {
                    Ok(new) => self.current.store(new.into()),
                    Err(error) => tracing::warn!(%error, "a new connection to redis cannot be prepared"),
                }
            }
            QueueError::from(error)
        })
    }

    fn may_repair(&self) -> bool {
        let (last, now) = (self.repaired_at.load(Ordering::Relaxed), now_ms());
        now.saturating_sub(last) >= REPAIR_LEASE_MS
            && self.repaired_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn is_stuck(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS" | "NOPERM"))
}

fn connection(client: &redis::Client, timeout: Duration) -> RedisResult<ConnectionManager> {
    // Few retries inside: callers answer 503 quickly, and consumers have a backoff of their own.
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(timeout))
        .set_connection_timeout(Some(Duration::from_millis(500)))
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(500));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
