//! Jobs that are put aside for another try, or handed back; and their deadlines meanwhile.

use std::time::{Duration, Instant};

use worker_native::queue::{AttemptError, Claimed, Entry, NewJob, Outcome, Priority, Retry};

use super::rig::{Backend, LONG, Rig, SHORT_LEASE, TASK, counted, depths, entry, new, of_class, passed};

const SOON: Duration = Duration::from_millis(20);

fn error(attempt: u32) -> AttemptError {
    AttemptError { attempt, at: u64::from(attempt) * 100, error: format!("it broke \"{attempt}\" é") }
}

async fn retry<B: Backend>(rig: &Rig<B>, claimed: &Claimed, delay: Duration, charged: bool) -> bool {
    let mut failures = claimed.failures.clone();
    failures.push(error(claimed.attempt));
    let retry = Retry { ticket: claimed.ticket.clone(), delay, charged, failures };
    rig.retry(TASK, "c1", vec![retry]).await.unwrap()[0]
}

async fn release<B: Backend>(rig: &Rig<B>, claimed: &Claimed) {
    rig.release(TASK, "c1", std::slice::from_ref(&claimed.ticket)).await.unwrap();
}

pub(crate) async fn a_retried_job_waits_its_time_and_is_counted<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, claimed) = rig.held_by("c1").await;
    let bytes = rig.numbers().await.bytes;
    assert!(retry(&rig, &claimed, LONG, true).await);
    let state = rig.state(&job.job_id).await;
    assert_eq!((state.state.as_str(), state.attempt, &state.failures), ("retrying", 1, &vec![error(1)]));
    assert!(state.result.is_none() && state.waited.is_some());
    // Also after the lease that it had.
    passed(Duration::from_millis(150), Instant::now()).await;
    assert!(rig.claim(TASK, "c2", 10).await.unwrap().is_empty());
    assert!(rig.reclaim(TASK, "c2", 10).await.unwrap().is_empty());
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[("fast", 1)]), depths(&[])));
    assert_eq!((numbers.delayed, numbers.bytes, numbers.settled), (1, bytes, 0));
}

pub(crate) async fn a_retry_that_counts_is_another_start<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (job, claimed) = rig.held_by("c1").await;
    let since = Instant::now();
    assert!(retry(&rig, &claimed, SOON, true).await);
    let again = rig.take_soon("c2").await;
    assert!(since.elapsed() >= SOON, "not before its time");
    assert_eq!((again.attempt, again.entry.as_ref().unwrap()), (2, &job));
    assert_eq!(rig.state(&job.job_id).await.attempt, 2);
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.running), numbers.delayed), (depths(&[("fast", 1)]), 0));
    rig.done(&again).await;
    assert_eq!(rig.numbers().await.bytes, 0);
}

pub(crate) async fn a_retry_that_does_not_count_is_none<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, first) = rig.held_by("c1").await;
    assert!(retry(&rig, &first, Duration::ZERO, false).await);
    let second = rig.take_soon("c1").await;
    assert_eq!((second.attempt, &second.failures), (1, &vec![error(1)]), "but why is kept");
    // A start that was lost to the end of a lease counts, whatever follows.
    let third = rig.take_over("c1").await;
    assert_eq!(third.attempt, 2);
    assert!(retry(&rig, &third, Duration::ZERO, false).await);
    let fourth = rig.take_soon("c1").await;
    assert_eq!((fourth.attempt, fourth.entry.as_ref().unwrap()), (2, &job));
}

pub(crate) async fn errors_are_carried_from_start_to_start<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, first) = rig.held_by("c1").await;
    assert!(retry(&rig, &first, Duration::ZERO, true).await);
    let second = rig.take_soon("c1").await;
    assert!(retry(&rig, &second, Duration::ZERO, true).await);
    let third = rig.take_soon("lost").await;
    assert_eq!((third.attempt, third.failures.clone()), (3, vec![error(1), error(2)]));
    let fourth = rig.take_over("c1").await;
    assert_eq!((fourth.attempt, fourth.failures.clone()), (4, vec![error(1), error(2)]));
    release(&rig, &fourth).await;
    let fifth = rig.take_soon("c1").await;
    assert_eq!((fifth.attempt, &fifth.failures), (4, &fourth.failures));
    assert!(retry(&rig, &fifth, LONG, true).await);
    let state = rig.state(&job.job_id).await;
    assert_eq!((state.attempt, state.failures), (4, vec![error(1), error(2), error(4)]));
}

pub(crate) async fn a_retry_changes_nothing_else_of_the_job<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let job = Entry {
        tenant: Some("t".to_owned()),
        priority: Priority::Low,
        callback: Some("https://example.org/".to_owned()),
        lane: "accurate".to_owned(),
        ..entry()
    };
    rig.accept(job.clone()).await;
    let first = rig.take("c1").await;
    let before = rig.numbers().await;
    assert!(retry(&rig, &first, Duration::ZERO, true).await);
    let again = rig.take_soon("c1").await;
    assert_eq!(again.entry.as_ref().unwrap(), &job);
    assert_eq!(again.ticket.lane, "accurate");
    assert!(again.waited >= first.waited, "its age is that since it was accepted");
    assert_eq!(rig.numbers().await, before);
    rig.done(&again).await;
    assert_eq!(rig.callbacks(TASK, 10, LONG).await.unwrap().len(), 1);
}

