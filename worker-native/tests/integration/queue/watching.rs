//! Whoever watches a task's jobs hears of every change.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use worker_native::queue::{Change, Outcome, Retry};

use super::rig::{Backend, LONG, Rig, SHORT_LEASE, TASK, entry, result};
use crate::support::LIMIT;

/// Waits until it is told that a job may have changed.
async fn hears_of(watch: &mut Receiver<Change>, job_id: &str, what: &str) {
    let heard = async {
        loop {
            match watch.recv().await {
                Ok(Change::Jobs(ids)) if !ids.iter().any(|id| id == job_id) => {}
                Ok(Change::Jobs(_) | Change::Unknown) | Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => panic!("no more changes are told"),
            }
        }
    };
    tokio::time::timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("told of: {what}"));
}

pub(crate) async fn every_change_of_a_job_is_told<B: Backend>() {
    let rig = Rig::<B>::start(&[SHORT_LEASE]).await;
    let job = rig.accept(entry()).await;
    let (mut watch, id) = (rig.watch(TASK).await.unwrap(), job.job_id.as_str());
    let claimed = rig.take("c1").await;
    hears_of(&mut watch, id, "its claim").await;
    rig.release(TASK, "c1", std::slice::from_ref(&claimed.ticket)).await.unwrap();
    hears_of(&mut watch, id, "its return").await;
    rig.take("c1").await;
    hears_of(&mut watch, id, "its second claim").await;
    let claimed = rig.take_over("c2").await;
    hears_of(&mut watch, id, "its new consumer").await;
    let retry = Retry { ticket: claimed.ticket, delay: Duration::ZERO, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c2", vec![retry]).await.unwrap(), [true]);
    hears_of(&mut watch, id, "its pause").await;
    let claimed = rig.take_soon("c2").await;
    hears_of(&mut watch, id, "its next start").await;
    rig.finish(&claimed, Outcome::Dead).await;
    hears_of(&mut watch, id, "its end").await;
    assert_eq!(rig.requeue(TASK, std::slice::from_ref(&job.job_id)).await.unwrap(), [true]);
    hears_of(&mut watch, id, "its coming back").await;
    rig.cancel(TASK, id, &result(id, Outcome::Cancelled, 1, "")).await.unwrap();
    hears_of(&mut watch, id, "its cancellation").await;
}

pub(crate) async fn all_who_watch_are_told<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let (mut first, mut second) = (rig.watch(TASK).await.unwrap(), rig.watch(TASK).await.unwrap());
    drop(rig.watch(TASK).await.unwrap());
    let mut other = rig.watch("other").await.unwrap();
    let (job, claimed) = rig.held_by("c1").await;
    hears_of(&mut first, &job.job_id, "its claim").await;
    hears_of(&mut second, &job.job_id, "its claim").await;
    // Who begins to watch later hears of what comes later.
    drop((first, second));
    let mut late = rig.watch(TASK).await.unwrap();
    let retry = Retry { ticket: claimed.ticket, delay: LONG, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [true]);
    hears_of(&mut late, &job.job_id, "its pause").await;
    assert!(other.try_recv().is_err(), "of another task's jobs nothing is told");
}
