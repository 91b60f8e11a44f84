//! What to think of a Redis server that is to keep jobs: pure, from what it says of itself.

use std::time::Duration;

use super::finding::Finding;
use super::server::{Facts, Timing};

/// How the server is reached, and what it is to be for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// `single`, `sentinel` or `cluster`.
    pub(super) kind: &'static str,
    /// `REDIS_TIMEOUT_MS`.
    pub(super) timeout: Duration,
    /// Bytes that all tasks' queues may take together.
    pub(super) queue_bytes: u64,
}

/// From this difference on, times shown to people are misleading.
const SKEW_MS: u64 = 1_000;

/// Everything that a server's own words show, but its speed.
pub(super) fn facts(facts: &Facts, setting: Setting) -> Vec<Finding> {
    if let Some(refused) = &facts.refused {
        let by_hand = "allow the command (ACL SETUSER … +info), or look at the provider's page for version, role, \
                       maxmemory-policy and persistence";
        return vec![Finding::unknown("server", format!("INFO is refused: {refused}"), by_hand)];
    }
    let mut findings = vec![version(facts), role(facts), eviction(facts), persistence(facts)];
    findings.extend(writing(facts));
    findings.push(memory(facts, setting.queue_bytes));
    findings.push(replicas(facts, setting.kind));
    if setting.kind == "single" && facts.get("cluster_enabled") == Some("1") {
        findings.push(Finding::warn(
            "cluster",
            "this server is one of a cluster's, and is spoken to as if it were alone",
            "write REDIS_URL as redis+cluster://HOST:PORT,HOST:PORT",
        ));
    }
    findings
}

fn version(facts: &Facts) -> Finding {
    let (name, text, least) = match facts.get("valkey_version") {
        Some(version) => ("Valkey", version, (7, 2)),
        None => match facts.get("redis_version") {
            Some(version) => ("Redis", version, (7, 0)),
            None => return Finding::unknown("version", "INFO names no version", "ask the server: INFO server"),
        },
    };
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version >= least {
        return Finding::ok("version", format!("{name} {text}"));
    }
    let change = format!("upgrade to {name} {}.{} or later", least.0, least.1);
    let found = format!("{name} {text}: its streams do not tell which entries of a consumer were deleted");
    Finding::loss("version", found, change)
}

fn role(facts: &Facts) -> Finding {
    match facts.get("role") {
        Some("master") => Finding::ok("role", "master"),
        Some(role) => Finding::loss(
            "role",
            format!("{role}: it takes no jobs, or loses them when it follows its master again"),
            "let REDIS_URL name the master; with sentinels redis+sentinel://HOST:PORT,HOST:PORT/MASTER finds it",
        ),
        None => Finding::unknown("role", "INFO names no role", "ask the server: ROLE"),
    }
}

fn eviction(facts: &Facts) -> Finding {
    match facts.get("maxmemory_policy") {
        Some("noeviction") => Finding::ok("eviction", "maxmemory-policy noeviction"),
        Some(policy) => {
            let now = match facts.number("maxmemory") {
                Some(0) => " (as soon as there is a maxmemory)",
                _ => "",
            };
            Finding::loss(
                "eviction",
                format!("maxmemory-policy {policy}: when it is full it drops jobs and results it has accepted{now}"),
                "maxmemory-policy noeviction (in redis.conf, and now: CONFIG SET maxmemory-policy noeviction)",
            )
        }
        None => Finding::unknown(
            "eviction",
            "INFO does not tell maxmemory_policy",
            "look for maxmemory-policy in the provider's settings; it must be noeviction",
        ),
    }
}

