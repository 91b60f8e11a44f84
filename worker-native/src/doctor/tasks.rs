//! Each task's queue in Redis: who runs its jobs, how long the longest has been silent, what was lost.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::RedisResult;

use super::finding::Finding;
use crate::config::QueueConfig;
use crate::queue::link::Raw;
use crate::queue::{Counts, Queue};

/// Flows (classes and tenants) of a task that are looked into.
const FLOWS: usize = 500;
/// Claimed jobs of a flow that are looked at.
const HELD: usize = 100;

/// The consumers of a task's streams.
#[derive(Debug, Default)]
struct Group {
    consumers: BTreeSet<String>,
    /// The longest that a claimed job has not been renewed.
    silence: Option<Duration>,
}

/// Looks at one task.
pub(super) async fn look(task: &str, queue: &dyn Queue, connection: &mut Raw, config: &QueueConfig) -> Vec<Finding> {
    let counts = match queue.counts(task).await {
        Ok(counts) => counts,
        Err(error) => {
            let by_hand = format!("redis-cli HGETALL '{}:{{{task}}}:depth'", config.prefix);
            return vec![Finding::unknown("queue", format!("its numbers cannot be read: {error}"), by_hand).at(task)];
        }
    };
    let mut findings = vec![lost(&counts, task, &config.prefix)];
    match group(task, connection, &config.prefix).await {
        Ok(group) => findings.push(consumers(&counts, &group, config.lease)),
        Err(error) => {
            let by_hand = "allow XINFO and XPENDING (ACL SETUSER … +@read)";
            findings.push(Finding::unknown("consumers", format!("its streams cannot be looked at: {error}"), by_hand));
        }
    }
    findings.into_iter().map(|finding| finding.at(task)).collect()
}

async fn group(task: &str, connection: &mut Raw, prefix: &str) -> RedisResult<Group> {
    let base = format!("{prefix}:{{{task}}}:");
    let mut group = Group::default();
    let flows: (String, Vec<String>) =
        redis::cmd("SSCAN").arg(format!("{base}flows")).arg(0).arg("COUNT").arg(FLOWS).query_async(connection).await?;
    for flow in flows.1.iter().take(FLOWS) {
        let stream = format!("{base}flow:{flow}");
        let infos: Vec<Vec<redis::Value>> =
            match redis::cmd("XINFO").arg("CONSUMERS").arg(&stream).arg("consumers").query_async(connection).await {
                // Between two flows a tenant may have gone, or a group not been made yet.
                Err(error) if error.code().is_some_and(|code| matches!(code, "ERR" | "NOGROUP")) => continue,
                found => found?,
            };
        for info in &infos {
            if let Some(name) = info.get(1) {
                group.consumers.insert(redis::from_redis_value_ref(name)?);
            }
        }
        let mut held = redis::cmd("XPENDING");
        held.arg(&stream).arg("consumers").arg("-").arg("+").arg(HELD);
        let held: Vec<(String, String, u64, u64)> = held.query_async(connection).await?;
        let silent = held.iter().filter(|(_, owner, ..)| !is_nobody(owner)).map(|(_, _, idle, _)| *idle).max();
        group.silence = group.silence.max(silent.map(Duration::from_millis));
    }
    group.consumers.retain(|name| !is_nobody(name));
    Ok(group)
}

/// Jobs that were handed back belong to a name that no consumer has (`lua/prelude.lua`).
fn is_nobody(name: &str) -> bool {
    name.starts_with('~')
}

fn lost(counts: &Counts, task: &str, prefix: &str) -> Finding {
    let total: u64 = counts.depths.values().map(|depth| u64::from(*depth)).sum();
    let running: u64 = counts.running.values().map(|depth| u64::from(*depth)).sum();
    let found = format!(
        "{total} unsettled ({running} running, {} to be tried again), {} settled, {} dead, {} lost",
        counts.delayed, counts.settled, counts.dead, counts.lost
    );
    if counts.lost > 0 {
        let change = format!(
            "find who deletes keys of {prefix}:{{{task}}}: (FLUSHALL, an evicting policy, another program), then forget the \
             count: HDEL '{prefix}:{{{task}}}:count' lost"
        );
        return Finding::fault("queue", found, change);
    }
    if counts.dead > 0 {
        return Finding::warn("queue", found, "look at the dead letters: hand them in again, or drop them");
    }
    Finding::ok("queue", found)
}

fn consumers(counts: &Counts, group: &Group, lease: Duration) -> Finding {
    let waiting = counts.depths.values().any(|depth| *depth > 0);
    let silence = group.silence.unwrap_or_default();
    let silent = match group.silence {
        Some(silence) => format!("; the longest a running job was not heard of: {:.1} s", silence.as_secs_f64()),
        None => String::new(),
    };
    let number = group.consumers.len();
    let found = format!("{number} known{silent}");
    let change = "start a process with ROLE=all or ROLE=worker on the same REDIS_URL and QUEUE_PREFIX";
    if waiting && number == 0 {
        return Finding::warn("consumers", format!("{found}: nobody has run a job of it"), change);
    }
    // One lease until it counts as abandoned, and one for somebody to take it over.
    if silence > lease * 2 {
        return Finding::warn("consumers", format!("{found}: nobody takes it over"), change);
    }
    Finding::ok("consumers", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn what_was_lost_is_a_fault_and_what_died_a_warning() {
        let counts = Counts::default();
        assert_eq!(lost(&counts, "t", "ir").state, State::Ok);
        assert_eq!(lost(&Counts { dead: 1, ..counts.clone() }, "t", "ir").state, State::Warn);
        let finding = lost(&Counts { dead: 1, lost: 2, ..counts }, "t", "ir");
        assert_eq!(finding.state, State::Fault);
        assert!(finding.change.unwrap().contains("'ir:{t}:count' lost"));
    }

    #[test]
    fn jobs_need_somebody_who_runs_them() {
        let lease = Duration::from_secs(15);
        let waiting = Counts { depths: [("fast".to_owned(), 1)].into(), ..Counts::default() };
        let group = |names: &[&str], silence: Option<u64>| Group {
            consumers: names.iter().map(|name| (*name).to_owned()).collect(),
            silence: silence.map(Duration::from_secs),
        };
        assert_eq!(consumers(&Counts::default(), &group(&[], None), lease).state, State::Ok);
        assert_eq!(consumers(&waiting, &group(&[], None), lease).state, State::Warn);
        assert_eq!(consumers(&waiting, &group(&["a"], Some(5)), lease).state, State::Ok);
        assert_eq!(consumers(&waiting, &group(&["a"], Some(31)), lease).state, State::Warn);
    }
}
