//! One visible result for each job, and the states on the way there.

use std::time::Duration;

use worker_native::queue::{Entry, Outcome, Retry, Settlement};

use super::rig::{Backend, LONG, Rig, SHORT_LEASE, TASK, all, counted, depths, entry, result, settlement};
use crate::support::until;

pub(crate) async fn the_first_settlement_wins_and_later_ones_change_nothing<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, claimed) = rig.held_by("c1").await;
    let waiting = rig.accept(entry()).await;
    let first = settlement(&claimed.ticket, Outcome::Done);
    assert!(rig.settle(TASK, vec![first.clone()]).await.unwrap()[0].first);
    let before = rig.numbers().await;
    for outcome in [Outcome::Done, Outcome::Failed, Outcome::Dead] {
        let late = Settlement {
            result: result(&job.job_id, outcome, 9_000, "late"),
            awaited: true,
            ..settlement(&claimed.ticket, outcome)
        };
        let settled = rig.settle(TASK, vec![late]).await.unwrap().remove(0);
        assert_eq!((settled.first, counted(&settled.depths)), (false, depths(&[("fast", 1)])));
    }
    assert_eq!(rig.numbers().await, before);
    let state = rig.state(&job.job_id).await;
    assert_eq!((state.state.as_str(), state.result.unwrap().get()), ("done", first.result.as_str()));
    assert_eq!(rig.listed(&all()).await, [job.job_id]);
    assert!(rig.dead(TASK, 0, 10).await.unwrap().is_empty());
    assert_eq!(rig.take("c1").await.ticket.job_id, waiting.job_id);
}

pub(crate) async fn every_outcome_is_kept_as_it_was_written<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    for outcome in [Outcome::Done, Outcome::Failed, Outcome::Expired, Outcome::Dead] {
        let (job, claimed) = rig.held_by("c1").await;
        let mut given = settlement(&claimed.ticket, outcome);
        given.result = result(&job.job_id, outcome, 1, "odd \u{0} \u{1F4A7} \\ \" text").replace(',', " ,  ");
        assert!(rig.settle(TASK, vec![given.clone()]).await.unwrap()[0].first);
        let state = rig.state(&job.job_id).await;
        assert_eq!((state.state.as_str(), state.result.unwrap().get()), (outcome.name(), given.result.as_str()));
        assert_eq!(state.waited, None);
    }
    assert_eq!(rig.listed(&all()).await.len(), 4);
}

pub(crate) async fn settlements_are_answered_one_by_one<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.accept_all(vec![entry(), Entry { lane: "accurate".to_owned(), ..entry() }, entry()]).await;
    let held = rig.claim(TASK, "c1", 3).await.unwrap();
    rig.done(&held[1]).await;
    let order = [0, 1, 0, 2];
    let settlements = order.iter().map(|i| settlement(&held[*i].ticket, Outcome::Done)).collect();
    let settled = rig.settle(TASK, settlements).await.unwrap();
    assert_eq!(settled.iter().map(|one| one.first).collect::<Vec<_>>(), [true, false, false, true]);
    assert_eq!(counted(&settled[3].depths), depths(&[]));
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.settled, numbers.bytes), (3, 0));
}

pub(crate) async fn a_settlement_of_an_earlier_start_doubles_nothing<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, early) = rig.held_by("c1").await;
    let retry = Retry { ticket: early.ticket.clone(), delay: Duration::ZERO, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [true]);
    let later = rig.take_soon("c2").await;
    let mut firsts = usize::from(rig.finish(&early, Outcome::Done).await.first);
    firsts += usize::from(rig.finish(&later, Outcome::Done).await.first);
    firsts += usize::from(rig.finish(&early, Outcome::Done).await.first);
    assert_eq!(firsts, 1, "one of them is the first, whichever");
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.settled, numbers.bytes, numbers.delayed), (1, 0, 0));
    assert_eq!(rig.listed(&all()).await, [job.job_id]);
}

pub(crate) async fn a_settlement_after_the_results_end_changes_nothing<B: Backend>() {
    let rig = Rig::<B>::start(&[("RESULT_TTL_SECONDS", "1")]).await;
    let (job, claimed) = rig.held_by("c1").await;
    rig.done(&claimed).await;
    until("the result's end", || async { rig.job(TASK, &job.job_id).await.unwrap().is_none().then_some(()) }).await;
    let before = rig.numbers().await;
    assert!(!rig.finish(&claimed, Outcome::Done).await.first);
    assert!(rig.job(TASK, &job.job_id).await.unwrap().is_none());
    assert!(rig.listed(&all()).await.is_empty());
    assert_eq!(rig.numbers().await, before);
}

pub(crate) async fn a_settlement_before_a_requeue_is_not_one_after_it<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, old) = rig.held_by("c1").await;
    rig.finish(&old, Outcome::Dead).await;
    assert_eq!(rig.requeue(TASK, std::slice::from_ref(&job.job_id)).await.unwrap(), [true]);
    assert!(!rig.finish(&old, Outcome::Done).await.first, "it was settled before");
    assert_eq!(rig.state(&job.job_id).await.state, "queued");
    let new = rig.take("c1").await;
    assert!(!rig.finish(&old, Outcome::Done).await.first);
    assert_eq!(counted(&rig.numbers().await.running), depths(&[("fast", 1)]));
    rig.done(&new).await;
}

pub(crate) async fn an_unknown_job_has_no_state<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert!(rig.job(TASK, &Entry::new_id(TASK)).await.unwrap().is_none());
    assert!(rig.job(TASK, "").await.unwrap().is_none());
    assert!(rig.job(TASK, "x' OR '1'='1").await.unwrap().is_none());
}

pub(crate) async fn states_follow_the_job<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let job = rig.accept(entry()).await;
    let seen = async || {
        let state = rig.state(&job.job_id).await;
        (state.state, state.attempt)
    };
    let is = |state: &str, attempt: u32| (state.to_owned(), attempt);
    assert_eq!(seen().await, is("queued", 0));
    rig.take("dies").await;
    assert_eq!(seen().await, is("running", 1));
    let claimed = rig.take_over("c1").await;
    assert_eq!(seen().await, is("running", 2));
    let retry = Retry { ticket: claimed.ticket, delay: LONG, charged: true, failures: vec![] };
    rig.retry(TASK, "c1", vec![retry]).await.unwrap();
    assert_eq!(seen().await, is("retrying", 2));
    rig.cancel(TASK, &job.job_id, &result(&job.job_id, Outcome::Cancelled, 1, "")).await.unwrap();
    assert_eq!(seen().await.0, "cancelled");
}
