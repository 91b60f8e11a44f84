//! Every bound refuses exactly where it lies, stores nothing of what it refuses, and takes again when there is room.

use worker_native::queue::{Bound, Enqueued, Entry, Full, NewJob, Retry};

use super::rig::{Backend, LONG, Rig, TASK, accepted, counted, depths, entry, new, new_once, of_tenant};

fn bound(answer: &Enqueued) -> Option<Bound> {
    match answer {
        Enqueued::Full(full) => Some(full.bound),
        Enqueued::Accepted(_) | Enqueued::Replayed(_) | Enqueued::Conflict => None,
    }
}

pub(crate) async fn the_number_of_jobs_is_bounded<B: Backend>() {
    let rig = Rig::<B>::start(&[("QUEUE_MAX_DEPTH", "3"), ("TENANT_MAX_PERCENT", "100")]).await;
    rig.accept(entry()).await;
    rig.accept(Entry { lane: "accurate".to_owned(), ..entry() }).await;
    // Of two at once the second has no room.
    let jobs = vec![new(entry()), new(entry())];
    let answers = rig.enqueue(TASK, jobs).await.unwrap();
    assert!(matches!(&answers[0], Enqueued::Accepted(_)), "{answers:?}");
    assert_eq!(bound(&answers[1]), Some(Bound::Jobs));
    let bytes = rig.numbers().await.bytes;
    let refused = rig.hand_in(new(of_tenant("t"))).await;
    assert_eq!(refused, Enqueued::Full(Full { bound: Bound::Jobs, depth: 3, bytes }));
    // A held job takes room until it is settled.
    let claimed = rig.take("c1").await;
    assert_eq!(bound(&rig.hand_in(new(entry())).await), Some(Bound::Jobs));
    rig.done(&claimed).await;
    rig.accept(entry()).await;
    assert_eq!(bound(&rig.hand_in(new(entry())).await), Some(Bound::Jobs));
}

pub(crate) async fn their_size_is_bounded<B: Backend>() {
    let rig = Rig::<B>::start(&[("QUEUE_MAX_BYTES", "4096")]).await;
    rig.accept(entry()).await;
    let size = rig.numbers().await.bytes;
    let fit = 4_096 / size;
    for _ in 1..fit {
        rig.accept(entry()).await;
    }
    let refused = rig.hand_in(new(entry())).await;
    let depth = u32::try_from(fit).unwrap();
    assert_eq!(refused, Enqueued::Full(Full { bound: Bound::Bytes, depth, bytes: fit * size }));
    let claimed = rig.take("c1").await;
    rig.done(&claimed).await;
    rig.accept(entry()).await;
    assert_eq!(rig.numbers().await.bytes, fit * size);
    assert_eq!(bound(&rig.hand_in(new(entry())).await), Some(Bound::Bytes));
}

pub(crate) async fn a_job_that_would_wait_too_long_is_refused<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let with_room = |room| NewJob { room: Some(room), ..new(entry()) };
    assert_eq!(bound(&rig.hand_in(with_room(0)).await), Some(Bound::Wait));
    assert_eq!(bound(&rig.hand_in(with_room(2)).await), None);
    assert_eq!(bound(&rig.hand_in(with_room(2)).await), None);
    let refused = rig.hand_in(with_room(2)).await;
    let bytes = rig.numbers().await.bytes;
    assert_eq!(refused, Enqueued::Full(Full { bound: Bound::Wait, depth: 2, bytes }));
    assert_eq!(bound(&rig.hand_in(with_room(3)).await), None, "each job has its own");
    for _ in 0..2 {
        let claimed = rig.take("c1").await;
        rig.done(&claimed).await;
    }
    assert_eq!(bound(&rig.hand_in(with_room(2)).await), None);
}

pub(crate) async fn one_tenant_gets_its_share_and_no_more<B: Backend>() {
    let rig = Rig::<B>::start(&[("QUEUE_MAX_DEPTH", "10"), ("TENANT_MAX_PERCENT", "30")]).await;
    for _ in 0..3 {
        rig.accept(of_tenant("a")).await;
    }
    let bytes = rig.numbers().await.bytes;
    let refused = rig.hand_in(new(of_tenant("a"))).await;
    assert_eq!(refused, Enqueued::Full(Full { bound: Bound::Tenant, depth: 3, bytes }));
    for _ in 0..3 {
        rig.accept(of_tenant("b")).await;
    }
    assert_eq!(bound(&rig.hand_in(new(of_tenant("b"))).await), Some(Bound::Tenant));
    // Who names no tenant is none.
    for _ in 0..4 {
        rig.accept(entry()).await;
    }
    assert_eq!(bound(&rig.hand_in(new(entry())).await), Some(Bound::Jobs));
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    let of_a = claimed.iter().find(|one| one.entry.as_ref().unwrap().tenant.as_deref() == Some("a")).unwrap();
    assert!(matches!(rig.hand_in(new(of_tenant("a"))).await, Enqueued::Full(_)), "held jobs take room");
    rig.done(of_a).await;
    rig.accept(of_tenant("a")).await;
    for claimed in claimed.iter().filter(|one| one.ticket != of_a.ticket) {
        rig.done(claimed).await;
    }
    for _ in 0..2 {
        rig.accept(of_tenant("a")).await;
    }
    assert_eq!(bound(&rig.hand_in(new(of_tenant("a"))).await), Some(Bound::Tenant));
}

