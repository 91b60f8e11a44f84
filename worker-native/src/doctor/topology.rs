//! Sentinels and clusters: is there somebody to take a master's place, and is every slot served?

use std::collections::BTreeMap;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::finding::Finding;
use super::server;
use crate::queue::link::Server;

/// Fewer cannot outvote one that is wrong.
const SENTINELS: usize = 3;
const SLOTS: u64 = 16_384;

/// What one sentinel says of its master.
#[derive(Debug)]
struct View {
    master: String,
    quorum: String,
    voters: usize,
}

/// Looks at every sentinel.
pub(super) async fn sentinels(master: &str, sentinels: Vec<Server>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut views: Vec<(String, View)> = Vec::new();
    for sentinel in sentinels {
        let seen = match sentinel.connection {
            Ok(mut connection) => look(&mut connection, master).await,
            Err(error) => Err(error),
        };
        match seen {
            Ok(view) => views.push((sentinel.name, view)),
            Err(error) => findings.push(
                Finding::warn(
                    "sentinel",
                    format!("no answer: {error}"),
                    "start it, or take it out of REDIS_URL; sentinels have a password of their own (?sentinel_password=)",
                )
                .at(&sentinel.name),
            ),
        }
    }
    findings.extend(agreement(&views));
    findings
}

async fn look(connection: &mut MultiplexedConnection, master: &str) -> RedisResult<View> {
    let facts: BTreeMap<String, String> =
        redis::cmd("SENTINEL").arg("MASTER").arg(master).query_async(connection).await?;
    let quorum = redis::cmd("SENTINEL").arg("CKQUORUM").arg(master).query_async::<String>(connection).await;
    let fact = |name: &str| facts.get(name).map(String::as_str).unwrap_or_default();
    Ok(View {
        master: format!("{}:{}", fact("ip"), fact("port")),
        quorum: quorum.unwrap_or_else(|error| error.to_string()),
        voters: fact("num-other-sentinels").parse::<usize>().map_or(1, |others| others + 1),
    })
}

fn agreement(views: &[(String, View)]) -> Vec<Finding> {
    let Some((_, first)) = views.first() else {
        return vec![Finding::fault("sentinel", "no sentinel answers: a failover would not be followed", "start them")];
    };
    let mut findings = Vec::new();
    for (name, view) in views {
        let finding = if view.master != first.master {
            let change = "SENTINEL RESET on the one that is wrong; look at the network between them";
            Finding::fault(
                "sentinel",
                format!("it sees the master at {}, another at {}", view.master, first.master),
                change,
            )
        } else if !view.quorum.starts_with("OK") {
            let change = "start the sentinels that are missing, so that a majority can agree on a failover";
            Finding::fault("sentinel", view.quorum.clone(), change)
        } else if view.voters < SENTINELS {
            let found = format!("{} sentinels: with one down nobody can fail over", view.voters);
            Finding::warn("sentinel", found, "run three, on three machines")
        } else {
            Finding::ok("sentinel", format!("master at {}; {}", view.master, view.quorum))
        };
        findings.push(finding.at(name));
    }
    findings
}

/// Looks at a cluster through one of its masters.
pub(super) async fn cluster(connection: &mut MultiplexedConnection) -> Finding {
    match redis::cmd("CLUSTER").arg("INFO").query_async::<String>(connection).await {
        Ok(text) => judge_cluster(&server::parse(&text)),
        Err(error) => {
            Finding::unknown("cluster", format!("CLUSTER INFO is refused: {error}"), "redis-cli --cluster check")
        }
    }
}

fn judge_cluster(info: &BTreeMap<String, String>) -> Finding {
    let number = |name: &str| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let (served, masters) = (number("cluster_slots_ok"), number("cluster_size"));
    let found = format!("{masters} masters serve {served} of {SLOTS} slots");
    if info.get("cluster_state").map(String::as_str) != Some("ok") || served < SLOTS {
        let change =
            "bring the missing masters back or give their slots to others: redis-cli --cluster check, --cluster fix";
        return Finding::loss("cluster", format!("{found}: tasks whose slot is not served take no jobs"), change);
    }
    Finding::ok("cluster", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    fn view(master: &str, quorum: &str, voters: usize) -> (String, View) {
        let view = View { master: master.to_owned(), quorum: quorum.to_owned(), voters };
        ("s".to_owned(), view)
    }

    #[test]
    fn sentinels_must_answer_agree_and_be_many() {
        let states = |views: &[(String, View)]| agreement(views).iter().map(|f| f.state).collect::<Vec<_>>();
        assert_eq!(states(&[]), [State::Fault]);
        assert_eq!(states(&[view("a:1", "OK 3", 3), view("a:1", "OK 3", 3)]), [State::Ok; 2]);
        assert_eq!(states(&[view("a:1", "OK 3", 3), view("b:1", "OK 3", 3)]), [State::Ok, State::Fault]);
        assert_eq!(states(&[view("a:1", "NOQUORUM 1 usable", 3)]), [State::Fault]);
        assert_eq!(states(&[view("a:1", "OK 2", 2)]), [State::Warn]);
    }

    #[test]
    fn a_cluster_serves_every_slot() {
        let info = |state: &str, ok: u64| {
            server::parse(&format!("cluster_state:{state}\ncluster_slots_ok:{ok}\ncluster_size:3"))
        };
        assert_eq!(judge_cluster(&info("ok", 16_384)).state, State::Ok);
        assert!(judge_cluster(&info("fail", 10_923)).loses_jobs);
        assert!(judge_cluster(&info("ok", 16_383)).loses_jobs, "without full coverage it calls itself well");
    }
}
