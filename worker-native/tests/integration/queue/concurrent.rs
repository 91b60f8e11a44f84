//! Many at once: nothing is lost, nothing is doubled, and all numbers come back to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use worker_native::queue::{Cancelled, Entry, Outcome, Priority, Queue, Retry};

use super::rig::{Backend, Rig, TASK, all, counted, depths, entry, new, result, settlement};
use crate::support::until;

const JOBS: usize = 400;

/// How often each job got a first result.
type Firsts = Arc<std::sync::Mutex<BTreeMap<String, usize>>>;

fn note(firsts: &Firsts, job_id: &str) {
    *firsts.lock().unwrap().entry(job_id.to_owned()).or_default() += 1;
}

/// Claims, and does with each job one of the things a consumer may do, until all are settled.
async fn consume(queue: Arc<dyn Queue>, name: String, seed: u64, firsts: Firsts, settled: Arc<AtomicUsize>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut late = Vec::new();
    while settled.load(Ordering::SeqCst) < JOBS {
        let mut claimed = queue.claim(TASK, &name, random.usize(1..20)).await.unwrap();
        claimed.extend(queue.reclaim(TASK, &name, 5).await.unwrap());
        if claimed.is_empty() {
            queue.wait(TASK, Duration::from_millis(5)).await.unwrap();
        }
        for job in claimed {
            let ticket = job.ticket.clone();
            match random.u32(0..10) {
                0 => queue.release(TASK, &name, &[ticket]).await.unwrap(),
                1 => {
                    let delay = Duration::from_millis(random.u64(0..5));
                    let retry = Retry { ticket, delay, charged: true, failures: vec![] };
                    queue.retry(TASK, &name, vec![retry]).await.unwrap();
                }
                // Forgotten until its lease ends, and then settled by two.
                2 => late.push(ticket),
                _ => {
                    let settlements = vec![settlement(&ticket, Outcome::Done); random.usize(1..3)];
                    for one in queue.settle(TASK, settlements).await.unwrap() {
                        if one.first {
                            note(&firsts, &ticket.job_id);
                            settled.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            }
        }
        if late.len() > 5 {
            for ticket in late.drain(..) {
                let found = queue.settle(TASK, vec![settlement(&ticket, Outcome::Failed)]).await.unwrap();
                if found[0].first {
                    note(&firsts, &ticket.job_id);
                    settled.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }
}

pub(crate) async fn many_at_once_end_each_job_once<B: Backend>() {
    let rig = Rig::<B>::start(&[("LEASE_MS", "200")]).await;
    let (firsts, settled) = (Firsts::default(), Arc::new(AtomicUsize::new(0)));
    let mut work = JoinSet::new();
    for seed in 0..4 {
        work.spawn(consume(rig.shared(), format!("c{seed}"), seed, Arc::clone(&firsts), Arc::clone(&settled)));
    }
    let jobs: Vec<Entry> = (0..JOBS)
        .map(|i| Entry {
            priority: Priority::ALL[i % 3],
            tenant: (i % 2 == 0).then(|| format!("t{}", i % 5)),
            lane: if i % 4 == 0 { "accurate" } else { "fast" }.to_owned(),
            ..entry()
        })
        .collect();
    for (i, job) in jobs.iter().enumerate() {
        rig.accept(job.clone()).await;
        if i % 10 == 9 {
            let id = &jobs[i - 5].job_id;
            let ended = rig.cancel(TASK, id, &result(id, Outcome::Cancelled, 1, "")).await.unwrap();
            if matches!(ended, Cancelled::Done { .. }) {
                note(&firsts, id);
                settled.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    until("every job to be settled", || async { (settled.load(Ordering::SeqCst) >= JOBS).then_some(()) }).await;
    while let Some(ended) = work.join_next().await {
        ended.unwrap();
    }
    let firsts = firsts.lock().unwrap().clone();
    assert_eq!(firsts.len(), JOBS, "no job without a result");
    assert!(firsts.values().all(|n| *n == 1), "no job with two");
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), counted(&numbers.running)), (depths(&[]), depths(&[])));
    assert_eq!((numbers.bytes, numbers.delayed, numbers.lost), (0, 0, 0));
    assert_eq!(numbers.settled, JOBS as u64);
    let mut listed = rig.listed(&all()).await;
    listed.sort();
    assert_eq!(listed, firsts.into_keys().collect::<Vec<_>>());
}

pub(crate) async fn many_callers_hand_in_and_settle_at_once<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let mut work = JoinSet::new();
    for _ in 0..JOBS {
        let queue = rig.shared();
        work.spawn(async move { queue.enqueue(TASK, vec![new(entry()), new(entry())]).await.unwrap().len() });
    }
    while let Some(answers) = work.join_next().await {
        assert_eq!(answers.unwrap(), 2);
    }
    let claimed = rig.claim(TASK, "c1", 1_000).await.unwrap();
    assert_eq!(claimed.len(), 2 * JOBS);
    let mut work = JoinSet::new();
    for pair in claimed.chunks(2) {
        let settlements: Vec<_> = pair.iter().map(|one| settlement(&one.ticket, Outcome::Done)).collect();
        let queue = rig.shared();
        work.spawn(async move { queue.settle(TASK, settlements).await.unwrap() });
    }
    while let Some(answers) = work.join_next().await {
        let answers = answers.unwrap();
        assert_eq!(answers.iter().map(|one| one.first).collect::<Vec<_>>(), [true, true]);
    }
    let numbers = rig.numbers().await;
    assert_eq!((counted(&numbers.depths), numbers.bytes, numbers.settled), (depths(&[]), 0, 2 * JOBS as u64));
}
