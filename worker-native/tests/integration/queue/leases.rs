//! A job is its consumer's as long as that renews; then it is the next one's.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use worker_native::queue::{Claimed, Entry, Outcome, Retry};

use super::rig::{Backend, LONG, LONG_LEASE, Rig, SHORT_LEASE, TASK, counted, depths, entry, passed, settlement};
use crate::support::until;

pub(crate) async fn a_lease_holds<B: Backend>() {
    let rig = Rig::<B>::start(&[LONG_LEASE]).await;
    let (job, _) = rig.held_by("c1").await;
    assert!(rig.reclaim(TASK, "c2", 10).await.unwrap().is_empty());
    assert!(rig.reclaim(TASK, "c1", 10).await.unwrap().is_empty());
    assert!(rig.claim(TASK, "c2", 10).await.unwrap().is_empty());
    assert_eq!(rig.state(&job.job_id).await.state, "running");
}

pub(crate) async fn an_unrenewed_job_goes_to_another_and_the_start_counts<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, first) = rig.held_by("c1").await;
    assert_eq!(first.attempt, 1);
    for attempt in 2..=4 {
        let taken = rig.take_over(&format!("c{attempt}")).await;
        assert_eq!((taken.attempt, taken.entry.as_ref().unwrap()), (attempt, &job));
        assert_eq!(rig.state(&job.job_id).await.attempt, attempt);
        let numbers = rig.numbers().await;
        let one = depths(&[("fast", 1)]);
        assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (one.clone(), one));
    }
}

pub(crate) async fn renewal_keeps_a_job_for_ten_leases<B: Backend>() {
    const LEASE: Duration = Duration::from_millis(500);
    let rig = Rig::<B>::start(&[("LEASE_MS", "500")]).await;
    let (_, claimed) = rig.held_by("slow").await;
    let begun = Instant::now();
    until("ten leases to pass", || async {
        assert_eq!(rig.renew(TASK, "slow", std::slice::from_ref(&claimed.ticket)).await.unwrap(), [true]);
        assert!(rig.reclaim(TASK, "thief", 10).await.unwrap().is_empty(), "after {:?}", begun.elapsed());
        assert!(rig.claim(TASK, "thief", 10).await.unwrap().is_empty());
        (begun.elapsed() > LEASE * 10).then_some(())
    })
    .await;
    // Renewing is no start.
    assert_eq!(rig.state(&claimed.ticket.job_id).await.attempt, 1);
    assert_eq!(rig.take_over("heir").await.attempt, 2, "and without renewal it goes");
}

pub(crate) async fn who_lost_a_job_cannot_renew_retry_or_release_it<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, lost) = rig.held_by("c1").await;
    let heirs = rig.take_over("c2").await;
    let ticket = std::slice::from_ref(&lost.ticket);
    assert_eq!(rig.renew(TASK, "c1", ticket).await.unwrap(), [false]);
    let retry = |one: &Claimed| Retry { ticket: one.ticket.clone(), delay: LONG, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry(&lost)]).await.unwrap(), [false]);
    rig.release(TASK, "c1", ticket).await.unwrap();
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.running), numbers.delayed), (depths(&[("fast", 1)]), 0), "nothing was changed");
    assert_eq!(rig.state(&job.job_id).await.state, "running");
    assert_eq!(rig.renew(TASK, "c2", std::slice::from_ref(&heirs.ticket)).await.unwrap(), [true]);
    assert_eq!(rig.retry(TASK, "c2", vec![retry(&heirs)]).await.unwrap(), [true]);
}

pub(crate) async fn renewals_are_answered_one_by_one<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.accept_all((0..4).map(|_| entry()).collect()).await;
    let held = rig.claim(TASK, "c1", 4).await.unwrap();
    let tickets: Vec<_> = held.iter().map(|one| one.ticket.clone()).collect();
    rig.done(&held[1]).await;
    rig.release(TASK, "c1", &tickets[2..3]).await.unwrap();
    assert_eq!(rig.renew(TASK, "c1", &tickets).await.unwrap(), [true, false, false, true]);
    assert_eq!(rig.renew(TASK, "c2", &tickets).await.unwrap(), [false; 4]);
    let other = rig.take("c2").await;
    assert_eq!(other.ticket.job_id, tickets[2].job_id);
    assert_eq!(rig.renew(TASK, "c1", &tickets).await.unwrap(), [true, false, false, true]);
}

pub(crate) async fn no_more_are_taken_over_than_asked_for<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let jobs: Vec<Entry> = (0..5).map(|i| Entry { tenant: Some(format!("t{}", i % 2)), ..entry() }).collect();
    rig.accept_all(jobs).await;
    let (held, since) = (rig.claim(TASK, "c1", 10).await.unwrap(), Instant::now());
    assert_eq!(held.len(), 5);
    passed(Duration::from_millis(120), since).await;
    let first = rig.reclaim(TASK, "c2", 2).await.unwrap();
    assert_eq!(first.len(), 2);
    // All of them in the end, whoever holds which.
    let taken = Mutex::new(BTreeSet::from_iter(first.into_iter().map(|one| one.ticket.job_id)));
    until("the others", || async {
        let more = rig.reclaim(TASK, "c3", 2).await.unwrap();
        assert!(more.len() <= 2);
        let mut taken = taken.lock().unwrap();
        taken.extend(more.into_iter().map(|one| one.ticket.job_id));
        (taken.len() == 5).then_some(())
    })
    .await;
}

