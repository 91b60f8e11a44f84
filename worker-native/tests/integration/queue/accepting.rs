//! A job that was accepted is durable, is given out once, and is counted until it is settled.

use std::time::Duration;

use shared::reading::Input;
use worker_native::queue::{Enqueued, Entry, NewJob, Outcome, Retry};

use super::rig::{
    Backend, LONG, Rig, SHORT_LEASE, TASK, accepted, all, counted, depths, entry, ids, new, new_once, settlement,
};
use crate::support::{LIMIT, until};

pub(crate) async fn a_job_is_claimed_once_and_whole_and_counted_until_it_is_settled<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (first, second) = (entry(), Entry { lane: "accurate".to_owned(), ..entry() });
    assert_eq!(accepted(rig.hand_in(new(first.clone())).await), depths(&[("fast", 1)]));
    let both = depths(&[("accurate", 1), ("fast", 1)]);
    assert_eq!(accepted(rig.hand_in(new(second.clone())).await), both);

    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    let entries: Vec<&Entry> = claimed.iter().map(|job| job.entry.as_ref().unwrap()).collect();
    assert_eq!(entries, [&first, &second]);
    assert!(claimed.iter().all(|job| job.attempt == 1 && job.left.is_none() && job.failures.is_empty()));
    assert_eq!((claimed[0].ticket.lane.as_str(), claimed[1].ticket.lane.as_str()), ("fast", "accurate"));
    assert!(rig.claim(TASK, "c2", 10).await.unwrap().is_empty(), "claimed once");

    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (both.clone(), both), "held, and not settled");
    assert!(numbers.bytes > 0);
    let settled = rig.finish(&claimed[0], Outcome::Done).await;
    assert_eq!((settled.first, counted(&settled.depths)), (true, depths(&[("accurate", 1)])));
    rig.done(&claimed[1]).await;
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.settled, numbers.lost, numbers.delayed, numbers.dead), (0, 2, 0, 0, 0));
}

pub(crate) async fn each_job_of_a_hand_in_is_answered_on_its_own_and_in_order<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let known = rig.accept(entry()).await;
    assert!(matches!(rig.hand_in(new_once(entry(), "k", "print")).await, Enqueued::Accepted(_)));
    let crowded = NewJob { room: Some(1), ..new(entry()) };
    let jobs = vec![
        new(entry()),
        crowded,
        new_once(entry(), "k", "another"),
        new(known.clone()),
        new_once(entry(), "k", "print"),
        new(entry()),
    ];
    let answers = rig.enqueue(TASK, jobs).await.unwrap();
    let kinds: Vec<&str> = answers
        .iter()
        .map(|answer| match answer {
            Enqueued::Accepted(_) => "accepted",
            Enqueued::Replayed(_) => "replayed",
            Enqueued::Conflict => "conflict",
            Enqueued::Full(_) => "full",
        })
        .collect();
    assert_eq!(kinds, ["accepted", "full", "conflict", "accepted", "replayed", "accepted"]);
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[("fast", 4)]));
}

pub(crate) async fn one_job_id_is_one_job<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let job = entry();
    let twice = rig.enqueue(TASK, vec![new(job.clone()), new(job.clone())]).await.unwrap();
    assert!(twice.iter().all(|answer| matches!(answer, Enqueued::Accepted(_))), "{twice:?}");
    rig.accept(job.clone()).await;
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[("fast", 1)]));
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    rig.accept(job.clone()).await;
    assert!(rig.claim(TASK, "c1", 10).await.unwrap().is_empty(), "while it runs");
    rig.done(&claimed[0]).await;
    rig.accept(job.clone()).await;
    assert!(rig.claim(TASK, "c1", 10).await.unwrap().is_empty(), "after it ended");
    assert_eq!(rig.state(&job.job_id).await.state, "done");
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.bytes, numbers.settled), (depths(&[]), 0, 1));
}

