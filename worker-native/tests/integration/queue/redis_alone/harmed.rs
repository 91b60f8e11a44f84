//! Data that somebody else deleted or changed: counted as lost, mended, and the queue goes on.

use worker_native::queue::{Outcome, Retry, Tended};

use super::super::rig::{
    LONG, LONG_LEASE, OnRedis, Rig, SHORT_LEASE, TASK, counted, depths, entry, ids, new, of_tenant,
};
use super::{Admin, key};
use crate::support::until;

/// Looks after the task until something was found; looks are seconds apart.
async fn found(rig: &Rig<OnRedis>) -> Tended {
    until("something to be found", || async {
        let tended = rig.tend(TASK).await.unwrap();
        (tended != Tended::default()).then_some(tended)
    })
    .await
}

#[tokio::test]
async fn a_flush_is_counted_by_what_was_last_seen_and_the_queue_goes_on() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    rig.tend(TASK).await.unwrap();
    rig.accept_all((0..5).map(|_| entry()).collect()).await;
    let held = rig.claim(TASK, "c1", 2).await.unwrap();
    let retry = Retry { ticket: held[1].ticket.clone(), delay: LONG, charged: true, failures: vec![] };
    rig.retry(TASK, "c1", vec![retry]).await.unwrap();
    Admin::of(&rig).await.tell("FLUSHALL").await;
    assert_eq!(rig.tend(TASK).await.unwrap().lost, 5);
    assert_eq!(rig.tend(TASK).await.unwrap().lost, 0, "counted once");
    assert_eq!(rig.numbers().await.lost, 5);
    // Who held a job comes to nothing, and harms nobody.
    assert_eq!(rig.renew(TASK, "c1", std::slice::from_ref(&held[0].ticket)).await.unwrap(), [false]);
    assert!(!rig.finish(&held[0], Outcome::Done).await.first);
    assert!(rig.reclaim(TASK, "c1", 10).await.unwrap().is_empty());
    let job = rig.accept(entry()).await;
    let again = rig.take("c1").await;
    assert_eq!((&again.ticket.job_id, again.attempt), (&job.job_id, 1));
    rig.done(&again).await;
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.lost), (0, 5));
}

#[tokio::test]
async fn a_flush_is_counted_rightly_also_when_jobs_come_before_anyone_looks() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    rig.tend(TASK).await.unwrap();
    rig.accept_all((0..5).map(|_| entry()).collect()).await;
    Admin::of(&rig).await.tell("FLUSHALL").await;
    rig.accept_all(vec![entry(), entry()]).await;
    let claimed = rig.take("c1").await;
    rig.done(&claimed).await;
    rig.numbers().await;
    assert_eq!(rig.tend(TASK).await.unwrap().lost, 5, "the five of before, and none of those that are there");
    let numbers = rig.numbers().await;
    assert_eq!((numbers.lost, counted(&numbers.depths)), (5, depths(&[("fast", 1)])));
}

#[tokio::test]
async fn a_loss_is_counted_once_however_many_processes_look() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let other = rig.beside(&[]);
    for queue in [&rig.shared(), &other] {
        queue.tend(TASK).await.unwrap();
    }
    rig.accept_all(vec![entry(), entry(), entry()]).await;
    other.counts(TASK).await.unwrap();
    Admin::of(&rig).await.tell("FLUSHALL").await;
    let mut lost = 0;
    for queue in [&other, &rig.shared(), &other] {
        lost += queue.tend(TASK).await.unwrap().lost;
    }
    assert_eq!(lost, 3);
    assert_eq!(rig.numbers().await.lost, 3);
}

#[tokio::test]
async fn a_loss_is_counted_also_where_one_looks_first_who_knew_nothing_of_it() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    rig.tend(TASK).await.unwrap();
    rig.accept_all(vec![entry(), entry(), entry()]).await;
    Admin::of(&rig).await.tell("FLUSHALL").await;
    // Started after the loss, and quicker.
    let fresh = rig.beside(&[]);
    assert_eq!(fresh.tend(TASK).await.unwrap(), Tended::default());
    fresh.enqueue(TASK, vec![new(entry())]).await.unwrap();
    assert_eq!(rig.tend(TASK).await.unwrap().lost, 3, "who knew of them counts them");
    assert_eq!(rig.tend(TASK).await.unwrap().lost, 0, "once");
    assert_eq!(fresh.tend(TASK).await.unwrap().lost, 0);
    let numbers = rig.numbers().await;
    assert_eq!((numbers.lost, counted(&numbers.depths)), (3, depths(&[("fast", 1)])));
}

#[tokio::test]
async fn an_entry_that_others_put_there_is_no_reason_to_count_all_jobs_at_every_look() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let mut admin = Admin::of(&rig).await;
    rig.tend(TASK).await.unwrap();
    rig.accept_all(vec![entry(), entry()]).await;
    admin.tell(&format!("XADD {} * a b", key("flow:normal"))).await;
    // Only a count of all jobs looks at who holds which.
    let mut counts_all = async || {
        admin.tell("CONFIG RESETSTAT").await;
        admin.tell(&format!("DEL {}", key("tended"))).await;
        assert_eq!(rig.tend(TASK).await.unwrap(), Tended::default());
        admin.ask::<String>("INFO commandstats").await.contains("cmdstat_xpending")
    };
    assert!(counts_all().await, "the first look finds that the numbers are off");
    assert!(!counts_all().await, "the next ones know of it");
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(claimed.len(), 3);
    assert!(counts_all().await, "it is held now");
    assert!(!counts_all().await);
    for one in &claimed {
        let outcome = if one.entry.is_ok() { Outcome::Done } else { Outcome::Dead };
        assert!(rig.finish(one, outcome).await.first);
    }
    assert!(counts_all().await, "and gone now");
    assert!(!counts_all().await);
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.lost), (depths(&[]), 0));
}

