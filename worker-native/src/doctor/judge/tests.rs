//! Each judgement on facts as a server gives them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::finding::{Finding, State};
use super::super::server::{Facts, Timing};
use super::{Setting, bytes, facts, timing};

const SETTING: Setting = Setting { kind: "single", timeout: Duration::from_millis(500), queue_bytes: 1 << 20 };

/// A server with nothing to find fault with, changed.
fn server(info: &[(&str, &str)], config: &[(&'static str, Option<&str>)]) -> Facts {
    let good = [
        ("redis_version", "7.0.15"),
        ("role", "master"),
        ("maxmemory_policy", "noeviction"),
        ("maxmemory", "0"),
        ("used_memory", "1048576"),
        ("total_system_memory", "8589934592"),
        ("aof_enabled", "1"),
        ("aof_last_write_status", "ok"),
        ("aof_last_bgrewrite_status", "ok"),
        ("rdb_last_bgsave_status", "ok"),
        ("connected_slaves", "0"),
        ("loading", "0"),
    ];
    let info = good.iter().chain(info).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut settings: BTreeMap<&'static str, String> =
        [("appendfsync", "everysec"), ("save", ""), ("min-replicas-to-write", "0")]
            .map(|(n, v)| (n, v.to_owned()))
            .into();
    for (name, value) in config {
        match value {
            Some(value) => drop(settings.insert(name, (*value).to_owned())),
            None => drop(settings.remove(name)),
        }
    }
    Facts { info, config: settings, refused: None }
}

/// What is found of one check.
fn found(check: &str, info: &[(&str, &str)], config: &[(&'static str, Option<&str>)], kind: &'static str) -> Finding {
    let findings = facts(&server(info, config), Setting { kind, ..SETTING });
    findings.into_iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check}"))
}

fn state(check: &str, info: &[(&str, &str)], config: &[(&'static str, Option<&str>)]) -> (State, bool) {
    let finding = found(check, info, config, "single");
    assert_eq!(finding.change.is_none(), finding.state == State::Ok, "{finding:?}");
    (finding.state, finding.loses_jobs)
}

#[test]
fn a_good_server_has_nothing_to_change() {
    let findings = facts(&server(&[], &[]), SETTING);
    assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:?}");
    let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["version", "role", "eviction", "persistence", "writing", "memory", "replicas"]);
}

#[test]
fn versions_are_compared_as_numbers() {
    assert_eq!(state("version", &[("redis_version", "6.2.14")], &[]), (State::Fault, true));
    assert_eq!(state("version", &[("redis_version", "10.0.0")], &[]), (State::Ok, false));
    let valkey = |version| state("version", &[("redis_version", "7.2.4"), ("valkey_version", version)], &[]);
    assert_eq!([valkey("7.2.5"), valkey("8.1.0")], [(State::Ok, false); 2]);
    assert_eq!(valkey("7.1.0"), (State::Fault, true));
}

#[test]
fn what_evicts_or_follows_loses_jobs() {
    assert_eq!(state("eviction", &[("maxmemory_policy", "allkeys-lru")], &[]), (State::Fault, true));
    assert_eq!(
        state("eviction", &[("maxmemory_policy", "volatile-ttl"), ("maxmemory", "1")], &[]),
        (State::Fault, true)
    );
    assert_eq!(state("role", &[("role", "slave")], &[]), (State::Fault, true));
}

#[test]
fn jobs_are_as_safe_as_what_is_written_and_when() {
    let off = [("aof_enabled", "0")];
    assert_eq!(state("persistence", &off, &[]), (State::Fault, true), "nothing is kept");
    assert_eq!(
        state("persistence", &off, &[("save", Some("3600 1"))]),
        (State::Fault, true),
        "snapshots lose what came after the last"
    );
    assert_eq!(state("persistence", &off, &[("save", None)]), (State::Unknown, false), "CONFIG is forbidden");
    assert_eq!(state("persistence", &[], &[("appendfsync", Some("always"))]), (State::Ok, false));
    assert_eq!(state("persistence", &[], &[("appendfsync", Some("no"))]), (State::Warn, false));
    assert_eq!(state("persistence", &[], &[("appendfsync", None)]), (State::Unknown, false));
    assert_eq!(state("writing", &[("aof_last_write_status", "err")], &[]), (State::Fault, false));
    assert_eq!(state("writing", &[("aof_last_bgrewrite_status", "err")], &[]), (State::Warn, false));
    let failed = [("rdb_last_bgsave_status", "err")];
    assert_eq!(state("writing", &failed, &[("save", Some("60 1"))]), (State::Fault, false));
    assert_eq!(state("writing", &failed, &[]), (State::Ok, false), "one by hand stops nothing");
    assert_eq!(state("writing", &[("loading", "1")], &[]), (State::Warn, false));
}

#[test]
fn memory_is_left_for_what_is_to_come() {
    let with = |used: &str, limit: &str| state("memory", &[("used_memory", used), ("maxmemory", limit)], &[]);
    assert_eq!(with("1000000", "1000000000"), (State::Ok, false));
    assert_eq!(with("1000000", "2000000"), (State::Warn, false), "less than the queues' bounds is left");
    assert_eq!(with("850000000", "1000000000"), (State::Warn, false));
    assert_eq!(with("960000000", "1000000000"), (State::Fault, false));
    assert_eq!(with("8500000000", "0"), (State::Fault, false), "without a limit the machine's is one");
}

#[test]
fn replicas_must_follow_and_be_waited_for() {
    let two = [("connected_slaves", "2"), ("slave0", "state=online,lag=0"), ("slave1", "state=online,lag=1")];
    assert_eq!(state("replicas", &two, &[]), (State::Warn, false));
    assert_eq!(state("replicas", &two, &[("min-replicas-to-write", Some("1"))]), (State::Ok, false));
    assert_eq!(state("replicas", &two, &[("min-replicas-to-write", None)]), (State::Unknown, false));
    let behind = [two[0], two[1], ("slave1", "state=wait_bgsave,lag=9")];
    assert!(found("replicas", &behind, &[], "single").found.starts_with("1 of 2"));
    assert_eq!(found("replicas", &[], &[], "sentinel").state, State::Warn, "nobody could take its place");
}

#[test]
fn one_of_a_cluster_is_told_from_one_alone() {
    assert_eq!(state("cluster", &[("cluster_enabled", "1")], &[]), (State::Warn, false));
    let whole = facts(&server(&[("cluster_enabled", "1")], &[]), Setting { kind: "cluster", ..SETTING });
    assert!(whole.iter().all(|finding| finding.check != "cluster"), "the cluster itself is looked at elsewhere");
}

#[test]
fn a_server_that_says_nothing_is_unknown_and_no_fault() {
    let silent = Facts { refused: Some("NOPERM".to_owned()), ..Facts::default() };
    let findings = facts(&silent, SETTING);
    assert_eq!(findings.iter().map(|finding| finding.state).collect::<Vec<_>>(), [State::Unknown]);
    let bare = facts(&Facts::default(), SETTING);
    assert!(bare.iter().all(|finding| finding.state == State::Unknown && finding.change.is_some()), "{bare:?}");
}

#[test]
fn slow_servers_scripts_that_are_refused_and_clocks_apart() {
    let timed = |ping: u64, script: Result<Duration, String>, ahead: Option<(i64, u64)>| {
        let told = Timing { pings: vec![Duration::from_millis(ping); 50], script, ahead };
        timing(&told, SETTING).iter().map(|finding| finding.state).collect::<Vec<_>>()
    };
    let fine = || Ok(Duration::from_millis(1));
    assert_eq!(timed(1, fine(), Some((-900, 1))), [State::Ok; 3]);
    assert_eq!(timed(125, fine(), Some((1_002, 1))), [State::Warn, State::Ok, State::Warn]);
    assert_eq!(timed(500, Err("NOPERM".to_owned()), None), [State::Fault, State::Fault, State::Unknown]);
    assert_eq!(timed(1, fine(), Some((-5_000, 4_500))), [State::Ok; 3], "half a round trip is no skew");
}

#[test]
fn sizes_are_for_people() {
    let sizes = [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (u64::MAX, "16777215.9 TiB")];
    for (size, said) in sizes {
        assert_eq!(bytes(size), said);
    }
}
