//! Somebody changes the queue's data, or hands in what no worker survives.

use serde_json::json;

use super::rig::{Rig, nothing, reading, told};
use crate::support::until;

const FLOW: &str = "ir:{pump-anomaly}:flow:normal";

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_group_is_destroyed_under_load() {
    let rig = Rig::start().await;
    let native = rig.all().await;
    let base = native.url("");
    let back = rig
        .book
        .under_load(&base, async {
            rig.book.more(100).await;
            rig.tell(&format!("XGROUP DESTROY {FLOW} consumers")).await;
            let back = rig.book.runs_again(&base).await;
            rig.book.more(50).await;
            told(&native, "consumer groups were gone").await;
            back
        })
        .await;
    let account = rig.book.close(&base, &nothing()).await;
    account.tell("12", "consumer group destroyed under load", Some(back), "made again, and told");
    account.assert_whole();
    assert_eq!(rig.book.metric(&base, "router_jobs_lost_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_entries_are_deleted() {
    const DELETED: usize = 20;
    let rig = Rig::start().await;
    let api = rig.api().await;
    rig.book.accept(&api.url(""), 100, &reading()).await;
    let mut first = redis::cmd("XRANGE");
    first.arg(FLOW).arg("-").arg("+").arg("COUNT").arg(DELETED);
    let first: Vec<(String, redis::Value)> = first.query_async(&mut rig.redis.connection().await).await.unwrap();
    for (sid, _) in &first {
        rig.tell(&format!("XDEL {FLOW} {sid}")).await;
    }
    let worker = rig.worker().await;
    let account = rig.book.close(&api.url(""), &nothing()).await;
    let counted = until("the loss to be counted", || async {
        Some(rig.book.metric(&worker.url(""), "router_jobs_lost_total").await).filter(|lost| *lost > 0)
    })
    .await;
    account.tell("13", "20 queued entries deleted by somebody (XDEL)", None, &format!("{counted} counted as lost"));
    assert_eq!((account.lost.len(), counted, account.doubled), (DELETED, DELETED as u64, 0), "{account:?}");
    assert_eq!(account.outcomes, [("done".to_owned(), 100 - DELETED)].into());
    told(&worker, "accepted jobs are gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_hang_every_worker_are_set_aside() {
    const POISON: usize = 3;
    let rig = Rig::start().await;
    rig.models.add_rig("regression", "");
    let settings = [("MODEL_MAX_RUN_MS", "1000"), ("MAX_ATTEMPTS", "3"), ("RETRY_BASE_MS", "1")];
    let native = rig.service("all", &settings).await;
    let base = native.url("");
    rig.book
        .under_load(&base, async {
            // Far more turns than any limit lets happen.
            let endless = json!({"task": "rig", "features": [1e12]});
            rig.book.accept(&base, POISON, &endless).await;
            rig.book.accept(&base, POISON, &json!({"task": "rig", "features": [3.0]})).await;
            // And what nobody can read.
            rig.tell(&format!("XADD {FLOW} * job not-json features abc")).await;
            rig.book.more(100).await;
        })
        .await;
    let account = rig.book.close(&base, &nothing()).await;
    let unreadable = async || {
        let all = rig.book.export(&base).await;
        all.into_iter().filter(|one| one["outcome"] == "dead").collect::<Vec<_>>()
    };
    let dead = until("the unreadable entry to be set aside", || async {
        Some(unreadable().await).filter(|dead| dead.len() == POISON + 1)
    })
    .await;
    account.tell(
        "14",
        "3 jobs that hang, and an entry nobody can read, under load",
        None,
        "each started at most 3 times, then kept as dead letters",
    );
    assert_eq!((account.lost.len(), account.doubled), (0, 0), "{account:?}");
    assert_eq!(account.outcomes.get("dead"), Some(&POISON), "{account:?}");
    assert_eq!(account.outcomes.get("done"), Some(&(account.accepted - POISON)), "{account:?}");
    assert!(dead.iter().all(|one| one["attempts"].as_u64().unwrap_or_default() <= 3), "{dead:?}");
}
