//! The connection breaks in the middle of an answer: the script has run, and who called it does not know.

use futures_util::{StreamExt, stream};
use worker_native::queue::redis::scripts::{CLAIM, ENQUEUE, SETTLE, Script};

use super::book::CALLERS;
use super::rig::{PATIENT, Rig, nothing, reading, serve};
use crate::support::proxy::CuttingProxy;
use crate::support::until;

const JOBS: usize = 200;

/// Runs jobs on a worker whose connection is cut in the answer to every third call of a script.
async fn worker_is_cut(number: &str, fault: &str, script: &'static Script, max_attempts: &str) {
    let rig = Rig::start().await;
    let api = rig.service("api", &[PATIENT]).await;
    let proxy = CuttingProxy::start(rig.redis.port, script.hash(), 3).await;
    let _worker =
        serve(&proxy.url(), &rig.models, "worker", &[("CLAIM_BATCH", "8"), ("MAX_ATTEMPTS", max_attempts)]).await;
    let base = api.url("");
    rig.book
        .under_load(&base, async {
            rig.book.more(JOBS).await;
            until("cuts", || async { (proxy.cuts() >= 3).then_some(()) }).await;
        })
        .await;
    let account = rig.book.close(&base, &nothing()).await;
    account.tell(number, fault, None, &format!("{} answers cut", proxy.cuts()));
    account.assert_whole();
    assert_eq!(
        (account.refused, account.unanswered, account.unasked),
        (0, 0, 0),
        "the API has its own way: {account:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_answer_to_a_settlement() {
    worker_is_cut("11a", "connection cut in the answer to every 3rd settlement", &SETTLE, "50").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_answer_to_a_claim() {
    // What such a claim took has not been started: one start is enough for every job.
    worker_is_cut("11b", "connection cut in the answer to every 3rd claim", &CLAIM, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_answer_to_a_hand_in_that_is_sent_again() {
    let rig = Rig::start().await;
    let _worker = rig.worker().await;
    let proxy = CuttingProxy::start(rig.redis.port, ENQUEUE.hash(), 3).await;
    let api = serve(&proxy.url(), &rig.models, "api", &[]).await;
    let base = api.url("");
    // Each caller sends until it has its 202, under the same key.
    let one = |i: usize| {
        let (rig, base) = (&rig, &base);
        async move {
            let (key, reading) = (format!("key-{i}"), reading());
            until("a 202", || rig.book.hand_in(base, &reading, Some(&key))).await
        }
    };
    stream::iter(0..JOBS).map(one).buffer_unordered(CALLERS).count().await;
    let account = rig.book.close(&base, &nothing()).await;
    let note = format!("{} answers cut; every hand-in repeated under its Idempotency-Key", proxy.cuts());
    account.tell("11c", "connection cut in the answer to every 3rd hand-in", None, &note);
    account.assert_whole();
    assert_eq!((account.accepted, account.unasked), (JOBS, 0), "one job a key: {account:?}");
    assert!(proxy.cuts() > 0 && account.refused > 0, "{account:?}");
}
