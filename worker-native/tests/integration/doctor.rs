//! `infer-router doctor` and what `serve` refuses: every fault provoked on a real Redis.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::native::Native;
use crate::support::readings::{body, get, normal, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_sentinel::RedisSentinel;
use crate::support::{root, tool, until};

async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer-router"));
    command.args(arguments).current_dir(root()).env("MODEL_DIR", "models").env("API_PORT", "0");
    command.env("ORT_DYLIB_PATH", tool("ORT_DYLIB_PATH")).envs(settings.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A busy machine is no slow Redis.
const PATIENT: (&str, &str) = ("REDIS_TIMEOUT_MS", "20000");

/// What doctor says of Redis, and its exit code.
async fn examined(url: &str) -> (Value, i32) {
    let output = run(&["doctor", "--json", "--no-models"], &[("REDIS_URL", url), PATIENT]).await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (report, output.status.code().unwrap())
}

fn findings<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).collect()
}

/// The states of a check, wherever it looked.
fn states(report: &Value, check: &str) -> Vec<String> {
    findings(report, check).iter().map(|finding| finding["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_report_has_one_shape_and_a_good_redis_no_fault() {
    let redis = Redis::start().await;
    let (report, code) = examined(&redis.url()).await;
    assert_eq!((code, &report["queue"], &report["counts"]["fault"]), (0, &json!("single"), &json!(0)), "{report}");
    let checks: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    let server = [
        "reachable",
        "version",
        "role",
        "eviction",
        "persistence",
        "writing",
        "memory",
        "replicas",
        "latency",
        "scripts",
        "clock",
    ];
    assert_eq!(checks[..server.len()], server);
    assert!(checks[server.len()..].chunks(2).all(|task| task == ["queue", "consumers"]), "{checks:?}");
    assert_eq!(
        findings(&report, "eviction")[0],
        &json!({
            "check": "eviction", "place": format!("127.0.0.1:{}", redis.port), "state": "ok",
            "found": "maxmemory-policy noeviction", "change": null, "loses_jobs": false,
        })
    );
    let names: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(names, ["counts", "findings", "queue", "state"]);
}

#[tokio::test]
async fn every_fault_of_a_redis_is_found_with_its_remedy() {
    let redis = Redis::start().await;
    for (set, back, check, state, remedy) in [
        (("maxmemory-policy", "allkeys-lru"), "noeviction", "eviction", "fault", "maxmemory-policy noeviction"),
        (("maxmemory-policy", "volatile-ttl"), "noeviction", "eviction", "fault", "maxmemory-policy noeviction"),
        (("appendonly", "no"), "yes", "persistence", "fault", "appendonly yes"),
        (("appendfsync", "no"), "always", "persistence", "warn", "appendfsync everysec"),
        (("maxmemory", "1mb"), "0", "memory", "fault", "raise maxmemory"),
        (("maxmemory", "200mb"), "0", "memory", "warn", "QUEUE_MAX_BYTES"),
    ] {
        redis.configure(set.0, set.1).await;
        let (report, code) = examined(&redis.url()).await;
        redis.configure(set.0, back).await;
        assert_eq!((states(&report, check), code), (vec![state.to_owned()], i32::from(state == "fault")), "{set:?}");
        let change = findings(&report, check)[0]["change"].as_str().unwrap();
        assert!(change.contains(remedy), "{set:?}: {change}");
    }
    let mut admin = redis.connection().await;
    let () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).query_async(&mut admin).await.unwrap();
    assert_eq!(states(&examined(&redis.url()).await.0, "role"), ["fault"]);
    let () = redis::cmd("REPLICAOF").arg("NO").arg("ONE").query_async(&mut admin).await.unwrap();
    let (report, code) = examined(&redis.url()).await;
    assert_eq!((&report["counts"]["fault"], code), (&json!(0), 0), "all of it was taken back: {report}");
}

#[tokio::test]
async fn jobs_that_were_lost_or_that_nobody_runs_are_told_by_task() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api"), PATIENT]).await;
    assert_eq!(post(&api.url("/data"), &body(&normal())).await.status(), 202);
    let (report, code) = examined(&redis.url()).await;
    let of = |report: &Value, check: &str| {
        let found = findings(report, check).into_iter().find(|finding| finding["place"] == "pump-anomaly").cloned();
        found.unwrap_or_else(|| panic!("{report}"))
    };
    assert_eq!((&of(&report, "consumers")["state"], code), (&json!("warn"), 0), "{report}");
    assert!(of(&report, "queue")["found"].as_str().unwrap().starts_with("1 unsettled (0 running"));

    let mut lose = redis::cmd("HSET");
    lose.arg("ir:{pump-anomaly}:count").arg("lost").arg(3);
    let () = lose.query_async(&mut redis.connection().await).await.unwrap();
    let (report, code) = examined(&redis.url()).await;
    let lost = of(&report, "queue");
    assert_eq!((&lost["state"], code), (&json!("fault"), 1));
    assert!(lost["change"].as_str().unwrap().contains("HDEL 'ir:{pump-anomaly}:count' lost"), "{lost}");
}

