//! What one Redis server says of itself.
//!
//! Owns asking; what to think of the answers is `judge`'s. A command that is forbidden (ACL, managed Redis) leaves its
//! fact unknown and the others as they are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult};

use crate::clock::now_ms;

/// Pings that make up the latency.
const PINGS: usize = 50;
/// The settings that are looked at.
const SETTINGS: [&str; 4] = ["appendfsync", "save", "min-replicas-to-write", "stop-writes-on-bgsave-error"];

/// What a server says of itself.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts {
    /// `INFO`: name to value; empty where it is forbidden.
    pub(super) info: BTreeMap<String, String>,
    /// `CONFIG GET`: name to value; what is forbidden or unknown to the server is not there.
    pub(super) config: BTreeMap<&'static str, String>,
    /// Why `INFO` was refused.
    pub(super) refused: Option<String>,
}

/// How fast a server answers, and what its clock says.
#[derive(Debug, Clone)]
pub(super) struct Timing {
    /// Round trips of pings, in order of length.
    pub(super) pings: Vec<Duration>,
    /// One call of a script, or why it is refused.
    pub(super) script: Result<Duration, String>,
    /// How far its clock is ahead of ours, in milliseconds, and how sure that is; none where `TIME` is forbidden.
    pub(super) ahead: Option<(i64, u64)>,
}

impl Facts {
    /// Asks a server.
    ///
    /// # Errors
    /// It does not answer at all, or not to this user and password.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let mut facts = Self::default();
        match redis::cmd("INFO").query_async::<String>(connection).await {
            Ok(text) => facts.info = parse(&text),
            Err(error) if error.is_io_error() || is_stranger(&error) => return Err(error),
            Err(error) => facts.refused = Some(error.to_string()),
        }
        for name in SETTINGS {
            let found: RedisResult<Vec<String>> =
                redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await;
            match found {
                Ok(pair) => {
                    if let Some(value) = pair.into_iter().nth(1) {
                        facts.config.insert(name, value);
                    }
                }
                Err(error) if error.is_io_error() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(facts)
    }

    /// A value of `INFO`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    /// A number of `INFO`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// Does a server refuse the user or the password of `REDIS_URL`, or the lack of one?
pub(super) fn is_stranger(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

impl Timing {
    /// Times a server.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let mut pings = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let begun = Instant::now();
            redis::cmd("PING").query_async::<String>(connection).await?;
            pings.push(begun.elapsed());
        }
        pings.sort_unstable();
        let (begun, before) = (Instant::now(), now_ms());
        let time: RedisResult<(u64, u64)> = redis::cmd("TIME").query_async(connection).await;
        let trip = begun.elapsed();
        let ahead = time.ok().map(|(seconds, micros)| {
            let half = u64::try_from(trip.as_millis() / 2).unwrap_or(u64::MAX);
            let theirs = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
            (theirs.cast_signed().saturating_sub(before.saturating_add(half).cast_signed()), half + 1)
        });
        let mut call = redis::cmd("EVAL");
        // Of no key: in a cluster that may be another server's.
        call.arg("return 1").arg(0);
        let begun = Instant::now();
        let script = match call.query_async::<u64>(connection).await {
            Ok(_) => Ok(begun.elapsed()),
            Err(error) if error.is_io_error() => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        Ok(Self { pings, script, ahead })
    }

    /// The ping that so many hundredths of them were not longer than.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let index = (self.pings.len() * percent).div_ceil(100).saturating_sub(1);
        self.pings.get(index).copied().unwrap_or_default()
    }
}

/// Lines of `name:value`; headings have no colon.
pub(super) fn parse(info: &str) -> BTreeMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_pings_that_were() {
        let pings = (1..=50).map(Duration::from_millis).collect();
        let timing = Timing { pings, script: Ok(Duration::ZERO), ahead: None };
        assert_eq!([timing.percentile(50), timing.percentile(99)], [25, 50].map(Duration::from_millis));
        let none = Timing { pings: vec![], ..timing };
        assert_eq!(none.percentile(99), Duration::ZERO);
    }

    #[test]
    fn info_is_read_by_line() {
        let info = parse("# Server\r\nredis_version:7.0.15\r\nslave0:ip=::1,port=1\r\n\r\n");
        assert_eq!(info["redis_version"], "7.0.15");
        assert_eq!(info["slave0"], "ip=::1,port=1");
    }
}
