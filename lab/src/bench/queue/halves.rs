//! The parts of the work, done through the queue's own functions and nothing else.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use worker_native::queue::{Claimed, Enqueued, Queue};

use super::work::{Half, TASK, new_job, settlement};

/// Jobs of one hand-in, as BullMQ's script does it.
const BULK: u64 = 500;
/// Hand-ins under way at once.
const HANDS: usize = 3;
/// Jobs claimed and settled at once, and how many such groups are under way.
const GROUP: usize = 256;
const LOOPS: usize = 4;
/// Callers that hand in or settle one job at a time.
pub(super) const CALLERS: usize = 64;
/// Loops that keep the backlog as it is.
const LANES: usize = 2;
/// Longest wait for a job before the count is looked at again.
const WAIT: Duration = Duration::from_millis(20);

/// Does a part of the work; gives how often jobs were claimed.
///
/// # Errors
/// What the queue says.
pub(super) async fn work(queue: Arc<dyn Queue>, half: Half, jobs: u64) -> anyhow::Result<u64> {
    let work = Work(Arc::new(Inner { queue, jobs, next: 0.into(), settled: 0.into(), claims: 0.into() }));
    match half {
        Half::Enqueue => work.enqueue(BULK, HANDS).await?,
        Half::EnqueueSingly => work.enqueue(1, CALLERS).await?,
        Half::Run => work.run().await?,
        Half::Both => tokio::try_join!(work.enqueue(BULK, HANDS), work.run()).map(drop)?,
        Half::Steady => work.steady().await?,
        Half::SettleSingly => work.settle_singly().await?,
    }
    Ok(work.0.claims.load(Ordering::Relaxed))
}

#[derive(Clone)]
struct Work(Arc<Inner>);

struct Inner {
    queue: Arc<dyn Queue>,
    jobs: u64,
    /// The next job to hand in.
    next: AtomicU64,
    settled: AtomicU64,
    claims: AtomicU64,
}

impl Work {
    /// Hands all jobs in, so many at once, by so many callers.
    async fn enqueue(&self, bulk: u64, callers: usize) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        for _ in 0..callers {
            let work = self.clone();
            running.spawn(async move {
                while let Some(numbers) = work.next(bulk) {
                    work.hand_in(numbers).await?;
                }
                Ok(())
            });
        }
        all(running).await
    }

    /// Runs jobs until all are settled.
    async fn run(&self) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        for number in 0..LOOPS {
            let work = self.clone();
            running.spawn(async move {
                while !work.is_done() {
                    let claimed = work.claim(&format!("c{number}"), GROUP).await?;
                    if !claimed.is_empty() {
                        work.settle(claimed).await?;
                    }
                }
                anyhow::Ok(())
            });
        }
        // The first to find all settled is the end: the others may still wait in Redis, whose clock for that ticks ten
        // times a second.
        match running.join_next().await {
            Some(ended) => ended.context("a part of the work ended badly")?,
            None => Ok(()),
        }
    }

    /// Hands a bulk in, runs as many, and again.
    async fn steady(&self) -> anyhow::Result<()> {
        let mut running = JoinSet::new();
        for number in 0..LANES {
            let work = self.clone();
            running.spawn(async move {
                while let Some(numbers) = work.next(BULK) {
                    let mut left = usize::try_from(numbers.end - numbers.start)?;
                    work.hand_in(numbers).await?;
                    while left > 0 {
                        let claimed = work.claim(&format!("c{number}"), left.min(GROUP)).await?;
                        left -= claimed.len();
                        work.settle(claimed).await?;
                    }
                }
                Ok(())
            });
        }
        all(running).await
    }

    /// Runs jobs; each is settled by a caller of its own, so many at once.
    async fn settle_singly(&self) -> anyhow::Result<()> {
        let room = Arc::new(Semaphore::new(CALLERS));
        let mut running = JoinSet::new();
        let mut taken = 0;
        while taken < self.0.jobs {
            for job in self.claim("c", CALLERS).await? {
                taken += 1;
                let place = Arc::clone(&room).acquire_owned().await?;
                let work = self.clone();
                running.spawn(async move {
                    let settled = work.settle(vec![job]).await;
                    drop(place);
                    settled
                });
            }
            while let Some(ended) = running.try_join_next() {
                ended??;
            }
        }
        all(running).await
    }

    /// The next jobs to hand in; none when all are under way.
    fn next(&self, count: u64) -> Option<Range<u64>> {
        let from = self.0.next.fetch_add(count, Ordering::Relaxed);
        (from < self.0.jobs).then(|| from..self.0.jobs.min(from + count))
    }

    fn is_done(&self) -> bool {
        self.0.settled.load(Ordering::Relaxed) >= self.0.jobs
    }

    async fn hand_in(&self, numbers: Range<u64>) -> anyhow::Result<()> {
        let answers = self.0.queue.enqueue(TASK, numbers.map(new_job).collect()).await?;
        let refused = answers.into_iter().find(|answer| !matches!(answer, Enqueued::Accepted(_)));
        // What was not taken would be waited for in vain.
        refused.map_or(Ok(()), |answer| Err(anyhow::anyhow!("a job was not taken: {answer:?}")))
    }

    /// Claims jobs; where there are none, waits a moment and gives none.
    async fn claim(&self, consumer: &str, limit: usize) -> anyhow::Result<Vec<Claimed>> {
        self.0.claims.fetch_add(1, Ordering::Relaxed);
        let claimed = self.0.queue.claim(TASK, consumer, limit).await?;
        if claimed.is_empty() {
            self.0.queue.wait(TASK, WAIT).await?;
        }
        Ok(claimed)
    }

    async fn settle(&self, claimed: Vec<Claimed>) -> anyhow::Result<()> {
        let endings = claimed.into_iter().map(settlement).collect::<anyhow::Result<Vec<_>>>()?;
        let settled = self.0.queue.settle(TASK, endings).await?;
        let firsts = settled.iter().filter(|settled| settled.first).count();
        self.0.settled.fetch_add(firsts as u64, Ordering::Relaxed);
        Ok(())
    }
}

async fn all(mut running: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = running.join_next().await {
        ended.context("a part of the work ended badly")??;
    }
    Ok(())
}
