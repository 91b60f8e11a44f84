//! Redis is there and does not do what it should: it pauses, hangs up, is full, takes no writes.

use super::rig::{Rig, nothing, told};
use crate::support::native::Native;
use crate::support::redis::free_port;
use crate::support::until;

/// A service under load, while something is done to its Redis and then undone; the row of it.
async fn hindered(number: &str, fault: &str, deed: impl AsyncFnOnce(&Rig, &Native)) {
    let rig = Rig::start().await;
    let native = rig.all().await;
    let base = native.url("");
    let back = rig
        .book
        .under_load(&base, async {
            rig.book.more(50).await;
            deed(&rig, &native).await;
            let back = rig.book.runs_again(&base).await;
            rig.book.more(50).await;
            back
        })
        .await;
    let account = rig.book.close(&base, &nothing()).await;
    let slowest = account.slowest_refusal.as_millis();
    let note = if account.refused > 0 { format!("slowest refusal {slowest} ms") } else { String::new() };
    account.tell(number, fault, Some(back), &note);
    account.assert_whole();
    assert_eq!(account.unanswered, 0, "{account:?}");
    assert_eq!(rig.book.metric(&base, "router_jobs_lost_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_paused_for_three_seconds() {
    hindered("7", "CLIENT PAUSE 3000 under load", async |rig, _| {
        rig.tell("CLIENT PAUSE 3000 ALL").await;
        // While it lasts callers are told, and none waits for its end.
        rig.book.more_refused(3).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_are_killed_again_and_again() {
    hindered("8", "CLIENT KILL of all connections, five times under load", async |rig, _| {
        for _ in 0..5 {
            rig.tell("CLIENT KILL TYPE normal SKIPME yes").await;
            rig.book.more(20).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_is_full() {
    hindered("9", "memory full (maxmemory 1), then room again", async |rig, native| {
        rig.tell("CONFIG SET maxmemory 1").await;
        rig.book.more_refused(20).await;
        // What was accepted before is run and settled meanwhile: that needs no room.
        until("an empty backlog", || async {
            (rig.book.metric(&native.url(""), "router_backlog_jobs").await == 0).then_some(())
        })
        .await;
        rig.tell("CONFIG SET maxmemory 0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_becomes_a_replica_for_a_while() {
    hindered("10", "Redis made a read-only replica, then master again", async |rig, native| {
        // Nobody answers there: it keeps what it has.
        rig.tell(&format!("REPLICAOF 127.0.0.1 {}", free_port())).await;
        rig.book.more_refused(20).await;
        told(native, "the queue cannot be used").await;
        rig.tell("REPLICAOF NO ONE").await;
    })
    .await;
}