#[tokio::test]
async fn a_destroyed_group_is_made_again_and_loses_no_job() {
    let rig = Rig::<OnRedis>::start(&[SHORT_LEASE]).await;
    let mut admin = Admin::of(&rig).await;
    let (_, first) = rig.held_by("c1").await;
    let (second, _) = rig.held_by("c1").await;
    let third = rig.accept(entry()).await;
    admin.tell(&format!("XGROUP DESTROY {} consumers", key("flow:normal"))).await;
    // The result of who ran it meanwhile counts.
    let settled = rig.finish(&first, Outcome::Done).await;
    assert_eq!((settled.first, counted(&settled.depths)), (true, depths(&[("fast", 2)])));
    let again = rig.claim(TASK, "c2", 10).await.unwrap();
    assert_eq!(ids(&again), [&second.job_id, &third.job_id], "what nobody settled is given out again");
    assert!(found(&rig).await.lost == 0);
    until("the numbers to be mended", || async {
        rig.tend(TASK).await.unwrap();
        (counted(&rig.numbers().await.running) == depths(&[("fast", 2)])).then_some(())
    })
    .await;
    for claimed in &again {
        rig.done(claimed).await;
    }
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.settled, numbers.lost), (0, 3, 0));
}

#[tokio::test]
async fn a_destroyed_group_is_told_whoever_finds_it() {
    for by_claim in [true, false] {
        let rig = Rig::<OnRedis>::start(&[SHORT_LEASE]).await;
        let (job, _) = rig.held_by("c1").await;
        Admin::of(&rig).await.tell(&format!("XGROUP DESTROY {} consumers", key("flow:normal"))).await;
        let claimed = if by_claim {
            // A job that waits makes the claim look there; it begins from the beginning.
            rig.accept(entry()).await;
            Some(rig.take("c2").await)
        } else {
            None
        };
        assert_eq!(found(&rig).await, Tended { lost: 0, groups_remade: 1 }, "by a claim: {by_claim}");
        let again = match claimed {
            Some(claimed) => claimed,
            None => rig.take_soon("c2").await,
        };
        assert_eq!(again.ticket.job_id, job.job_id);
    }
}

#[tokio::test]
async fn entries_deleted_by_others_are_counted_as_lost_and_the_numbers_mended() {
    let rig = Rig::<OnRedis>::start(&[LONG_LEASE]).await;
    let mut admin = Admin::of(&rig).await;
    let tenants = vec![of_tenant("t"), of_tenant("t"), of_tenant("t"), of_tenant("t")];
    rig.accept_all(tenants).await;
    let one = rig.numbers().await.bytes / 4;
    let held = rig.claim(TASK, "c1", 2).await.unwrap();
    let stream = key("flow:normal:t");
    let all: Vec<(String, redis::Value)> = admin.ask(&format!("XRANGE {stream} - +")).await;
    // One that is held, and one that waits.
    for i in [1, 3] {
        admin.tell(&format!("XDEL {stream} {}", all[i].0)).await;
    }
    let state = rig.state(&held[1].ticket.job_id).await;
    assert_eq!(state.state, "lost");
    assert_eq!(found(&rig).await, Tended { lost: 2, groups_remade: 0 });
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[("fast", 2)]), depths(&[("fast", 1)])));
    assert_eq!((numbers.bytes, numbers.lost), (2 * one, 2));
    // The consumer of the lost one has its result all the same, but there is no job any more to settle.
    assert!(!rig.finish(&held[1], Outcome::Done).await.first);
    rig.done(&held[0]).await;
    let left = rig.take("c1").await;
    rig.done(&left).await;
    assert!(rig.claim(TASK, "c1", 10).await.unwrap().is_empty());
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.lost, numbers.settled), (0, 2, 2));
}

#[tokio::test]
async fn what_is_known_of_a_lost_job_is_not_kept_for_ever() {
    let rig = Rig::<OnRedis>::start(&[("RESULT_TTL_SECONDS", "1")]).await;
    let mut admin = Admin::of(&rig).await;
    let job = rig.accept(entry()).await;
    admin.tell(&format!("DEL {}", key("flow:normal"))).await;
    found(&rig).await;
    assert_eq!(rig.state(&job.job_id).await.state, "lost");
    until("it to be forgotten", || async {
        rig.tend(TASK).await.unwrap();
        rig.job(TASK, &job.job_id).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn entries_that_others_put_there_are_set_aside_and_count_nowhere() {
    let rig = Rig::<OnRedis>::start(&[SHORT_LEASE]).await;
    let mut admin = Admin::of(&rig).await;
    let (_, claimed) = rig.held_by("c1").await;
    rig.done(&claimed).await;
    let stream = key("flow:normal");
    admin.tell(&format!("XADD {stream} * job not-json features abc")).await;
    admin.tell(&format!("XADD {stream} * a b")).await;
    let job = rig.accept(entry()).await;
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(claimed.len(), 3);
    assert_eq!(counted(&rig.numbers().await.running), depths(&[("fast", 1)]));
    let (ours, foreign): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|one| one.entry.is_ok());
    assert_eq!(ids(&ours), [&job.job_id]);
    for one in &foreign {
        assert!(rig.finish(one, Outcome::Dead).await.first);
    }
    rig.done(&ours[0]).await;
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.dead), (0, 2));
    assert_eq!(rig.dead(TASK, 0, 10).await.unwrap().len(), 2, "and can be looked at");
    assert!(rig.claim(TASK, "c1", 10).await.unwrap().is_empty());
}
