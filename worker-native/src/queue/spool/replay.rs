//! From the spool to the queue: in order, until it is empty; with growing pauses while the queue takes nothing.

use std::time::Duration;

use tokio::time::sleep;

use super::queue::Inner;
use super::{Spool, Spooled};
use crate::queue::contract::{Enqueued, Queue, QueueError};

/// Jobs that are handed over at once: few, so that large ones are through within the time a command has.
const BATCH: usize = 32;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The queue is tried at least this often: its return is noticed within that time.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Hands over what the spool holds, whenever it holds something; ends only when it is dropped.
pub(super) async fn run(inner: &Inner) {
    let mut pause = FIRST_PAUSE;
    loop {
        let called = inner.filled.notified();
        let before = inner.spool.waiting();
        if before == 0 {
            called.await;
            continue;
        }
        match pass(&inner.spool, &*inner.queue).await {
            Ok(handed) if handed > 0 => {
                pause = FIRST_PAUSE;
                if inner.spool.waiting() == 0 {
                    tracing::info!(jobs = handed, "the spool is empty: the queue has all jobs that waited in it");
                    continue;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, waiting = before, "the queue cannot take the spool's jobs yet"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Goes through the spool once; how many jobs it handed over. Those that find no room stay, and do not keep others,
/// of other tasks or tenants, from theirs.
pub(super) async fn pass(spool: &Spool, queue: &dyn Queue) -> Result<usize, QueueError> {
    let (mut place, mut handed) = (0, 0);
    loop {
        let jobs = spool.peek(place, BATCH).await?;
        let Some(last) = jobs.last() else { return Ok(handed) };
        place = last.place;
        for jobs in jobs.chunk_by(|one, other| one.task == other.task) {
            let taken = hand_over(queue, jobs).await?;
            handed += taken.len();
            if !taken.is_empty() {
                spool.forget(taken).await?;
            }
        }
    }
}

/// Hands over jobs of one task; the places of those that the queue has now.
pub(super) async fn hand_over(queue: &dyn Queue, jobs: &[Spooled]) -> Result<Vec<i64>, QueueError> {
    let Some(task) = jobs.first().map(|job| job.task.as_str()) else { return Ok(vec![]) };
    let answers = queue.enqueue(task, jobs.iter().map(|job| job.job.clone()).collect()).await?;
    let (mut taken, mut known) = (Vec::new(), Vec::new());
    for (job, answer) in jobs.iter().zip(answers) {
        match answer {
            Enqueued::Accepted(_) => taken.push(job.place),
            Enqueued::Full(_) => {}
            // Its key was used while it could not be looked up. It was accepted all the same: a 202 is kept, if need
            // be by a second run. Where the first hand-in was this very job, its id makes nothing of the second.
            Enqueued::Replayed(_) | Enqueued::Conflict => known.push(job),
        }
    }
    if !known.is_empty() {
        let again = known.iter().map(|job| crate::queue::contract::NewJob { once: None, ..job.job.clone() });
        let answers = queue.enqueue(task, again.collect()).await?;
        let accepted = known.iter().zip(answers).filter(|(_, answer)| matches!(answer, Enqueued::Accepted(_)));
        taken.extend(accepted.map(|(job, _)| job.place));
    }
    Ok(taken)
}
