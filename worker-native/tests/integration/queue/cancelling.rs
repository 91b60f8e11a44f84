//! A job can be ended in every state, once, with a result that all can see.

use worker_native::queue::{Cancelled, Entry, Outcome, Retry};

use super::rig::{Backend, LONG, Rig, SHORT_LEASE, TASK, all, counted, depths, entry, result, settlement};

fn called_off(job_id: &str) -> String {
    result(job_id, Outcome::Cancelled, 2_000, "called off")
}

async fn cancel<B: Backend>(rig: &Rig<B>, job_id: &str) -> Cancelled {
    rig.cancel(TASK, job_id, &called_off(job_id)).await.unwrap()
}

/// Ended, seen by everybody, and off all books.
async fn is_over<B: Backend>(rig: &Rig<B>, job: &Entry) {
    let state = rig.state(&job.job_id).await;
    assert_eq!(state.state, "cancelled");
    assert_eq!(state.result.unwrap().get(), called_off(&job.job_id));
    assert_eq!(rig.listed(&all()).await, std::slice::from_ref(&job.job_id));
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.delayed, numbers.settled, numbers.lost), (0, 0, 1, 0));
    assert!(rig.claim(TASK, "c9", 10).await.unwrap().is_empty());
    assert!(rig.reclaim(TASK, "c9", 10).await.unwrap().is_empty());
    assert_eq!(cancel(rig, &job.job_id).await, Cancelled::Ended("cancelled".to_owned()));
}

pub(crate) async fn an_unknown_job_is_unknown<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let nobody = entry();
    assert_eq!(cancel(&rig, &nobody.job_id).await, Cancelled::Unknown);
    assert!(rig.job(TASK, &nobody.job_id).await.unwrap().is_none());
    assert!(rig.listed(&all()).await.is_empty());
    assert_eq!(rig.numbers().await.settled, 0);
}

pub(crate) async fn a_waiting_job_is_ended_and_never_claimed<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let job = rig.accept(Entry { tenant: Some("t".to_owned()), ..entry() }).await;
    assert_eq!(cancel(&rig, &job.job_id).await, Cancelled::Done { running: false });
    is_over(&rig, &job).await;
    // What waits beside it is not touched.
    let (other, third) = (rig.accept(entry()).await, rig.accept(entry()).await);
    assert_eq!(cancel(&rig, &other.job_id).await, Cancelled::Done { running: false });
    assert_eq!(rig.take("c1").await.ticket.job_id, third.job_id);
}

pub(crate) async fn a_held_job_is_ended_and_its_consumer_comes_too_late<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, claimed) = rig.held_by("c1").await;
    assert_eq!(cancel(&rig, &job.job_id).await, Cancelled::Done { running: true });
    is_over(&rig, &job).await;
    let ticket = std::slice::from_ref(&claimed.ticket);
    assert_eq!(rig.renew(TASK, "c1", ticket).await.unwrap(), [false]);
    let retry = Retry { ticket: claimed.ticket.clone(), delay: LONG, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [false]);
    rig.release(TASK, "c1", ticket).await.unwrap();
    assert!(!rig.finish(&claimed, Outcome::Done).await.first);
    is_over(&rig, &job).await;
}

pub(crate) async fn a_job_that_waits_for_another_try_is_ended<B: Backend>() {
    for delay in [LONG, std::time::Duration::ZERO] {
        let rig = Rig::<B>::start(&[]).await;
        let (job, claimed) = rig.held_by("c1").await;
        let retry = Retry { ticket: claimed.ticket.clone(), delay, charged: true, failures: vec![] };
        assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [true]);
        assert_eq!(cancel(&rig, &job.job_id).await, Cancelled::Done { running: false });
        is_over(&rig, &job).await;
        assert!(!rig.finish(&claimed, Outcome::Done).await.first);
    }
}

pub(crate) async fn a_job_that_was_handed_back_is_ended<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, claimed) = rig.held_by("c1").await;
    rig.release(TASK, "c1", std::slice::from_ref(&claimed.ticket)).await.unwrap();
    assert_eq!(cancel(&rig, &job.job_id).await, Cancelled::Done { running: false });
    is_over(&rig, &job).await;
}

pub(crate) async fn an_ended_job_stays_as_it_ended<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    for outcome in [Outcome::Done, Outcome::Failed, Outcome::Expired, Outcome::Dead] {
        let (job, claimed) = rig.held_by("c1").await;
        assert!(rig.finish(&claimed, outcome).await.first);
        let before = rig.numbers().await;
        assert_eq!(cancel(&rig, &job.job_id).await, Cancelled::Ended(outcome.name().to_owned()));
        let state = rig.state(&job.job_id).await;
        assert_eq!(state.state, outcome.name());
        assert_eq!(state.result.unwrap().get(), settlement(&claimed.ticket, outcome).result);
        assert_eq!(rig.numbers().await, before);
    }
}

pub(crate) async fn a_job_that_was_taken_over_is_ended<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, first) = rig.held_by("c1").await;
    let second = rig.take_over("c2").await;
    assert_eq!(cancel(&rig, &job.job_id).await, Cancelled::Done { running: true });
    assert!(!rig.finish(&second, Outcome::Done).await.first);
    assert!(!rig.finish(&first, Outcome::Done).await.first);
    is_over(&rig, &job).await;
}
