//! A Redis that is full, read-only, paused, restarted, or hangs up: told in time, and used again when it can be.

use std::time::{Duration, Instant};

use worker_native::queue::redis::scripts::CLAIM;
use worker_native::queue::{Change, Outcome, QueueError, Retry};

use super::super::rig::{LONG, OnRedis, Rig, SHORT_LEASE, TASK, counted, depths, entry, new, result, settlement};
use super::Admin;
use crate::support::proxy::HoldingProxy;
use crate::support::{LIMIT, until};

#[tokio::test]
async fn a_full_memory_refuses_jobs_and_still_lets_them_end() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let mut admin = Admin::of(&rig).await;
    rig.tend(TASK).await.unwrap();
    rig.accept_all((0..6).map(|_| entry()).collect()).await;
    let held = rig.claim(TASK, "c1", 2).await.unwrap();
    let paused = rig.take("c1").await;
    let retry = Retry { ticket: paused.ticket.clone(), delay: Duration::ZERO, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [true]);
    let before = rig.numbers().await;
    admin.tell("CONFIG SET maxmemory 1").await;

    let job = entry();
    let refused = rig.enqueue(TASK, vec![new(job.clone())]).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    assert!(rig.job(TASK, &job.job_id).await.unwrap().is_none());
    assert!(rig.check_writable(&[TASK]).await.is_err());
    assert_eq!(rig.numbers().await, before, "nothing was stored");

    // What makes room goes on: all a consumer does in its loop.
    assert!(rig.reclaim(TASK, "c1", 10).await.unwrap().is_empty());
    for _ in 0..3 {
        rig.tend(TASK).await.unwrap();
    }
    assert_eq!(rig.renew(TASK, "c1", std::slice::from_ref(&held[0].ticket)).await.unwrap(), [true]);
    rig.done(&held[0]).await;
    assert!(rig.finish(&held[1], Outcome::Dead).await.first);
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    // The one that waits for another try may have to wait for room.
    assert!(claimed.len() >= 3, "{claimed:?}");
    rig.release(TASK, "c1", std::slice::from_ref(&claimed[0].ticket)).await.unwrap();
    let again = rig.take("c1").await;
    assert_eq!(again.ticket.job_id, claimed[0].ticket.job_id);
    let id = &claimed[1].ticket.job_id;
    rig.cancel(TASK, id, &result(id, Outcome::Cancelled, 1, "")).await.unwrap();
    rig.done(&again).await;
    for one in &claimed[2..] {
        rig.done(one).await;
    }
    rig.leave(TASK, "c1").await.unwrap();

    admin.tell("CONFIG SET maxmemory 0").await;
    rig.check_writable(&[TASK]).await.unwrap();
    for left in rig.claim(TASK, "c1", 10).await.unwrap() {
        assert_eq!((&left.ticket.job_id, left.attempt), (&paused.ticket.job_id, 2));
        rig.done(&left).await;
    }
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.settled, numbers.lost), (0, 6, 0));
}

#[tokio::test]
async fn a_task_that_was_never_looked_after_is_served_when_memory_is_full() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    rig.accept(entry()).await;
    Admin::of(&rig).await.tell("CONFIG SET maxmemory 1").await;
    rig.tend(TASK).await.unwrap();
    let claimed = rig.take("c1").await;
    rig.done(&claimed).await;
}

#[tokio::test]
async fn a_retry_that_memory_has_no_room_for_leaves_the_job_where_it_is() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let mut admin = Admin::of(&rig).await;
    let (job, claimed) = rig.held_by("c1").await;
    let before = rig.numbers().await;
    admin.tell("CONFIG SET maxmemory 1").await;
    let retry = Retry { ticket: claimed.ticket.clone(), delay: LONG, charged: true, failures: vec![] };
    let put_aside = rig.retry(TASK, "c1", vec![retry]).await;
    if put_aside.is_err() {
        assert_eq!(rig.numbers().await, before);
        assert_eq!(rig.state(&job.job_id).await.state, "running");
        rig.done(&claimed).await;
    } else {
        assert_eq!(rig.numbers().await.delayed, 1);
    }
}

