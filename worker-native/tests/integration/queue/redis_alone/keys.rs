//! The keys: all of a task in one slot, none left behind, and several processes on them.

use std::time::Duration;

use worker_native::queue::{Belief, Entry, NewLabel, Outcome, Priority, Retry};

use super::super::rig::{Backend, LONG, OnRedis, Rig, SHORT_LEASE, TASK, entry, new_once, of_class, of_tenant, result};
use super::{Admin, key};
use crate::support::until;

/// Does all that can be done with a task's jobs.
async fn everything(rig: &Rig<OnRedis>) {
    rig.tend(TASK).await.unwrap();
    let watch = rig.watch(TASK).await.unwrap();
    let with_callback = Entry { callback: Some("https://example.org/".to_owned()), ..of_tenant("t") };
    rig.accept_all(vec![with_callback, of_class(Priority::High), of_class(Priority::Low), of_tenant("u")]).await;
    rig.hand_in(new_once(entry(), "k", "print")).await;
    rig.begin(TASK, "call", "print", LONG).await.unwrap();
    rig.set_fact(TASK, "accuracy", "fast", Some("0.9")).await.unwrap();
    rig.keep_answers(TASK, vec![("r".to_owned(), "x".to_owned())]).await.unwrap();
    let (answer, version, after) = ("r".to_owned(), "m/1".to_owned(), Belief::default());
    let label = NewLabel { answer, remember: LONG, version, before: String::new(), after };
    rig.label(TASK, &label).await.unwrap();
    let held = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(held.len(), 5);
    rig.release(TASK, "c1", std::slice::from_ref(&held[0].ticket)).await.unwrap();
    let retry = Retry { ticket: held[1].ticket.clone(), delay: LONG, charged: true, failures: vec![] };
    rig.retry(TASK, "c1", vec![retry]).await.unwrap();
    rig.finish(&held[2], Outcome::Dead).await;
    rig.done(&held[3]).await;
    let id = &held[4].ticket.job_id;
    rig.cancel(TASK, id, &result(id, Outcome::Cancelled, 1, "")).await.unwrap();
    rig.check_writable(&[TASK]).await.unwrap();
    rig.wait(TASK, Duration::from_millis(1)).await.unwrap();
    drop(watch);
}

#[tokio::test]
async fn all_keys_of_a_task_share_a_slot() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    everything(&rig).await;
    let keys: Vec<String> = Admin::of(&rig).await.ask("KEYS *").await;
    assert!(keys.len() > 15, "{keys:?}");
    // Of no task: only asked whether Redis takes writes.
    let (ours, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|name| name != "ir:ready");
    assert_eq!(others.len(), 1);
    // The slot is that of what stands between the first pair of braces.
    for name in ours {
        let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        assert_eq!(tag, Some(TASK), "{name}");
    }
}

#[tokio::test]
async fn a_queue_that_came_to_rest_leaves_little_behind() {
    let rig = Rig::<OnRedis>::start(&[("RESULT_TTL_SECONDS", "1"), ("DEAD_TTL_SECONDS", "1")]).await;
    let mut admin = Admin::of(&rig).await;
    let tenants = (0..40).map(|i| of_tenant(&format!("tenant{i}")));
    rig.accept_all(tenants.collect()).await;
    let held = rig.claim(TASK, "c1", 100).await.unwrap();
    assert_eq!(held.len(), 40);
    for (i, claimed) in held.iter().enumerate() {
        rig.finish(claimed, if i % 2 == 0 { Outcome::Done } else { Outcome::Dead }).await;
    }
    rig.leave(TASK, "c1").await.unwrap();
    // However many tenants and jobs there were.
    let left = until("the rest to go", || {
        let keys = admin.0.clone();
        let rig = &rig;
        async move {
            rig.tend(TASK).await.unwrap();
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut { keys }).await.unwrap();
            let of_one = |name: &String| ["tenant", ":job:", ":dead:"].iter().any(|part| name.contains(part));
            (!keys.iter().any(of_one)).then_some(keys)
        }
    })
    .await;
    assert!(left.len() < 15, "{left:?}");
    for counter in ["tenants", "tenant_bytes", "heads"] {
        let fields: Vec<String> = admin.ask(&format!("HKEYS {}", key(counter))).await;
        assert!(!fields.iter().any(|field| field.contains("tenant")), "{counter}: {fields:?}");
    }
}