#[tokio::test]
async fn what_a_managed_redis_hides_is_unknown_and_no_fault() {
    let redis = Redis::start().await;
    let mut admin = redis.connection().await;
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER")
        .arg("ours")
        .arg("on")
        .arg(">secret")
        .arg("~*")
        .arg("&*")
        .arg("+@all")
        .arg("-config")
        .arg("-info");
    let () = user.query_async(&mut admin).await.unwrap();
    let url = redis.url().replace("redis://", "redis://ours:secret@");
    let (report, code) = examined(&url).await;
    assert_eq!((states(&report, "server"), code), (vec!["unknown".to_owned()], 0), "{report}");
    let () = redis::cmd("ACL").arg("SETUSER").arg("ours").arg("+info").query_async(&mut admin).await.unwrap();
    let (report, code) = examined(&url).await;
    assert_eq!(
        (states(&report, "persistence"), states(&report, "eviction")),
        (vec!["unknown".into()], vec!["ok".into()])
    );
    assert_eq!((code, states(&report, "scripts")), (0, vec!["ok".to_owned()]));
    let () = redis::cmd("ACL").arg("SETUSER").arg("ours").arg("-eval").query_async(&mut admin).await.unwrap();
    assert_eq!(states(&examined(&url).await.0, "scripts"), ["fault"]);
    assert!(!examined(&url).await.0.to_string().contains("secret"));
}

#[tokio::test]
async fn a_cluster_is_looked_at_whole() {
    let mut cluster = RedisCluster::start().await;
    let (report, code) = examined(&cluster.url()).await;
    assert_eq!(
        (states(&report, "cluster"), &report["queue"], code),
        (vec!["ok".to_owned()], &json!("cluster"), 0),
        "{report}"
    );
    assert_eq!(states(&report, "replicas"), ["warn"; 3], "no master has a replica");
    assert_eq!(states(&report, "scripts"), ["ok"; 3], "a key of another master is no fault");
    cluster.stop_one().await;
    let (report, code) = examined(&cluster.url()).await;
    assert_eq!((states(&report, "cluster"), code), (vec!["fault".to_owned()], 1), "{report}");
    let refused = run(&["serve"], &[("REDIS_URL", &cluster.url())]).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("slots") && said.contains("--cluster fix"), "{said}");
}

#[tokio::test]
async fn sentinels_are_asked_whether_they_could_act() {
    let mut redis = RedisSentinel::start().await;
    let (report, code) = examined(&redis.url()).await;
    assert_eq!(
        (states(&report, "sentinel"), &report["queue"], code),
        (vec!["ok".to_owned(); 3], &json!("sentinel"), 0),
        "{report}"
    );
    assert_eq!(states(&report, "replicas"), ["warn"], "min-replicas-to-write is 0");
    redis.stop_sentinels();
    let url = redis.url();
    let report = until("a sentinel that misses the others", || async {
        let (report, code) = examined(&url).await;
        (code == 1).then_some(report)
    })
    .await;
    assert_eq!(states(&report, "sentinel"), ["warn", "warn", "fault"], "{report}");
}

#[tokio::test]
async fn the_table_is_for_people_and_wrong_settings_have_their_own_exit_code() {
    let redis = Redis::start().await;
    let said = run(&["doctor"], &[("REDIS_URL", &redis.url()), PATIENT]).await;
    let table = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && table.contains("what to change") && table.contains("0 faults"), "{table}");
    assert!(table.contains("pump-anomaly.lof:1"), "the models are looked at: {table}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("q/queue.sqlite");
    let settings = [("QUEUE_FILE", file.to_str().unwrap()), ("MODEL_DIR", dir.path().to_str().unwrap())];
    let said = run(&["doctor", "--json"], &settings).await;
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (said.status.code(), states(&report, "file"), states(&report, "model")),
        (Some(1), vec!["ok".into()], vec!["fault".into()])
    );
    for arguments in [&["doctor", "--jsno"][..], &["doctor"]] {
        let said = run(arguments, &[("REDIS_URL", "nowhere")]).await;
        assert_eq!(said.status.code(), Some(2), "{said:?}");
    }
}