#[tokio::test]
async fn a_paused_redis_is_told_within_the_timeout_and_asked_again() {
    const PAUSE: Duration = Duration::from_secs(3);
    let rig = Rig::<OnRedis>::start(&[("REDIS_TIMEOUT_MS", "200")]).await;
    let mut admin = Admin::of(&rig).await;
    let (_, claimed) = rig.held_by("c1").await;
    admin.tell(&format!("CLIENT PAUSE {} ALL", PAUSE.as_millis())).await;
    let begun = Instant::now();
    let job = entry();
    assert!(rig.enqueue(TASK, vec![new(job.clone())]).await.is_err());
    assert!(rig.settle(TASK, vec![settlement(&claimed.ticket, Outcome::Done)]).await.is_err());
    assert!(rig.claim(TASK, "c1", 1).await.is_err());
    assert!(begun.elapsed() < PAUSE, "told while it is paused, after {:?}", begun.elapsed());
    // Both may have been done or not; asked again they are done once.
    until("the hand-in", || async { rig.enqueue(TASK, vec![new(job.clone())]).await.ok() }).await;
    let settlements = || vec![settlement(&claimed.ticket, Outcome::Done)];
    until("the settlement", || async { rig.settle(TASK, settlements()).await.ok() }).await;
    // The claim that failed may have got it: then it is held until its lease ends.
    until("the job to be held", || async {
        rig.claim(TASK, "c1", 10).await.ok()?;
        (rig.state(&job.job_id).await.state == "running").then_some(())
    })
    .await;
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.settled), (depths(&[("fast", 1)]), 1));
}

#[tokio::test]
async fn killed_connections_are_made_again() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let mut admin = Admin::of(&rig).await;
    let job = rig.accept(entry()).await;
    for _ in 0..3 {
        admin.tell("CLIENT KILL TYPE normal SKIPME yes").await;
        rig.enqueue(TASK, vec![new(job.clone())]).await.ok();
        until("the queue", || async { rig.check_writable(&[TASK]).await.ok() }).await;
        let waited = || async { rig.wait(TASK, Duration::from_millis(10)).await.ok() };
        until("waiting", waited).await;
    }
    let claimed = rig.take("c1").await;
    rig.done(&claimed).await;
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[]));
}

#[tokio::test]
async fn a_replica_takes_no_jobs_and_a_master_does_again() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let mut admin = Admin::of(&rig).await;
    let (_, claimed) = rig.held_by("c1").await;
    // Nobody answers there: it stays what it is, read-only.
    admin.tell(&format!("REPLICAOF 127.0.0.1 {}", crate::support::redis::free_port())).await;
    assert!(matches!(rig.enqueue(TASK, vec![new(entry())]).await, Err(QueueError::Unavailable(_))));
    assert!(rig.settle(TASK, vec![settlement(&claimed.ticket, Outcome::Done)]).await.is_err());
    assert!(rig.check_writable(&[TASK]).await.is_err());
    assert!(rig.claim(TASK, "c1", 1).await.is_err());
    admin.tell("REPLICAOF NO ONE").await;
    until("the queue", || async { rig.check_writable(&[TASK]).await.ok() }).await;
    until("the settlement", || async { rig.settle(TASK, vec![settlement(&claimed.ticket, Outcome::Done)]).await.ok() })
        .await;
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.settled), (depths(&[]), 1));
}

