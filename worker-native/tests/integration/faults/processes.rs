//! Processes that die or stand still, while the queue goes on.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::rig::{Rig, has_told, nothing, reading, settled};
use crate::support::models::Caller;
use crate::support::native::Native;
use crate::support::proxy::HoldingProxy;
use crate::support::until;

fn signal(native: &Native, name: &str) {
    assert!(Command::new("kill").args([name, &native.process.id().to_string()]).status().unwrap().success());
}

/// A worker that has run its jobs and cannot settle them: what it sends is held back.
async fn stuck(rig: &Rig) -> (HoldingProxy, Native) {
    let word = worker_native::queue::redis::scripts::SETTLE.hash();
    let proxy = HoldingProxy::start(rig.redis.port, word).await;
    let worker = super::rig::serve(&proxy.url(), &rig.models, "worker", &[]).await;
    until("a settlement that is held back", || async { proxy.has_held().then_some(()) }).await;
    (proxy, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_killed_between_claim_and_settlement() {
    let rig = Rig::start().await;
    let api = rig.api().await;
    rig.book.accept(&api.url(""), 200, &reading()).await;
    let (_proxy, mut doomed) = stuck(&rig).await;
    let _heir = rig.worker().await;
    doomed.process.kill();
    let killed = Instant::now();
    let account = rig.book.close(&api.url(""), &nothing()).await;
    let taken_over = rig.book.export(&api.url("")).await.iter().filter(|one| one["attempts"] == 2).count();
    account.tell(
        "1",
        "worker killed between claim and settlement",
        Some(killed.elapsed()),
        &format!("{taken_over} run again by another"),
    );
    account.assert_whole();
    assert!(taken_over > 0, "it held some");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stands_still_for_longer_than_its_lease() {
    let rig = Rig::start().await;
    let api = rig.api().await;
    rig.book.accept(&api.url(""), 200, &reading()).await;
    let (proxy, late) = stuck(&rig).await;
    signal(&late, "-STOP");
    let stopped = Instant::now();
    let _heir = rig.worker().await;
    rig.book.close(&api.url(""), &nothing()).await;
    let back = stopped.elapsed();
    let before = rig.book.export(&api.url("")).await;
    // What it had sent arrives, and it goes on with what it holds.
    proxy.let_go();
    signal(&late, "-CONT");
    let come_late = || {
        let lines = late.log_lines();
        let late = |line: &&serde_json::Value| line["message"] == "job settled" && line["first"] == false;
        lines.iter().filter(late).count()
    };
    until("a result that comes late", || async {
        (come_late() > 0 || has_told(&late, "job called off")).then_some(())
    })
    .await;
    let account = rig.book.close(&api.url(""), &nothing()).await;
    account.tell(
        "2",
        "worker stopped (SIGSTOP) past its lease, then continued",
        Some(back),
        "its late results changed nothing",
    );
    account.assert_whole();
    assert_eq!(rig.book.export(&api.url("")).await, before, "the first settlement stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_killed_under_load() {
    let rig = Rig::start().await;
    let mut doomed = rig.api().await;
    let base = doomed.url("");
    rig.book
        .under_load(&base, async {
            rig.book.more(150).await;
            doomed.process.kill();
        })
        .await;
    let killed = Instant::now();
    let heir = rig.api().await;
    let _worker = rig.worker().await;
    rig.book.runs_again(&heir.url("")).await;
    let back = killed.elapsed();
    let account = rig.book.close(&heir.url(""), &nothing()).await;
    account.tell("3", "API process killed under load", Some(back), "with the start of a new one");
    account.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_deadline_has_passed_are_not_started() {
    const LATE: usize = 60;
    const LEFT: Duration = Duration::from_millis(300);
    let rig = Rig::start().await;
    let api = rig.api().await;
    let mut hurried = reading();
    hurried["deadline_ms"] = json!(LEFT.as_millis() as u64);
    rig.book.accept(&api.url(""), LATE, &hurried).await;
    rig.book.accept(&api.url(""), LATE, &reading()).await;
    let last = Instant::now();
    until("the deadline", || async { (last.elapsed() > LEFT).then_some(()) }).await;
    let worker = rig.worker().await;
    let account = rig.book.close(&api.url(""), &nothing()).await;
    let results = rig.book.export(&api.url("")).await;
    let started: u64 =
        results.iter().filter(|one| one["outcome"] == "expired").map(|one| one["attempts"].as_u64().unwrap()).sum();
    account.tell(
        "16",
        "no worker until the deadline of half the jobs",
        None,
        &format!("{started} of {LATE} expired jobs started"),
    );
    assert_eq!((account.lost.len(), account.doubled, started), (0, 0, 0), "{account:?}");
    assert_eq!(account.outcomes, [("done".to_owned(), LATE), ("expired".to_owned(), LATE)].into());
    // What the models of the only worker have run says the same.
    let caller = Caller::new(worker.url(""));
    let (_, pools) = caller.get("/pool/stats").await;
    let answered = rig.book.metric(&worker.url(""), "inference_requests_total").await;
    assert_eq!(answered, LATE as u64, "{pools}");
    assert_eq!(settled(&worker).len(), 2 * LATE);
}
