//! Jobs that are claimed and have not started: what each runs on is decided anew whenever a worker is free.
//!
//! A decision is as good as it is young. So only the next run is started, and a moment before its worker is free; what
//! is left is bound again then, beside what has come meanwhile. Where jobs have no deadlines nothing is gained by that,
//! and all start at once. Owns who waits and when the next start is due; the decision is `bind`'s.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use shared::snapshot::TaskLoad;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Consumer;
use super::bind::Run;
use super::going::LEAD;
use super::held::Hold;
use crate::queue::{Claimed, Ticket};
use crate::routing::tiers;

/// So much work of the cheapest tier is held at least, where that is more than a run a worker: a claim takes its time.
const LEAST: Duration = Duration::from_millis(5);
/// Where all are given up by the profile, one is tried so often: only a run shows that a model has become quick again.
const PROBE: Duration = Duration::from_secs(1);
/// A job without a deadline is behind all that have one; after so long on the bench its run comes first.
const PATIENCE: Duration = Duration::from_millis(100);
/// Longest wait for a start that is due at no known time.
const LOOK: Duration = Duration::from_millis(20);

/// A claimed job that has not started.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) job: Claimed,
    pub(super) claimed_at: Instant,
    pub(super) hold: Hold,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Bench {
    pub(super) waiting: Vec<Waiting>,
    /// The queue had no more to give when it was last asked.
    pub(super) drained: bool,
    due: Option<Instant>,
    probed_at: Option<Instant>,
}

impl Bench {
    /// When the next start is due; none where nothing waits.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.due.unwrap_or_else(|| Instant::now() + LOOK))
    }

    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.waiting.iter().map(|waiting| waiting.job.ticket.clone()).collect()
    }

    /// How many places are taken: jobs without a deadline must not keep those out that have one.
    pub(super) fn taken(&self) -> usize {
        let urgent = self.waiting.iter().filter(|waiting| waiting.job.left.is_some()).count();
        urgent + (self.waiting.len() - urgent).div_ceil(4)
    }

    /// The run to start: the first, unless a job without a deadline has waited too long for its own.
    fn next<'r>(&self, runs: &'r [Run], now: Instant) -> Option<&'r Run> {
        let kept = |waiting: &Waiting| {
            waiting.job.left.is_none() && now.saturating_duration_since(waiting.claimed_at) > PATIENCE
        };
        let kept = self.waiting.iter().position(kept);
        runs.iter().find(|run| kept.is_some_and(|kept| run.jobs.contains(&kept))).or_else(|| runs.first())
    }

    /// Takes the jobs of each run; the others stay in their order.
    fn take(&mut self, runs: &[Run]) -> Vec<Vec<Waiting>> {
        let mut all: Vec<Option<Waiting>> = std::mem::take(&mut self.waiting).into_iter().map(Some).collect();
        let mut of = |run: &Run| run.jobs.iter().filter_map(|place| all.get_mut(*place)?.take()).collect();
        let taken = runs.iter().map(&mut of).collect();
        self.waiting.extend(all.into_iter().flatten());
        taken
    }

    fn take_one(&mut self, run: &Run) -> Vec<Waiting> {
        self.take(std::slice::from_ref(run)).pop().unwrap_or_default()
    }
}

impl Consumer {
    /// How many jobs may wait here: a run a worker, and not less than keeps them busy until the next claim.
    pub(super) fn bench_size(&self) -> usize {
        let queue = &self.app.config.queue;
        let most = queue.claim_batch.min(queue.concurrency) as usize;
        let load = self.app.snapshots.load(&self.task);
        if !self.is_paced(&load) {
            return most;
        }
        let rows = load.tiers.iter().map(|tier| tier.profile().cap() as usize).max().unwrap_or(1);
        let cheapest = tiers::cheapest_us(&load).max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; an infinity gives 0")]
        let least = (LEAST.as_secs_f32() * 1e6 / cheapest) as usize;
        (rows * self.workers()).max(least).clamp(1, most)
    }

    /// Does it matter when a job starts? Only where jobs have deadlines.
    pub(super) fn is_paced(&self, load: &TaskLoad) -> bool {
        self.deadline_us(load).is_finite()
    }

    /// Starts what a worker is free for, and settles what cannot be done in time any more.
    pub(super) fn start_due(self: &Arc<Self>, bench: &mut Bench, jobs: &mut JoinSet<()>) {
        bench.waiting.retain(|waiting| !waiting.hold.called_off().is_cancelled());
        bench.due = None;
        while !bench.waiting.is_empty() {
            let now = Instant::now();
            let mut bound = self.bind(&bench.waiting, bench.drained, now);
            let quiet = bench.probed_at.is_none_or(|at| now.saturating_duration_since(at) >= PROBE);
            if let Some(probe) = bound.probe.take().filter(|_| quiet) {
                bench.probed_at = Some(now);
                let taken = bench.take_one(&probe);
                self.spawn(taken, Some(&probe), jobs);
                continue;
            }
            if !bound.expired.is_empty() {
                let hopeless = Run { jobs: bound.expired, ..Run::default() };
                let hopeless = bench.take_one(&hopeless);
                self.spawn(hopeless, None, jobs);
                if !bench.drained {
                    // Others wait behind them: claimed first, they fill the run.
                    bench.due = Some(now + LEAD);
                    return;
                }
                continue;
            }
            let Some(run) = bench.next(&bound.runs, now) else { return };
            let free_in = run.tier.as_ref().filter(|_| bound.paced).map(|tier| self.free_in(tier, now));
            if let Some(free_in) = free_in.filter(|free_in| *free_in > LEAD) {
                bench.due = Some(now + (free_in - LEAD));
                return;
            }
            let starts = if bound.paced { std::slice::from_ref(run) } else { &bound.runs };
            for (run, taken) in starts.iter().zip(bench.take(starts)) {
                self.spawn(taken, Some(run), jobs);
            }
        }
    }

    /// Starts jobs that run together; without a run they are given up.
    fn spawn(self: &Arc<Self>, taken: Vec<Waiting>, run: Option<&Run>, jobs: &mut JoinSet<()>) {
        let hopeless = run.is_none();
        let started = run.and_then(|run| {
            let tier = run.tier.as_ref()?;
            Some(self.going.start(tier, run.expected, Instant::now()))
        });
        let tier = run.and_then(|run| run.tier.clone());
        let taken: Vec<Waiting> = taken
            .into_iter()
            .map(|waiting| match &tier {
                Some(tier) => Waiting { job: self.bound(waiting.job, tier), ..waiting },
                None => waiting,
            })
            .collect();
        let consumer = Arc::clone(self);
        // One task for a run: its readings are all handed to the model before its worker, woken by the first, comes to
        // look. That is what makes them one batch.
        jobs.spawn(async move {
            let each = taken.into_iter().map(|waiting| consumer.run_waiting(waiting, hopeless, started.clone()));
            let each: Vec<_> = each.collect();
            drop(started);
            join_all(each).await;
        });
    }
}
