//! The loop that runs a task's queued jobs: claim, run, settle.
//!
//! One of the three places that turn a failure into an outcome (`settle`). A job leaves the queue nowhere else, so
//! whatever goes wrong between claim and settlement (a panic, a kill, Redis away) leaves it to be claimed again. Leases
//! of running jobs are renewed here; what a job does while it is held is `run`'s.

mod bench;
mod bind;
mod going;
mod held;
mod run;
mod settle;

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::queue::{Claimed, QueueError, Tended, Ticket};
use bench::{Bench, Waiting};
use bind::Settling;
use going::{Going, Started};
use held::Held;

/// Longest pause between two tries while the queue cannot be used.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// From this start on a job runs alone: if it is what kills its consumers, it takes no neighbours with it.
const SUSPECT_ATTEMPT: u32 = 3;
/// Longest wait for a job before the loop looks at its other duties.
const WAIT: Duration = Duration::from_millis(500);

/// How often handing back is tried again when a process ends, and the pause between.
const HAND_BACK_TRIES: u32 = 5;
const HAND_BACK_PAUSE: Duration = Duration::from_millis(100);

/// The wait for a job, which outlives the starts that come meanwhile.
type News = Pin<Box<dyn Future<Output = Result<(), QueueError>> + Send>>;

/// One consumer of one task's jobs.
#[derive(Debug)]
struct Consumer {
    app: App,
    task: String,
    name: String,
    held: Held,
    going: Arc<Going>,
    settling: Settling,
    shutdown: CancellationToken,
}

/// Runs the jobs of one task until shutdown; what was claimed by then is settled or handed back.
pub async fn run(app: App, task: String, shutdown: CancellationToken) {
    // Unique for every start: two consumers of one name would renew each other's leases.
    let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
    tracing::info!(%task, consumer = %name, "consumer started");
    let (held, going, settling) = (Held::default(), Arc::default(), Settling::default());
    let consumer = Arc::new(Consumer { app, task, name, held, going, settling, shutdown });
    let done = CancellationToken::new();
    let work = async {
        consumer.consume().await;
        done.cancel();
    };
    tokio::join!(work, consumer.renew_leases(&done));
    let Consumer { app, task, name, .. } = &*consumer;
    if let Err(error) = app.queue.leave(task, name).await {
        tracing::debug!(%task, %error, "the consumer's name stays on the books");
    }
    tracing::info!(%task, consumer = %name, "consumer stopped");
}

impl Consumer {
    async fn consume(self: &Arc<Self>) {
        let mut unanswered = None;
        let room = Arc::new(Semaphore::new(self.app.config.queue.concurrency as usize));
        let (mut jobs, mut bench) = (JoinSet::new(), Bench::default());
        let mut backoff = Backoff::default();
        let mut reclaim_at = Instant::now();
        let mut news = None;
        while !self.shutdown.is_cancelled() {
            self.start_due(&mut bench, &mut jobs);
            while jobs.try_join_next().is_some() {}
            let places = places(&room, self.bench_size().saturating_sub(bench.taken()));
            let limit = places.len();
            if limit == 0 {
                // Enough is held: whatever is claimed later is bound by a younger picture.
                let until_room = async {
                    if room.available_permits() > 0 {
                        tokio::time::sleep(WAIT).await;
                    }
                    drop(room.acquire().await);
                };
                self.until_due(&bench, until_room).await;
                continue;
            }
            let took = {
                // Not given up for a start that is due: what a claim took whose answer is lost waits for its lease.
                let mut take = pin!(self.take(limit, &mut reclaim_at, &mut unanswered));
                loop {
                    tokio::select! {
                        biased;
                        took = &mut take => break took,
                        () = self.due(&bench) => self.start_due(&mut bench, &mut jobs),
                    }
                }
            };
            match took {
                Ok(claimed) if claimed.is_empty() => {
                    drop(places);
                    bench.drained = true;
                    self.start_due(&mut bench, &mut jobs);
                    self.wait(&bench, &mut news, &mut backoff).await;
                }
                Ok(claimed) => {
                    backoff.reset();
                    bench.drained = claimed.len() < limit;
                    self.seat(claimed, places, &mut bench, &mut jobs).await;
                }
                Err(error) => {
                    drop(places);
                    self.pause(&error, &bench, &mut backoff).await;
                }
            }
        }
        self.hand_back(&bench.tickets()).await;
        drop(bench);
        if self.settle_claims(&mut unanswered).await.is_err() {
            tracing::warn!(task = %self.task, "claims without an answer are left to their lease");
        }
        self.drain(jobs).await;
    }