fn persistence(facts: &Facts) -> Finding {
    const AOF: &str = "appendonly yes and appendfsync everysec (in redis.conf, and now: CONFIG SET appendonly yes)";
    match facts.get("aof_enabled") {
        Some("1") => {}
        Some(_) => {
            return match facts.config.get("save").map(String::as_str) {
                Some("") => Finding::loss("persistence", "none: a restart of the server loses every job", AOF),
                Some(points) => Finding::loss(
                    "persistence",
                    format!("snapshots only (save {points}): a crash loses every job since the last one"),
                    AOF,
                ),
                None => Finding::unknown(
                    "persistence",
                    "no append-only file; whether there are snapshots or copies CONFIG does not say",
                    "look for append-only persistence (AOF) in the provider's settings",
                ),
            };
        }
        None => {
            return Finding::unknown(
                "persistence",
                "INFO does not tell aof_enabled",
                "look for append-only persistence (AOF) in the provider's settings",
            );
        }
    }
    match facts.config.get("appendfsync").map(String::as_str) {
        Some("always") => Finding::ok("persistence", "append-only file, written to disk before each answer"),
        Some("everysec") => Finding::ok(
            "persistence",
            "append-only file, written to disk every second: if the machine dies, up to a second of jobs is lost",
        ),
        Some(policy) => Finding::warn(
            "persistence",
            format!("append-only file with appendfsync {policy}: if the machine dies, half a minute of jobs is lost"),
            "appendfsync everysec, or always (in redis.conf, and now: CONFIG SET appendfsync everysec)",
        ),
        None => Finding::unknown(
            "persistence",
            "append-only file; how often it reaches the disk CONFIG does not say",
            "look for appendfsync in the provider's settings; it should be everysec or always",
        ),
    }
}

/// Do the files get written?
fn writing(facts: &Facts) -> Option<Finding> {
    if facts.get("loading") == Some("1") {
        return Some(Finding::warn("writing", "the server is still reading its files", "wait until it is done"));
    }
    let failed = |name: &str| facts.get(name).is_some_and(|status| status != "ok");
    if facts.get("aof_enabled") == Some("1") && failed("aof_last_write_status") {
        return Some(Finding::fault(
            "writing",
            "the last write to the append-only file failed: the server refuses jobs",
            "make room on the server's disk, or mend it; the server's log has the reason",
        ));
    }
    if failed("aof_last_bgrewrite_status") {
        return Some(Finding::warn(
            "writing",
            "the last rewrite of the append-only file failed: it grows for ever",
            "make room on the server's disk and in its memory (vm.overcommit_memory = 1), then BGREWRITEAOF",
        ));
    }
    let stops = facts.config.get("stop-writes-on-bgsave-error").is_none_or(|value| value == "yes");
    let snapshots = facts.config.get("save").is_some_and(|points| !points.is_empty());
    if failed("rdb_last_bgsave_status") && stops && snapshots {
        return Some(Finding::fault(
            "writing",
            "the last snapshot failed: the server refuses jobs (MISCONF)",
            "make room on the server's disk and in its memory, then BGSAVE; or turn snapshots off: save \"\"",
        ));
    }
    facts.get("aof_last_write_status").map(|_| Finding::ok("writing", "the last writes to its files went well"))
}

fn memory(facts: &Facts, queue_bytes: u64) -> Finding {
    let Some(used) = facts.number("used_memory") else {
        return Finding::unknown("memory", "INFO does not tell used_memory", "ask the server: INFO memory");
    };
    let (limit, what) = match (facts.number("maxmemory"), facts.number("total_system_memory")) {
        (Some(limit), _) if limit > 0 => (limit, "maxmemory"),
        (_, Some(system)) if system > 0 => (system, "the machine's memory"),
        _ => return Finding::ok("memory", format!("{} in use, no limit", bytes(used))),
    };
    let found = format!("{} in use of {} ({what})", bytes(used), bytes(limit));
    let change = "raise maxmemory, or lower QUEUE_MAX_BYTES, RESULTS_HISTORY and RESULT_TTL_SECONDS";
    if used.saturating_mul(20) >= limit.saturating_mul(19) {
        return Finding::fault("memory", format!("{found}: it is about to refuse jobs"), change);
    }
    if used.saturating_mul(5) >= limit.saturating_mul(4) {
        return Finding::warn("memory", found, change);
    }
    if what == "maxmemory" && limit.saturating_sub(used) < queue_bytes {
        let full = format!("{found}: less is left than the tasks' queues may take ({})", bytes(queue_bytes));
        return Finding::warn("memory", full, "raise maxmemory, or lower QUEUE_MAX_BYTES; a full server answers 503");
    }
    Finding::ok("memory", found)
}