#[tokio::test]
async fn the_queue_s_file_is_looked_at_beside_the_service_that_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("queue.sqlite");
    let settings = [("QUEUE_FILE", file.to_str().unwrap())];
    let native = Native::start("", &settings).await;
    let (status, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
    assert_eq!(status, 202, "{receipt}");
    let said = run(&["doctor", "--json", "--no-models"], &settings).await;
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    for check in ["file", "journal", "integrity"] {
        assert_eq!(states(&report, check), ["ok"], "{report}");
    }
    assert_eq!((said.status.code(), &report["queue"]), (Some(0), &json!("file")), "{report}");
    assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "done");
}

#[tokio::test]
async fn serve_refuses_a_redis_that_would_lose_jobs_unless_told_to_accept_it() {
    let redis = Redis::start().await;
    redis.configure("maxmemory-policy", "allkeys-lru").await;
    redis.configure("appendonly", "no").await;
    redis.configure("save", "").await;
    let refused = run(&["serve"], &[("REDIS_URL", &redis.url())]).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for word in ["eviction", "maxmemory-policy noeviction", "persistence", "appendonly yes", "--accept-loss"] {
        assert!(said.contains(word), "{word} missing in: {said}");
    }

    let native = Native::start(&redis.url(), &[("ACCEPT_LOSS", "true"), PATIENT]).await;
    let warned = |line: &&Value| line["level"] == "WARN" && line["message"].as_str().unwrap().contains("lose jobs");
    let lines = native.log_lines();
    assert_eq!(lines.iter().filter(warned).count(), 2, "once for each finding: {lines:#?}");
    let (status, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
    assert_eq!((status, get(&native.url("/readyz")).await.0), (202, 200));
    result_of(&native.url(""), &receipt).await;
}

#[tokio::test]
async fn serve_refuses_a_redis_that_keeps_snapshots_only() {
    let redis = Redis::start().await;
    redis.configure("appendonly", "no").await;
    redis.configure("save", "3600 1").await;
    let refused = run(&["serve"], &[("REDIS_URL", &redis.url())]).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for word in ["snapshots only", "appendonly yes", "--accept-loss"] {
        assert!(said.contains(word), "{word} missing in: {said}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_at_the_start_and_not_repeated() {
    let redis = Redis::start().await;
    redis.configure("requirepass", "right").await;
    for user in [":hunter2@", "somebody:hunter2@", ""] {
        let url = format!("redis://{user}127.0.0.1:{}", redis.port);
        // No loss that could be accepted: nothing works so.
        let refused = run(&["serve"], &[("REDIS_URL", &url), ("ACCEPT_LOSS", "true")]).await;
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("REDIS_URL") && said.contains("password") && !said.contains("hunter2"), "{said}");
    }
    let url = format!("redis://:right@127.0.0.1:{}", redis.port);
    let native = Native::start(&url, &[PATIENT]).await;
    assert_eq!(get(&native.url("/readyz")).await.0, 200);
}

#[tokio::test]
async fn a_redis_that_comes_later_is_looked_at_then() {
    let mut redis = Redis::start().await;
    redis.stop();
    let native = Native::start(&redis.url(), &[]).await;
    assert_eq!(post(&native.url("/data"), &body(&normal())).await.status(), 503);
    redis.start_again(&["--maxmemory-policy", "allkeys-lru"]).await;
    let health = until("the finding", || async {
        let (_, health) = get(&native.url("/readyz")).await;
        (health["queue"]["would_lose_jobs"] == json!(["eviction"])).then_some(health)
    })
    .await;
    assert_eq!((&health["status"], &health["queue"]["writable"]), (&json!("degraded"), &json!(true)));
    assert_eq!(get(&native.url("/readyz")).await.0, 503);
    let told = |line: &Value| line["level"] == "ERROR" && line["check"] == "eviction";
    assert_eq!(native.log_lines().into_iter().filter(told).count(), 1);
}