pub(crate) async fn numbers_and_texts_are_kept_bit_for_bit<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let numbers = Entry {
        sensor_id: Some("a \"sensor\"\n with \\ and é".to_owned()),
        timestamp: Some(0.1 + 0.2),
        deadline_at: Some(u64::MAX / 2),
        tenant: Some("t-1:x".to_owned()),
        callback: Some("https://example.org/a?b=c%20d".to_owned()),
        input: Input::Features(vec![0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::EPSILON]),
        ..entry()
    };
    let text = Entry { input: Input::Text("\u{0}a\r\n \u{1F4A7} \"\\".to_owned()), ..entry() };
    for job in [numbers, text] {
        rig.accept(job.clone()).await;
        let claimed = rig.take("c1").await;
        assert_eq!(claimed.entry.as_ref().unwrap(), &job);
        if let (Input::Features(kept), Input::Features(given)) = (&claimed.entry.as_ref().unwrap().input, &job.input) {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(kept), bits(given));
        }
        rig.done(&claimed).await;
    }
}

pub(crate) async fn accepted_jobs_outlive_the_process<B: Backend>() {
    let mut rig = Rig::<B>::start(&[]).await;
    let job = rig.accept(entry()).await;
    let ended = rig.accept(entry()).await;
    rig.cancel(TASK, &ended.job_id, &super::rig::result(&ended.job_id, Outcome::Cancelled, 1, "")).await.unwrap();
    let before = rig.numbers().await;
    rig.reopen(&[]).await;
    assert_eq!(rig.numbers().await, before);
    assert_eq!(rig.state(&ended.job_id).await.state, "cancelled");
    assert_eq!(rig.listed(&all()).await, [ended.job_id]);
    let claimed = rig.take("c2").await;
    assert_eq!((claimed.entry.as_ref().unwrap(), claimed.attempt), (&job, 1));
    rig.done(&claimed).await;
}

pub(crate) async fn claimed_jobs_outlive_the_process<B: Backend>() {
    let mut rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let (job, _) = rig.held_by("c1").await;
    rig.reopen(&[SHORT_LEASE]).await;
    // At once where nobody else can hold it, and after its lease where somebody may.
    let again = until("the job", || async {
        let claimed = rig.claim(TASK, "c2", 1).await.unwrap().pop();
        if claimed.is_some() { claimed } else { rig.reclaim(TASK, "c2", 1).await.unwrap().pop() }
    })
    .await;
    assert_eq!((again.entry.as_ref().unwrap(), again.attempt), (&job, 2), "it may have been what ended the process");
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[("fast", 1)]), depths(&[("fast", 1)])));
    rig.done(&again).await;
}

pub(crate) async fn tasks_do_not_mix<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let here = rig.accept(entry()).await;
    let there = Entry { job_id: Entry::new_id("other"), task: "other".to_owned(), ..entry() };
    rig.accept(there.clone()).await;
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[("fast", 1)]));
    assert!(rig.job(TASK, &there.job_id).await.unwrap().is_none());
    assert!(rig.job("third", &here.job_id).await.unwrap().is_none());
    let claimed = rig.claim("other", "c1", 10).await.unwrap();
    assert_eq!(ids(&claimed), [&there.job_id]);
    assert_eq!(ids(&rig.claim(TASK, "c1", 10).await.unwrap()), [&here.job_id]);
}

pub(crate) async fn an_unsettled_job_is_read_as_it_was_handed_in<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let job = rig.accept(Entry { tenant: Some("t".to_owned()), ..entry() }).await;
    let read = async || rig.entry(TASK, &job.job_id).await.unwrap();
    assert_eq!(read().await.as_ref(), Some(&job), "while it waits");
    let claimed = rig.take("c1").await;
    assert_eq!(read().await.as_ref(), Some(&job), "while it is held");
    let retry = Retry { ticket: claimed.ticket, delay: Duration::from_millis(1), charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [true]);
    assert_eq!(read().await.as_ref(), Some(&job), "while it is put aside");
    let claimed = until("the next try", || async { rig.claim(TASK, "c1", 1).await.unwrap().pop() }).await;
    rig.finish(&claimed, Outcome::Done).await;
    assert_eq!(read().await, None, "its result tells");
    assert_eq!(rig.entry(TASK, &Entry::new_id(TASK)).await.unwrap(), None);
    assert_eq!(rig.entry("other-task", &job.job_id).await.unwrap(), None);
}