fn replicas(facts: &Facts, kind: &str) -> Finding {
    let Some(count) = facts.number("connected_slaves") else {
        return Finding::unknown("replicas", "INFO does not tell connected_slaves", "ask the server: INFO replication");
    };
    if count == 0 {
        return if kind == "single" {
            Finding::ok("replicas", "none: the jobs are as safe as this server's disk")
        } else {
            Finding::warn("replicas", "none: nobody can take this master's place", "give it a replica")
        };
    }
    let behind = facts.info.iter().filter(|(name, value)| is_replica(name) && !value.contains("state=online")).count();
    if behind > 0 {
        let found = format!("{behind} of {count} are not up to date");
        return Finding::warn("replicas", found, "look at the replicas' logs; a failover to one of them loses jobs");
    }
    match facts.config.get("min-replicas-to-write").map(String::as_str) {
        Some("0") => Finding::warn(
            "replicas",
            format!("{count}, and the master takes jobs without them: a failover may lose the newest"),
            "min-replicas-to-write 1 and min-replicas-max-lag 10 (in redis.conf, and now by CONFIG SET)",
        ),
        Some(least) => {
            Finding::ok("replicas", format!("{count}; at least {least} must follow (min-replicas-to-write)"))
        }
        None => Finding::unknown(
            "replicas",
            format!("{count}; how many must follow CONFIG does not say"),
            "look for min-replicas-to-write in the provider's settings; 1 narrows what a failover can lose",
        ),
    }
}

/// `slave0`, `slave1`, …
fn is_replica(name: &str) -> bool {
    name.strip_prefix("slave").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Latency, scripts and clock.
pub(super) fn timing(timing: &Timing, setting: Setting) -> Vec<Finding> {
    let (half, most) = (timing.percentile(50), timing.percentile(99));
    let found = format!("a ping takes {} (p50), {} (p99)", millis(half), millis(most));
    let slow = "bring the service nearer to Redis, or look for what holds it up (SLOWLOG GET, LATENCY DOCTOR)";
    let latency = if most >= setting.timeout {
        let found = format!("{found}: longer than REDIS_TIMEOUT_MS");
        Finding::fault("latency", found, format!("{slow}; or raise REDIS_TIMEOUT_MS"))
    } else if most * 4 >= setting.timeout {
        Finding::warn("latency", found, slow)
    } else {
        Finding::ok("latency", found)
    };
    let script = match &timing.script {
        Ok(took) => Finding::ok("scripts", format!("a script takes {}", millis(*took))),
        Err(error) => Finding::fault(
            "scripts",
            format!("scripts are refused: {error}"),
            "allow them to the service's user (ACL SETUSER … +@scripting); every step of the queue is one",
        ),
    };
    vec![latency, script, clock(timing.ahead)]
}

fn clock(ahead: Option<(i64, u64)>) -> Finding {
    let Some((ahead, unsure)) = ahead else {
        return Finding::unknown("clock", "TIME is refused", "compare the clocks by hand: redis-cli TIME; date +%s");
    };
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let found = format!("the server is {} ms {side} this machine (give or take {unsure} ms)", ahead.unsigned_abs());
    if ahead.unsigned_abs() > SKEW_MS + unsure {
        // Deadlines and leases are by the server's clock alone.
        let found = format!("{found}: times of acceptance and results do not fit together");
        return Finding::warn("clock", found, "keep both clocks by NTP (chronyd, systemd-timesyncd)");
    }
    Finding::ok("clock", found)
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// A size for people.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len()).rev().find(|unit| bytes >> (10 * unit) > 0).unwrap_or(0);
    let whole = 1_u64 << (10 * unit);
    let tenths = (bytes % whole).saturating_mul(10) / whole;
    let fraction = if unit == 0 { String::new() } else { format!(".{tenths}") };
    format!("{}{fraction} {}", bytes / whole, UNITS.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests;