#[tokio::test]
async fn several_processes_share_the_jobs() {
    let rig = Rig::<OnRedis>::start(&[SHORT_LEASE]).await;
    let other = rig.beside(&[SHORT_LEASE]);
    let jobs: Vec<Entry> = (0..10).map(|_| entry()).collect();
    rig.accept_all(jobs.clone()).await;
    let here = rig.claim(TASK, "c1", 4).await.unwrap();
    let there = other.claim(TASK, "c2", 10).await.unwrap();
    assert_eq!((here.len(), there.len()), (4, 6));
    rig.done(&here[0]).await;
    let state = other.job(TASK, &here[0].ticket.job_id).await.unwrap().unwrap();
    assert_eq!(state.state, "done");
    assert_eq!(other.counts(TASK).await.unwrap(), rig.numbers().await);
    // A woken one is woken by jobs that another process handed in.
    let waiting = other.wait(TASK, Duration::from_secs(4));
    let (waited, _) = tokio::join!(waiting, rig.accept(entry()));
    waited.unwrap();
    let again = until("the end of a lease", || async {
        other.reclaim(TASK, "c2", 10).await.unwrap().into_iter().find(|one| one.ticket == here[1].ticket)
    })
    .await;
    assert_eq!(again.attempt, 2);
}

#[tokio::test]
async fn a_consumer_that_left_is_off_the_books_unless_it_holds_jobs() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    rig.accept_all(vec![entry(), entry()]).await;
    let idle = rig.take("idle").await;
    rig.done(&idle).await;
    rig.take("busy").await;
    rig.leave(TASK, "idle").await.unwrap();
    rig.leave(TASK, "busy").await.unwrap();
    assert_eq!(Admin::of(&rig).await.consumers("normal").await, ["busy"]);
}

#[tokio::test]
async fn two_prefixes_are_two_queues() {
    let rig = Rig::<OnRedis>::start(&[]).await;
    let other = rig.beside(&[("QUEUE_PREFIX", "other")]);
    let job = rig.accept(entry()).await;
    assert!(other.job(TASK, &job.job_id).await.unwrap().is_none());
    assert!(other.claim(TASK, "c1", 10).await.unwrap().is_empty());
    assert_eq!(rig.backend.settings().len(), 1);
    assert_eq!(rig.take("c1").await.ticket.job_id, job.job_id);
}

#[tokio::test]
async fn tenants_beyond_the_bound_share_a_line_and_are_served_all_the_same() {
    let rig = Rig::<OnRedis>::start(&[("TENANT_MAX_LINES", "3")]).await;
    let mut admin = Admin::of(&rig).await;
    // One hand-in after another, and many in one.
    for tenant in ["t0", "t1"] {
        rig.accept(of_tenant(tenant)).await;
    }
    rig.accept_all((0..50).map(|i| of_tenant(&format!("t{i}"))).collect()).await;
    let lines: Vec<String> = admin.ask(&format!("SMEMBERS {}", key("flows"))).await;
    assert_eq!(lines.len(), 4, "three of their own and one shared: {lines:?}");
    assert!(lines.contains(&"normal:~".to_owned()), "{lines:?}");
    let held = rig.claim(TASK, "c1", 100).await.unwrap();
    assert_eq!(held.len(), 52);
    // Through another try, and through death and requeue, they come to the same end.
    let retry = Retry { ticket: held[51].ticket.clone(), delay: Duration::ZERO, charged: true, failures: vec![] };
    rig.retry(TASK, "c1", vec![retry]).await.unwrap();
    rig.finish(&held[50], Outcome::Dead).await;
    let dead = std::slice::from_ref(&held[50].ticket.job_id);
    assert_eq!(rig.requeue(TASK, dead).await.unwrap(), [true]);
    for claimed in &held[..50] {
        rig.done(claimed).await;
    }
    for _ in 0..2 {
        let again = rig.take_soon("c1").await;
        rig.done(&again).await;
    }
    let numbers = rig.numbers().await;
    assert_eq!((numbers.depths.values().sum::<u32>(), numbers.bytes, numbers.lost), (0, 0, 0));
    let counted: u64 = admin.ask(&format!("HLEN {}", key("tenants"))).await;
    assert_eq!(counted, 0, "and nothing is left on anybody's account");
    // When they have gone, there is room for others.
    until("the lines to be forgotten", || async {
        rig.tend(TASK).await.unwrap();
        let left: u64 = Admin::of(&rig).await.ask(&format!("SCARD {}", key("flows"))).await;
        (left == 0).then_some(())
    })
    .await;
    rig.accept(of_tenant("late")).await;
    let lines: Vec<String> = admin.ask(&format!("SMEMBERS {}", key("flows"))).await;
    assert_eq!(lines, ["normal:late"]);
}