pub(crate) async fn nothing_asked_is_nothing_done<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let job = rig.accept(entry()).await;
    let before = rig.numbers().await;
    assert!(rig.enqueue(TASK, vec![]).await.unwrap().is_empty());
    assert!(rig.claim(TASK, "c1", 0).await.unwrap().is_empty());
    assert!(rig.reclaim(TASK, "c1", 0).await.unwrap().is_empty());
    assert!(rig.renew(TASK, "c1", &[]).await.unwrap().is_empty());
    assert!(rig.settle(TASK, vec![]).await.unwrap().is_empty());
    assert!(rig.retry(TASK, "c1", vec![]).await.unwrap().is_empty());
    rig.release(TASK, "c1", &[]).await.unwrap();
    assert!(rig.requeue(TASK, &[]).await.unwrap().is_empty());
    assert!(rig.drop_dead(TASK, &[]).await.unwrap().is_empty());
    assert!(rig.dead(TASK, 0, 0).await.unwrap().is_empty());
    assert!(rig.callbacks(TASK, 0, LONG).await.unwrap().is_empty());
    assert!(rig.results(&[], &all()).await.unwrap().is_empty());
    assert_eq!(rig.numbers().await, before);
    assert_eq!(rig.take("c1").await.ticket.job_id, job.job_id);
}

pub(crate) async fn a_claim_gives_no_more_than_asked_for<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let jobs: Vec<Entry> = (0..10).map(|_| entry()).collect();
    rig.accept_all(jobs.clone()).await;
    let wanted: Vec<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(ids(&rig.claim(TASK, "c1", 3).await.unwrap()), wanted[..3]);
    assert_eq!(ids(&rig.claim(TASK, "c2", 4).await.unwrap()), wanted[3..7]);
    assert_eq!(ids(&rig.claim(TASK, "c1", 100).await.unwrap()), wanted[7..]);
    assert_eq!(counted(&rig.numbers().await.running), depths(&[("fast", 10)]));
}

pub(crate) async fn a_wait_ends_with_a_job_or_with_its_time<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    for time in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(20)] {
        tokio::time::timeout(LIMIT, rig.wait(TASK, time)).await.expect("a wait ends").unwrap();
    }
    // Before the job, and after it: in neither order is it waited for in vain.
    for early in [true, false] {
        if early {
            rig.accept(entry()).await;
        }
        let waiting = {
            let queue = rig.shared();
            tokio::task::JoinSet::from_iter([async move { queue.wait(TASK, LONG).await }])
        };
        if !early {
            rig.accept(entry()).await;
        }
        let claimed = until("a job after waiting", || async {
            // The wait may be bounded by less than was asked for; a job is there at the end of it all the same.
            rig.wait(TASK, Duration::from_millis(20)).await.unwrap();
            rig.claim(TASK, "c1", 1).await.unwrap().pop()
        })
        .await;
        rig.done(&claimed).await;
        drop(waiting);
    }
}

pub(crate) async fn ten_thousand_at_once_are_no_different<B: Backend>() {
    const MANY: usize = 10_000;
    let rig = Rig::<B>::start(&[("RESULTS_HISTORY", "20000")]).await;
    let answers = rig.enqueue(TASK, (0..MANY).map(|_| new(entry())).collect()).await.unwrap();
    assert_eq!(answers.len(), MANY);
    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Accepted(_))));
    let mut claimed = Vec::new();
    while claimed.len() < MANY {
        let more = rig.claim(TASK, "c1", MANY).await.unwrap();
        assert!(!more.is_empty(), "claimed {} of them", claimed.len());
        claimed.extend(more);
    }
    let tickets: Vec<_> = claimed.iter().map(|one| one.ticket.clone()).collect();
    let renewed = rig.renew(TASK, "c1", &tickets).await.unwrap();
    assert_eq!((renewed.len(), renewed.iter().all(|mine| *mine)), (MANY, true));
    let settled = rig.settle(TASK, tickets.iter().map(|ticket| settlement(ticket, Outcome::Done)).collect()).await;
    let settled = settled.unwrap();
    assert_eq!((settled.len(), settled.iter().all(|one| one.first)), (MANY, true));
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.settled), (0, MANY as u64));
    assert_eq!(rig.listed(&all()).await.len(), MANY);
}

pub(crate) async fn a_store_that_takes_writes_says_so<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.check_writable(&[TASK]).await.unwrap();
}
