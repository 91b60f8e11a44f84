//! The settings of the cache; the struct they make is `crate::cache`'s.

use std::time::Duration;

use super::source::Reader;
use super::{QueueConfig, millis};
use crate::cache::{CacheBackend, CacheConfig};

pub(super) fn read(read: &mut Reader, queue: &QueueConfig) -> CacheConfig {
    let kinds = ["memory", "redis", "off"];
    let backend =
        read.one_of("CACHE_BACKEND", "memory", &kinds, "where answers are kept: memory, redis (and memory), off");
    CacheConfig {
        backend: match backend.as_str() {
            "redis" => CacheBackend::Redis,
            "off" => CacheBackend::Off,
            _ => CacheBackend::Memory,
        },
        max_entries: read.number("CACHE_MAX_SIZE", 10_000, 1..=100_000_000, "answers kept in memory at most"),
        max_bytes: read.number(
            "CACHE_MAX_BYTES",
            64 << 20,
            1_024..=1 << 40,
            "bytes that the answers kept in memory may take",
        ),
        ttl: Duration::from_secs(read.number(
            "CACHE_DEFAULT_TTL",
            60,
            1..=31_536_000,
            "seconds for which an answer is kept",
        )),
        redis_url: queue.redis_url.clone(),
        prefix: queue.prefix.clone(),
        redis_timeout: millis(read.number(
            "CACHE_REDIS_TIMEOUT_MS",
            50,
            1..=10_000,
            "how long a look into Redis may take before the model is run instead",
        )),
        redis_worth: Duration::from_micros(read.number(
            "CACHE_REDIS_WORTH_US",
            500,
            0..=60_000_000,
            "Redis is asked for models whose run takes at least so many microseconds",
        )),
    }
}