    /// Waits until a start is due, or a run has ended that one may wait for; for ever where nothing waits.
    async fn due(&self, bench: &Bench) {
        let Some(due) = bench.due() else { return std::future::pending().await };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = self.going.ended() => {}
        }
    }

    /// Waits for what is awaited, or until a start is due or the process ends; whichever comes first.
    async fn until_due(&self, bench: &Bench, awaited: impl Future<Output = ()>) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.due(bench) => {}
            () = awaited => {}
        }
    }

    /// Hands back jobs that have not started.
    async fn hand_back(&self, tickets: &[Ticket]) {
        if tickets.is_empty() {
            return;
        }
        if let Err(error) = self.app.queue.release(&self.task, &self.name, tickets).await {
            tracing::warn!(task = %self.task, jobs = tickets.len(), %error, "jobs could not be handed back; their leases end");
        }
    }

    /// Takes jobs that lost their consumer, when it is time for that, and new ones otherwise.
    ///
    /// `unanswered` is since when claims have got no answer: they may have been made all the same, and no start of
    /// these jobs is to be charged.
    async fn take(
        &self,
        limit: usize,
        reclaim_at: &mut Instant,
        unanswered: &mut Option<Instant>,
    ) -> Result<Vec<Claimed>, QueueError> {
        self.settle_claims(unanswered).await?;
        let queue = &self.app.queue;
        let begun = Instant::now();
        if Instant::now() >= *reclaim_at {
            // Soon after a lease ends its job restarts, and a look costs little. Noted first: a look that fails must
            // not keep new jobs from being claimed.
            let pause = (self.app.config.queue.lease / 3).clamp(Duration::from_millis(50), Duration::from_secs(1));
            *reclaim_at = Instant::now() + pause;
            let reclaimed = queue.reclaim(&self.task, &self.name, limit).await;
            let reclaimed = reclaimed.inspect_err(|_| *unanswered = Some(begun))?;
            if !reclaimed.is_empty() {
                // There may be more: looked at again as soon as there is room.
                tracing::info!(task = %self.task, jobs = reclaimed.len(), "took over jobs whose lease ended");
                *reclaim_at = Instant::now();
                return Ok(reclaimed);
            }
            match queue.tend(&self.task).await {
                Ok(tended) => self.report(tended),
                Err(error) => tracing::warn!(task = %self.task, %error, "the queue could not be looked after"),
            }
        }
        queue.claim(&self.task, &self.name, limit).await.inspect_err(|_| *unanswered = Some(begun))
    }

    /// Hands back what claims without an answer may have taken.
    async fn settle_claims(&self, unanswered: &mut Option<Instant>) -> Result<(), QueueError> {
        let Some(since) = *unanswered else { return Ok(()) };
        let (queue, held) = (&self.app.queue, self.held.tickets());
        let jobs = queue.release_unknown(&self.task, &self.name, &held, since.elapsed()).await?;
        if jobs > 0 {
            tracing::info!(task = %self.task, jobs, "handed back what claims had taken whose answers were lost");
        }
        *unanswered = None;
        Ok(())
    }

    fn report(&self, tended: Tended) {
        self.app.metrics.lost(&self.task, tended.lost);
        if tended.lost > 0 {
            tracing::error!(
                task = %self.task, jobs = tended.lost,
                "accepted jobs are gone from the queue's store without a result: it lost data, or somebody deleted them"
            );
        }
        if tended.groups_remade > 0 {
            tracing::warn!(task = %self.task, groups = tended.groups_remade, "consumer groups were gone and made again");
        }
    }

    /// Waits for a job, a start or the end; `news` goes on when a start comes first, since it may hold a connection.
    async fn wait(&self, bench: &Bench, news: &mut Option<News>, backoff: &mut Backoff) {
        let more = news.get_or_insert_with(|| {
            let (app, task) = (self.app.clone(), self.task.clone());
            Box::pin(async move { app.queue.wait(&task, WAIT).await })
        });
        let mut came = None;
        self.until_due(bench, async { came = Some(more.await) }).await;
        let Some(came) = came else { return };
        *news = None;
        match came {
            Ok(()) => backoff.reset(),
            Err(error) => self.pause(&error, bench, backoff).await,
        }
    }

    async fn pause(&self, error: &QueueError, bench: &Bench, backoff: &mut Backoff) {
        let pause = backoff.next();
        if backoff.is_first() {
            tracing::warn!(task = %self.task, %error, "the queue cannot be used; the consumer tries again until it can");
        }
        self.until_due(bench, tokio::time::sleep(pause)).await;
    }

    /// Gives claimed jobs a place each; suspects start one by one, when all others have ended.
    async fn seat(
        self: &Arc<Self>,
        claimed: Vec<Claimed>,
        mut places: Vec<OwnedSemaphorePermit>,
        bench: &mut Bench,
        jobs: &mut JoinSet<()>,
    ) {
        let claimed_at = Instant::now();
        // After a pause longer than the lease a consumer takes over from itself: what still runs here goes on.
        let claimed = claimed.into_iter().filter(|job| !self.held.has(&job.ticket));
        let (suspects, others): (Vec<_>, Vec<_>) = claimed.partition(|job| job.attempt >= SUSPECT_ATTEMPT);
        self.note_deadlines(&others);
        bench.waiting.extend(others.into_iter().map(|job| {
            let hold = self.held.hold(&job.ticket);
            Waiting { job, claimed_at, hold, place: places.pop() }
        }));
        let mut suspects = suspects.into_iter();
        let Some(suspect) = suspects.next() else { return };
        // Only one is kept: if it kills this process, the others have not been started.
        let others: Vec<_> = suspects.map(|job| job.ticket).collect();
        self.hand_back(&others).await;
        // What has not started would wait for all of its run.
        let unstarted = std::mem::take(bench);
        self.hand_back(&unstarted.tickets()).await;
        drop(unstarted);
        // Held already while the others end: its lease must not end before its turn.
        let (consumer, hold, place) = (Arc::clone(self), self.held.hold(&suspect.ticket), places.pop());
        self.shutdown.run_until_cancelled(async { while jobs.join_next().await.is_some() {} }).await;
        jobs.spawn(async move {
            consumer.run_job(&suspect, (claimed_at, false), (&hold, None)).await;
            drop(place);
        });
        self.shutdown.run_until_cancelled(async { while jobs.join_next().await.is_some() {} }).await;
    }

    /// Runs one job of a run; a panic on it leaves it to its lease, and not its neighbours.
    async fn run_waiting(&self, waiting: Waiting, hopeless: bool, started: Option<Arc<Started>>) {
        let Waiting { job, claimed_at, hold, place } = waiting;
        let work = self.run_job(&job, (claimed_at, hopeless), (&hold, started));
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            tracing::error!(task = %self.task, job_id = %job.ticket.job_id, "a job's run panicked; its lease ends");
        }
        drop(hold);
        drop(place);
    }

    /// Begins the leases of held jobs anew, three times a lease, until `done`.
    async fn renew_leases(&self, done: &CancellationToken) {
        let mut ticks = tokio::time::interval(self.app.config.queue.lease / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while done.run_until_cancelled(ticks.tick()).await.is_some() {
            let tickets = self.held.tickets();
            // In small groups: a script serves nobody else.
            for tickets in tickets.chunks(256) {
                match self.app.queue.renew(&self.task, &self.name, tickets).await {
                    Ok(ours) => self.held.keep(tickets, &ours),
                    Err(error) => tracing::debug!(task = %self.task, %error, "leases were not renewed"),
                }
            }
        }
    }

    /// Waits for running jobs; what has not ended by then is handed back, to be started by another at once.
    async fn drain(&self, mut jobs: JoinSet<()>) {
        let limit = self.app.config.http.drain_timeout.mul_f32(0.8);
        let all = async { while jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_ok() {
            return;
        }
        // Before the jobs are ended: what ends is not held any more.
        let tickets = self.held.tickets();
        jobs.shutdown().await;
        let mut handed_back = self.app.queue.release(&self.task, &self.name, &tickets).await;
        for _ in 0..HAND_BACK_TRIES {
            if handed_back.is_ok() {
                break;
            }
            tokio::time::sleep(HAND_BACK_PAUSE).await;
            handed_back = self.app.queue.release(&self.task, &self.name, &tickets).await;
        }
        let error = handed_back.err().map(|error| error.to_string());
        tracing::warn!(task = %self.task, jobs = tickets.len(), error, "jobs that did not end in time were handed back");
    }
}

/// As many places as are free now, `most` at the most.
fn places(room: &Arc<Semaphore>, most: usize) -> Vec<OwnedSemaphorePermit> {
    let free = std::iter::from_fn(|| Arc::clone(room).try_acquire_owned().ok());
    free.take(most).collect()
}

/// Doubling pauses while the queue cannot be used.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(50 << self.failures.min(6)).min(MAX_BACKOFF)
    }

    const fn is_first(&self) -> bool {
        self.failures == 1
    }

    const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
        assert!(backoff.is_first());
    }
}