pub(crate) async fn a_lease_that_ended_unnoticed_can_be_renewed<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (_, claimed) = rig.held_by("c1").await;
    passed(Duration::from_millis(150), Instant::now()).await;
    let ticket = std::slice::from_ref(&claimed.ticket);
    assert_eq!(rig.renew(TASK, "c1", ticket).await.unwrap(), [true], "nobody took it: it is still its consumer's");
    rig.done(&claimed).await;
}

pub(crate) async fn the_first_to_settle_wins_whoever_holds_the_job<B: Backend>() {
    for late_one_first in [true, false] {
        let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
        let (job, lost) = rig.held_by("c1").await;
        let heirs = rig.take_over("c2").await;
        let (first, second) = if late_one_first { (&lost, &heirs) } else { (&heirs, &lost) };
        let mut winner = settlement(&first.ticket, Outcome::Done);
        winner.result = super::rig::result(&job.job_id, Outcome::Done, 1, "winner");
        assert!(rig.settle(TASK, vec![winner.clone()]).await.unwrap()[0].first);
        assert!(!rig.finish(second, Outcome::Failed).await.first);
        assert_eq!(rig.state(&job.job_id).await.result.unwrap().get(), winner.result);
        assert_eq!(rig.renew(TASK, "c2", std::slice::from_ref(&heirs.ticket)).await.unwrap(), [false]);
        let numbers = rig.numbers().await;
        assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
        assert_eq!((numbers.bytes, numbers.settled), (0, 1));
    }
}

pub(crate) async fn a_consumer_that_leaves_leaves_its_jobs_to_their_lease<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, claimed) = rig.held_by("c1").await;
    rig.leave(TASK, "c1").await.unwrap();
    assert_eq!(rig.state(&job.job_id).await.state, "running");
    assert_eq!(rig.renew(TASK, "c1", std::slice::from_ref(&claimed.ticket)).await.unwrap(), [true]);
    let heirs = rig.take_over("c2").await;
    assert_eq!((heirs.attempt, &heirs.ticket.job_id), (2, &job.job_id));
    rig.done(&heirs).await;
}

pub(crate) async fn what_a_lost_claim_took_is_handed_back_and_no_start<B: Backend>() {
    let rig = Rig::<B>::start(&[LONG_LEASE]).await;
    let (_, known) = rig.held_by("c1").await;
    let (lost, _) = rig.held_by("c1").await;
    let (_, other) = rig.held_by("c2").await;
    let held = std::slice::from_ref(&known.ticket);
    assert_eq!(rig.release_unknown(TASK, "c1", held, LONG).await.unwrap(), 1);
    assert_eq!(rig.release_unknown(TASK, "c1", held, LONG).await.unwrap(), 0, "once");
    let waits = rig.state(&lost.job_id).await;
    assert_eq!((waits.state.as_str(), waits.attempt), ("queued", 0));
    assert_eq!(counted(&rig.numbers().await.running), depths(&[("fast", 2)]));
    assert_eq!(rig.renew(TASK, "c1", held).await.unwrap(), [true], "what is known stays");
    assert_eq!(rig.renew(TASK, "c2", std::slice::from_ref(&other.ticket)).await.unwrap(), [true]);
    let again = rig.take("c1").await;
    assert_eq!((&again.ticket.job_id, again.attempt), (&lost.job_id, 1));
    for one in [&known, &again, &other] {
        rig.done(one).await;
    }
    assert_eq!(counted(&rig.numbers().await.running), depths(&[]));
}

pub(crate) async fn a_lost_takeover_keeps_the_starts_before_it<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, _) = rig.held_by("dead").await;
    assert_eq!(rig.take_over("c1").await.attempt, 2);
    assert_eq!(rig.release_unknown(TASK, "c1", &[], LONG).await.unwrap(), 1);
    let again = rig.take("c2").await;
    assert_eq!((&again.ticket.job_id, again.attempt), (&job.job_id, 2));
}

pub(crate) async fn what_was_let_go_of_before_is_left_to_its_lease<B: Backend>() {
    let rig = Rig::<B>::start(&[LONG_LEASE]).await;
    let (job, _) = rig.held_by("c1").await;
    // Long beside what an answer takes on a busy machine: the bound is no sharper than that.
    passed(Duration::from_millis(1_500), Instant::now()).await;
    assert_eq!(rig.release_unknown(TASK, "c1", &[], Duration::from_millis(10)).await.unwrap(), 0);
    assert_eq!(rig.state(&job.job_id).await.state, "running");
    assert_eq!(rig.release_unknown(TASK, "never seen", &[], LONG).await.unwrap(), 0);
}