pub(crate) async fn the_size_of_one_tenants_jobs_is_bounded<B: Backend>() {
    let rig = Rig::<B>::start(&[("QUEUE_MAX_BYTES", "8192"), ("TENANT_MAX_PERCENT", "50")]).await;
    rig.accept(of_tenant("a")).await;
    let size = rig.numbers().await.bytes;
    let fit = 4_096 / size;
    for _ in 1..fit {
        rig.accept(of_tenant("a")).await;
    }
    assert_eq!(bound(&rig.hand_in(new(of_tenant("a"))).await), Some(Bound::Tenant));
    rig.accept(of_tenant("b")).await;
    let claimed = rig.claim(TASK, "c1", 1_000).await.unwrap();
    for claimed in &claimed {
        rig.done(claimed).await;
    }
    for _ in 0..fit {
        rig.accept(of_tenant("a")).await;
    }
    assert_eq!(bound(&rig.hand_in(new(of_tenant("a"))).await), Some(Bound::Tenant));
}

pub(crate) async fn held_and_retried_jobs_take_room_as_waiting_ones_do<B: Backend>() {
    let rig = Rig::<B>::start(&[("QUEUE_MAX_DEPTH", "2"), ("TENANT_MAX_PERCENT", "50")]).await;
    rig.accept(of_tenant("a")).await;
    let bytes = rig.numbers().await.bytes;
    let claimed = rig.take("c1").await;
    let retry = Retry { ticket: claimed.ticket.clone(), delay: LONG, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [true]);
    assert_eq!(rig.numbers().await.bytes, bytes);
    assert_eq!(bound(&rig.hand_in(new(of_tenant("a"))).await), Some(Bound::Tenant));
    rig.accept(entry()).await;
    assert_eq!(bound(&rig.hand_in(new(entry())).await), Some(Bound::Jobs));
    let other = rig.take("c1").await;
    rig.release(TASK, "c1", std::slice::from_ref(&other.ticket)).await.unwrap();
    assert_eq!(bound(&rig.hand_in(new(entry())).await), Some(Bound::Jobs));
    let result = super::rig::result(&claimed.ticket.job_id, worker_native::queue::Outcome::Cancelled, 1, "");
    rig.cancel(TASK, &claimed.ticket.job_id, &result).await.unwrap();
    rig.accept(of_tenant("a")).await;
}

pub(crate) async fn what_is_refused_leaves_no_trace<B: Backend>() {
    let rig = Rig::<B>::start(&[("QUEUE_MAX_DEPTH", "1")]).await;
    let first = rig.accept(entry()).await;
    let before = rig.numbers().await;
    let job = Entry { tenant: Some("t".to_owned()), lane: "accurate".to_owned(), ..entry() };
    assert!(bound(&rig.hand_in(new_once(job.clone(), "k", "print")).await).is_some());
    assert!(rig.job(TASK, &job.job_id).await.unwrap().is_none());
    assert_eq!(rig.numbers().await, before);
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(super::rig::ids(&claimed), [&first.job_id]);
    rig.done(&claimed[0]).await;
    // Its key was not used up either, and neither was its id.
    let again = rig.hand_in(new_once(job.clone(), "k", "another")).await;
    assert_eq!(accepted(again), depths(&[("accurate", 1)]));
    assert_eq!(rig.take("c1").await.ticket.job_id, job.job_id);
}

pub(crate) async fn a_known_key_or_id_is_answered_also_when_there_is_no_room<B: Backend>() {
    let rig = Rig::<B>::start(&[("QUEUE_MAX_DEPTH", "1")]).await;
    let job = new_once(entry(), "k", "print");
    assert!(matches!(rig.hand_in(job.clone()).await, Enqueued::Accepted(_)));
    let answer = job.once.clone().unwrap().answer;
    assert_eq!(rig.hand_in(new_once(entry(), "k", "print")).await, Enqueued::Replayed(answer));
    assert_eq!(rig.hand_in(new_once(entry(), "k", "another")).await, Enqueued::Conflict);
    assert!(matches!(rig.hand_in(new(job.entry)).await, Enqueued::Accepted(_)), "it is there");
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[("fast", 1)]));
}