pub(crate) async fn what_is_not_held_is_not_retried<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.accept_all(vec![entry(), entry(), entry()]).await;
    let held = rig.claim(TASK, "c1", 3).await.unwrap();
    rig.done(&held[0]).await;
    release(&rig, &held[1]).await;
    let all = held.iter().map(|one| Retry { ticket: one.ticket.clone(), delay: LONG, charged: true, failures: vec![] });
    assert_eq!(rig.retry(TASK, "c1", all.collect()).await.unwrap(), [false, false, true], "one by one");
    assert!(!retry(&rig, &held[2], LONG, true).await, "only once");
    let numbers = rig.numbers().await;
    assert_eq!((numbers.delayed, counted(&numbers.depths)), (1, depths(&[("fast", 2)])));
    assert_eq!(rig.take("c2").await.ticket.job_id, held[1].ticket.job_id);
}

pub(crate) async fn a_released_job_is_claimed_before_all_others_and_uncharged<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.accept(of_class(Priority::Low)).await;
    let mut held = rig.take("c0").await;
    rig.accept_all(vec![of_class(Priority::High), entry(), of_class(Priority::Low)]).await;
    for turn in 0..4 {
        rig.release(TASK, &format!("c{turn}"), std::slice::from_ref(&held.ticket)).await.unwrap();
        let again = rig.take(&format!("c{}", turn + 1)).await;
        assert_eq!((&again.ticket.job_id, again.attempt), (&held.ticket.job_id, 1));
        held = again;
    }
    assert_eq!(rig.claim(TASK, "c1", 10).await.unwrap().len(), 3, "and the others after it");
}

pub(crate) async fn a_released_job_is_held_by_nobody<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, claimed) = rig.held_by("c1").await;
    let before = rig.numbers().await;
    release(&rig, &claimed).await;
    let state = rig.state(&job.job_id).await;
    assert_eq!((state.state.as_str(), state.attempt), ("queued", 0));
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.bytes), (counted(&before.depths), before.bytes));
    assert_eq!(counted(&numbers.running), depths(&[]), "running are those that a consumer holds");
    // Twice, or by who does not hold it: nothing.
    release(&rig, &claimed).await;
    rig.release(TASK, "c2", std::slice::from_ref(&claimed.ticket)).await.unwrap();
    assert_eq!(rig.renew(TASK, "c1", std::slice::from_ref(&claimed.ticket)).await.unwrap(), [false]);
    assert_eq!(rig.numbers().await, numbers);
    let again = rig.take("c2").await;
    assert_eq!(counted(&rig.numbers().await.running), depths(&[("fast", 1)]));
    assert!(rig.claim(TASK, "c3", 10).await.unwrap().is_empty(), "claimed once");
    rig.done(&again).await;
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));

    // Nobody claims: then it is taken over like one whose lease ended. No counter is wrong by that.
    let (_, claimed) = rig.held_by("c1").await;
    release(&rig, &claimed).await;
    passed(Duration::from_millis(150), Instant::now()).await;
    let mut again = rig.reclaim(TASK, "c2", 10).await.unwrap();
    again.extend(rig.claim(TASK, "c2", 10).await.unwrap());
    assert_eq!((again.len(), again[0].attempt), (1, 1));
    assert_eq!(counted(&rig.numbers().await.running), depths(&[("fast", 1)]));
    assert!(rig.finish(&again[0], Outcome::Done).await.first);
    assert_eq!(counted(&rig.numbers().await.running), depths(&[]));

    // The first settlement wins, also of who handed the job back.
    let (_, claimed) = rig.held_by("c1").await;
    release(&rig, &claimed).await;
    rig.finish(&claimed, Outcome::Done).await;
    for left in rig.claim(TASK, "c2", 10).await.unwrap() {
        rig.done(&left).await;
    }
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!(numbers.settled, 3);
}

pub(crate) async fn a_released_job_keeps_its_earlier_starts<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (_, first) = rig.held_by("c1").await;
    assert!(retry(&rig, &first, Duration::ZERO, true).await);
    let second = rig.take_soon("dies").await;
    assert_eq!(second.attempt, 2);
    let third = rig.take_over("c1").await;
    assert_eq!(third.attempt, 3);
    release(&rig, &third).await;
    assert_eq!(rig.take("c2").await.attempt, 3);
}

pub(crate) async fn deadlines_shrink_and_pass<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let with = |left| NewJob { left, ..new(entry()) };
    rig.hand_in(with(Some(LONG))).await;
    rig.hand_in(with(None)).await;
    rig.hand_in(with(Some(Duration::from_millis(1)))).await;
    rig.hand_in(with(Some(Duration::ZERO))).await;
    passed(Duration::from_millis(30), Instant::now()).await;
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    let left: Vec<Option<Duration>> = claimed.iter().map(|one| one.left).collect();
    assert_eq!(left[1..], [None, Some(Duration::ZERO), Some(Duration::ZERO)], "given out, with nothing left");
    let long = left[0].unwrap();
    assert!(long < LONG && long > LONG / 2, "{long:?}");
    assert!(claimed.iter().all(|one| one.waited >= Duration::from_millis(20)), "{claimed:?}");
}

pub(crate) async fn a_deadline_outlives_retry_and_release<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    rig.hand_in(NewJob { left: Some(LONG), ..new(entry()) }).await;
    let first = rig.take("c1").await;
    let mut left = first.left.unwrap();
    passed(Duration::from_millis(30), Instant::now()).await;
    assert!(retry(&rig, &first, Duration::ZERO, true).await);
    let second = rig.take_soon("c1").await;
    release(&rig, &second).await;
    passed(Duration::from_millis(30), Instant::now()).await;
    let third = rig.take("c1").await;
    let fourth = rig.take_over("c1").await;
    for claimed in [second, third, fourth] {
        let now = claimed.left.unwrap();
        assert!(now < left && now > LONG / 2, "{now:?} after {left:?}");
        // Two claims may fall into the same millisecond.
        left = now + Duration::from_millis(1);
    }
}