#[tokio::test]
async fn forgotten_scripts_are_taught_again() {
    let rig = Rig::<OnRedis>::start(&[SHORT_LEASE]).await;
    let mut admin = Admin::of(&rig).await;
    let flush = "SCRIPT FLUSH SYNC";
    let job = entry();
    admin.tell(flush).await;
    rig.accept(job.clone()).await;
    admin.tell(flush).await;
    let claimed = rig.take("c1").await;
    admin.tell(flush).await;
    assert_eq!(rig.renew(TASK, "c1", std::slice::from_ref(&claimed.ticket)).await.unwrap(), [true]);
    admin.tell(flush).await;
    rig.tend(TASK).await.unwrap();
    admin.tell(flush).await;
    let claimed = rig.take_over("c2").await;
    admin.tell(flush).await;
    let retry = Retry { ticket: claimed.ticket, delay: Duration::ZERO, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c2", vec![retry]).await.unwrap(), [true]);
    admin.tell(flush).await;
    let claimed = rig.take_soon("c2").await;
    admin.tell(flush).await;
    assert!(rig.finish(&claimed, Outcome::Dead).await.first);
    admin.tell(flush).await;
    assert_eq!(rig.state(&job.job_id).await.state, "dead");
    admin.tell(flush).await;
    assert_eq!(rig.requeue(TASK, std::slice::from_ref(&job.job_id)).await.unwrap(), [true]);
    admin.tell(flush).await;
    let cancelled = result(&job.job_id, Outcome::Cancelled, 1, "");
    rig.cancel(TASK, &job.job_id, &cancelled).await.unwrap();
    admin.tell(flush).await;
    assert!(rig.callbacks(TASK, 1, LONG).await.unwrap().is_empty());
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.settled), (depths(&[]), 2));
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_accepted() {
    let mut rig = Rig::<OnRedis>::start(&[SHORT_LEASE]).await;
    let (job, claimed) = rig.held_by("c1").await;
    let waiting = rig.accept(entry()).await;
    let before = rig.numbers().await;
    rig.backend.0.crash_and_restart().await;
    let after = until("the queue", || async { rig.counts(TASK).await.ok() }).await;
    assert_eq!(after, before);
    assert_eq!(rig.state(&job.job_id).await.attempt, 1);
    rig.done(&claimed).await;
    let other = rig.take("c1").await;
    assert_eq!(other.ticket.job_id, waiting.job_id);
}

#[tokio::test]
async fn who_watches_is_told_that_changes_may_have_been_missed() {
    let mut rig = Rig::<OnRedis>::start(&[]).await;
    let mut watch = rig.watch(TASK).await.unwrap();
    let told = async |watch: &mut tokio::sync::broadcast::Receiver<Change>| {
        while watch.recv().await.unwrap() != Change::Unknown {}
    };
    rig.backend.0.crash_and_restart().await;
    tokio::time::timeout(LIMIT, told(&mut watch)).await.expect("told of the crash");
    // And afterwards of each change again.
    let job = until("a job", || async {
        let job = entry();
        rig.enqueue(TASK, vec![new(job.clone())]).await.ok().map(|_| job)
    })
    .await;
    rig.take_soon("c1").await;
    let heard =
        async { while !matches!(watch.recv().await.unwrap(), Change::Jobs(ids) if ids.contains(&job.job_id)) {} };
    tokio::time::timeout(LIMIT, heard).await.expect("told of the claim");
    // Nobody could write down what happened while the key was gone.
    Admin::of(&rig).await.tell("FLUSHALL").await;
    tokio::time::timeout(LIMIT, told(&mut watch)).await.expect("told of the flush");
}

#[tokio::test]
async fn a_claim_that_comes_after_its_consumer_was_told_what_it_holds_gives_out_nothing() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let mut admin = Admin::of(&rig).await;
    // Once without the proxy, so that Redis knows the script.
    rig.tend(TASK).await.unwrap();
    assert!(rig.claim(TASK, "c1", 1).await.unwrap().is_empty());
    let job = rig.accept(entry()).await;
    let proxy = HoldingProxy::start(rig.backend.0.port, CLAIM.hash()).await;
    let through = rig.beside(&[("REDIS_URL", &proxy.url()), ("REDIS_TIMEOUT_MS", "500")]);
    through.claim(TASK, "c1", 1).await.unwrap_err();
    assert!(proxy.has_held());
    // On a connection made after the one that hangs.
    let handed = until("an answer", || async { through.release_unknown(TASK, "c1", &[], LONG).await.ok() }).await;
    assert_eq!(handed, 0, "the claim has not been there yet");
    let calls = scripts_run(&mut admin).await;
    proxy.let_go();
    while scripts_run(&mut admin).await == calls {
        tokio::task::yield_now().await;
    }
    assert_eq!(counted(&rig.numbers().await.running), depths(&[]), "nobody holds a job unawares");
    let claimed = rig.take("c2").await;
    assert_eq!((&claimed.ticket.job_id, claimed.attempt), (&job.job_id, 1));
}

/// How many scripts Redis was told to run.
async fn scripts_run(admin: &mut Admin) -> String {
    let stats: String = admin.ask("INFO commandstats").await;
    stats.lines().find(|line| line.starts_with("cmdstat_evalsha")).unwrap_or_default().to_owned()
}
