//! Which tier each claimed job really runs on, and in which order they start: looked at again where the queue is seen
//! as it is.
//!
//! Brings `shared::policy::bind` what it asks for, and turns its runs into entries for another version. Under the other
//! policies, and where nothing is planned, every job keeps its tier; when it starts is `bench`'s. The lane a job counts
//! under stays the one it was accepted with: the counters know no other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shared::policy::{Batches, Behind, Claimed as Claim, Plan, PolicyKind, TierModel, bind};
use shared::snapshot::{TaskLoad, TierLoad};

use tokio::time::Instant;

use super::Consumer;
use super::bench::Waiting;
use crate::queue::Claimed;
use crate::routing::tiers;

/// The share of the workers' time below which jobs without a deadline are lifted.
const CALM: f32 = 0.7;

/// The share of a job's whole time that is not planned with: no clock here sees the way of the reading and of the answer.
const MARGIN: f32 = 0.1;
/// A settled answer weighs so much in the mean time that settling takes.
const SETTLE_WEIGHT: f32 = 0.1;
/// One that took longer counts as this: a queue that was away for seconds must not make all that comes after hopeless.
const MOST_SETTLING: Duration = Duration::from_millis(50);

/// Jobs that start together: one batch of one tier, as far as the model allows.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// Positions of the jobs among those that wait.
    pub(super) jobs: Vec<usize>,
    /// What they run on; none for a job that cannot be bound: it starts as it came.
    pub(super) tier: Option<String>,
    /// How long it takes, by the tier's profile.
    pub(super) expected: Duration,
}

/// What is to become of the jobs that wait.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// In the order in which they are to start.
    pub(super) runs: Vec<Run>,
    /// What cannot be done by its deadline on any tier it may run on: it is not started.
    pub(super) expired: Vec<usize>,
    /// One of these on its cheapest tier, where nothing else is left to start on it.
    pub(super) probe: Option<Run>,
    /// A run starts when a worker is free for it, and no sooner.
    pub(super) paced: bool,
}

/// How long settling an answer takes: a mean that fades.
#[derive(Debug, Default)]
pub(super) struct Settling(AtomicU32);

impl Settling {
    pub(super) fn took(&self, took: Duration) {
        let (mean, us) = (self.us(), took.min(MOST_SETTLING).as_secs_f32() * 1e6);
        let mean = if mean > 0.0 { mean + SETTLE_WEIGHT * (us - mean) } else { us };
        self.0.store(mean.to_bits(), Ordering::Relaxed);
    }

    fn us(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Consumer {
    /// Binds jobs that wait; `drained` says that the queue has no more to give.
    ///
    /// Under policies without a plan each job keeps the tier it was handed in with; order and deadlines hold there as well.
    pub(super) fn bind(&self, waiting: &[Waiting], drained: bool, now: Instant) -> Bound {
        let load = self.app.snapshots.load(&self.task);
        let index = self.app.engine.index();
        let split = self.app.policies.of(&self.task).policy.kind == PolicyKind::SlackSplit;
        let (plan, paced) = (load.plan.filter(|_| split), self.is_paced(&load));
        let Some(task) = index.tasks.get(&self.task).filter(|_| paced || plan.is_some()) else {
            let alone = |place| Run { jobs: vec![place], ..Run::default() };
            return Bound { runs: (0..waiting.len()).map(alone).collect(), ..Bound::default() };
        };
        let tiers: Vec<TierModel> = load.tiers.iter().map(TierLoad::model).collect();
        let behind =
            plan.as_ref().map_or_else(Behind::default, |plan| self.behind(waiting, &load, (plan, drained), now));
        let calm = plan.as_ref().is_some_and(|plan| behind.count == 0 && plan.busy < CALM);
        let free_us = self.going.free_in(None, self.workers(), now).as_secs_f32() * 1e6;
        let ahead_us = tiers::ahead_us(task, &load).max(free_us) + self.settling.us();
        // What has no tier, or cannot be read, is not bound: it starts first, as it came.
        let (mut unbound, mut bindable, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for (place, waiting) in waiting.iter().enumerate() {
            let late_us = ahead_us + now.saturating_duration_since(waiting.claimed_at).as_secs_f32() * 1e6;
            match claim_of(&waiting.job, &load, (plan.is_some(), (calm, drained), late_us)) {
                Some(claim) => {
                    claims.push(claim);
                    bindable.push(place);
                }
                None => unbound.push(Run { jobs: vec![place], ..Run::default() }),
            }
        }
        let mut batches = Batches::with_capacity(claims.len());
        bind(&claims, &tiers, &behind, &mut batches);
        let at = |at: &u32| usize::try_from(*at).unwrap_or(usize::MAX);
        let place = |claim: &u32| bindable.get(at(claim)).copied();
        let run = |jobs: Vec<usize>, tier: u8| {
            let tier = usize::from(tier);
            let rows = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
            let us = tiers.get(tier).map_or(0.0, |tier| tier.profile.batch_us(rows));
            let expected = Duration::try_from_secs_f32(us / 1e6).unwrap_or_default();
            Run { jobs, tier: load.tiers.get(tier).map(|tier| tier.tier.clone()), expected }
        };
        let bound = batches.runs.iter().map(|of| run(batches.jobs_of(of).iter().filter_map(place).collect(), of.tier));
        let mut runs: Vec<Run> = unbound.into_iter().chain(bound).collect();
        // Without tiers nothing is bound.
        if tiers.is_empty() {
            runs.extend(bindable.iter().map(|place| Run { jobs: vec![*place], ..Run::default() }));
        }
        // Nobody else runs the tier of one that is bound to it.
        let is_pinned = |claim: &&u32| claims.get(at(claim)).is_some_and(|claim| claim.pinned.is_some());
        let probe = batches.expired.iter().find(|claim| runs.is_empty() || is_pinned(claim)).and_then(|found| {
            let claim = claims.get(at(found))?;
            Some(run(vec![place(found)?], claim.pinned.unwrap_or(claim.floor)))
        });
        Bound { runs, expired: batches.expired.iter().filter_map(place).collect(), probe, paced }
    }

    /// Workers of this process that share the task's work, as the plan counts them.
    pub(super) fn workers(&self) -> usize {
        crate::routing::planner::workers(&self.app, &self.task)
    }

    /// The deadline of the urgent tenth of what comes, in microseconds; infinite where jobs have none. Of jobs that other
    /// processes take in the plan tells.
    pub(super) fn deadline_us(&self, load: &TaskLoad) -> f32 {
        let own = self.app.planner.deadline(&self.task).map(|left| left.as_secs_f32() * 1e6);
        let planned = load.plan.map(|plan| plan.usual_us).filter(|usual| *usual > 0.0);
        own.or(planned).unwrap_or(f32::INFINITY)
    }

    /// How long until one is free for a run of a tier.
    pub(super) fn free_in(&self, tier: &str, now: Instant) -> Duration {
        let index = self.app.engine.index();
        let model = index.tasks.get(&self.task).and_then(|task| tiers::model_of(task, tier));
        let own = model.and_then(|model| Some(model.versions.get(&model.default_version)?.pool()?.workers()));
        let all = self.going.free_in(None, self.workers(), now);
        all.max(self.going.free_in(Some(tier), own.unwrap_or(1), now))
    }

    /// A process that takes no readings in learns from claims what deadlines there are.
    pub(super) fn note_deadlines(&self, claimed: &[Claimed]) {
        if self.app.config.role.serves_api() {
            return;
        }
        for job in claimed.iter().filter(|job| job.attempt <= 1) {
            if let Ok(entry) = &job.entry {
                self.app.planner.claimed(&self.task, job.left.map(|left| left + job.waited), entry.priority);
            }
        }
    }

    /// What stays in the queue behind the jobs that wait here.
    fn behind(&self, waiting: &[Waiting], load: &TaskLoad, (plan, drained): (&Plan, bool), now: Instant) -> Behind {
        let deadline_us = self.deadline_us(load);
        let sight = self.app.admission.sight(&self.task);
        let running =
            sight.map_or(0, |sight| sight.counts.running.values().fold(0_u32, |sum, jobs| sum.saturating_add(*jobs)));
        let held = u32::try_from(self.held.count()).unwrap_or(u32::MAX);
        let count = if drained { 0 } else { load.depth().saturating_sub(running.max(held)) };
        // First come, first served, nearly: the next one is about as old as the last of these.
        let head_us = waiting.last().map_or(deadline_us, |last| {
            let passed = now.saturating_duration_since(last.claimed_at);
            match last.job.left {
                Some(left) => left.saturating_sub(passed).as_secs_f32() * 1e6,
                None => (deadline_us - (last.job.waited + passed).as_secs_f32() * 1e6).max(0.0),
            }
        });
        let slack_us = Behind::between(count, head_us, deadline_us).slack_us;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; at least a tenth")]
        let workers = plan.workers.round() as u32;
        Behind { count, slack_us, rate: plan.rate, idc: plan.idc, deadline_us, workers: workers.max(1) }
    }

    /// The job for a model of its tier; as it is where that is its own, or where none of the tier can be served.
    pub(super) fn bound(&self, mut job: Claimed, tier: &str) -> Claimed {
        let index = self.app.engine.index();
        let (Ok(entry), Some(task)) = (&mut job.entry, index.tasks.get(&self.task)) else { return job };
        let hinted = entry.decision.tier.clone();
        if hinted.as_deref() != Some(tier) {
            let key = entry.sensor_id.as_deref().unwrap_or(&entry.request_id);
            let model = tiers::model_of(task, tier);
            let assigned = model.and_then(|model| Some((model, tiers::version_for(model, key)?)));
            let Some((model, assigned)) = assigned else { return job };
            (entry.model, entry.model_version) = (model.folder.name.clone(), assigned.version);
            entry.decision.tier = Some(tier.to_owned());
        }
        self.app.metrics.bound(&self.task, hinted.as_deref().unwrap_or_default(), tier);
        entry.decision.hinted = hinted;
        job
    }
}

/// The job as the policy sees it; none for one that has no tier.
///
/// `planned` says that tiers may be changed at all, `calm` that nobody waits and little runs, `drained` that nobody waits behind them, and `late_us` what is lost of its time.
fn claim_of(
    job: &Claimed,
    load: &TaskLoad,
    (planned, (calm, drained), late_us): (bool, (bool, bool), f32),
) -> Option<Claim> {
    let entry = job.entry.as_ref().ok()?;
    let tier = entry.decision.tier.as_deref()?;
    let hint = u8::try_from(load.tiers.iter().position(|load| load.tier == tier)?).ok()?;
    let reaches = |asked: f32| {
        let position = load.tiers.iter().position(|tier| tier.accuracy.is_some_and(|accuracy| accuracy >= asked));
        position.and_then(|position| u8::try_from(position).ok())
    };
    // An accuracy that no tier reaches is none to look for: the tier that was found then stands.
    let (floor, reached) = match entry.binding.min_accuracy {
        Some(asked) => reaches(asked).map_or((0, false), |floor| (floor, true)),
        None => (0, true),
    };
    // Nothing is gained in time for a job that has all the time there is, and the split has given it its tier.
    let idle = job.left.is_none() && !calm;
    let free = planned && entry.binding.movable && !entry.pinned && !entry.fallback && reached && !idle;
    let left_us = job.left.map_or(f32::INFINITY, |left| left.as_secs_f32() * 1e6);
    // The margin keeps nothing from starting that may still be done in time, unless others wait that are surer to be:
    // served by deadline, all would come at the last moment and many of them too late.
    let margin_us = job.left.map_or(0.0, |left| MARGIN * (left + job.waited).as_secs_f32() * 1e6);
    let slack_us = left_us - late_us;
    let least_us = if free || drained { slack_us.min(least_us(load, free, hint)) } else { 0.0 };
    let slack_us = (slack_us - margin_us).max(least_us);
    Some(Claim { slack_us, class: entry.priority, pinned: (!free).then_some(hint), floor, hint })
}

/// A job alone on its tier or, where it may change, on the cheapest; with what its time varies by.
fn least_us(load: &TaskLoad, free: bool, hint: u8) -> f32 {
    let tiers = load.tiers.iter().enumerate().filter(|(tier, _)| free || *tier == usize::from(hint));
    let alone = tiers.map(|(_, tier)| tier.profile()).map(|profile| profile.batch_us(1) + 3.0 * profile.sd());
    alone.fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use shared::policy::Profile;
    use shared::snapshot::TierLoad;

    use super::*;
    use crate::queue::{Entry, Ticket};
    use crate::routing::{Binding, DecisionRecord};

    fn load() -> TaskLoad {
        let tier = |tier: &str, accuracy| TierLoad {
            tier: tier.to_owned(),
            accuracy,
            measured: Some(Profile { alpha_us: 100.0, beta_us: 100.0, sd_us: 0.0, cap: 8 }),
            ..TierLoad::default()
        };
        let tiers = vec![tier("fast", Some(0.8)), tier("accurate", Some(0.95))];
        TaskLoad { task: "pump".to_owned(), tiers, plan: Some(Plan::default()) }
    }

    fn job(tier: &str, left_ms: Option<u64>, binding: Binding) -> Claimed {
        let decision =
            serde_json::to_value(DecisionRecord { tier: Some(tier.to_owned()), ..DecisionRecord::default() });
        let entry = serde_json::json!({
            "job_id": "pump.1", "request_id": "r", "task": "pump", "sensor_id": null, "timestamp": null, "lane": tier,
            "model": "m", "model_version": 1, "fallback": false, "decision": decision.unwrap(), "accepted_at": 1,
            "deadline_at": null,
        });
        let entry: Entry = serde_json::from_value(entry).unwrap();
        Claimed {
            ticket: Ticket::for_test("pump.1", tier),
            attempt: 1,
            waited: Duration::ZERO,
            left: left_ms.map(Duration::from_millis),
            failures: Vec::new(),
            entry: Ok(Entry { binding, ..entry }),
        }
    }

    const MOVABLE: Binding = Binding { movable: true, min_accuracy: None };

    #[test]
    fn a_job_with_a_deadline_may_move_and_what_waits_already_takes_from_its_slack() {
        let claim = claim_of(&job("accurate", Some(50), MOVABLE), &load(), (true, (false, true), 10_000.0)).unwrap();
        assert_eq!((claim.pinned, claim.hint), (None, 1));
        // A tenth is kept for the ways, as far as that does not keep it from starting.
        assert!((claim.slack_us - 35_000.0).abs() < 1.0, "{claim:?}");
        let scarce = claim_of(&job("accurate", Some(50), MOVABLE), &load(), (true, (false, true), 49_700.0)).unwrap();
        assert!((scarce.slack_us - 200.0).abs() < 1.0, "{scarce:?}");
        let fixed = job("accurate", Some(50), Binding::default());
        let behind_others = claim_of(&fixed, &load(), (true, (false, false), 49_700.0)).unwrap();
        assert!(behind_others.slack_us.abs() < 1.0, "{behind_others:?}");
        let late = claim_of(&job("accurate", Some(50), MOVABLE), &load(), (true, (false, true), 49_900.0)).unwrap();
        assert!((late.slack_us - 100.0).abs() < 1.0, "{late:?}");
    }

    #[test]
    fn a_job_without_a_deadline_keeps_its_tier_unless_all_is_calm() {
        let busy = claim_of(&job("fast", None, MOVABLE), &load(), (true, (false, true), 0.0)).unwrap();
        assert_eq!((busy.pinned, busy.slack_us), (Some(0), f32::INFINITY));
        assert_eq!(claim_of(&job("fast", None, MOVABLE), &load(), (true, (true, true), 0.0)).unwrap().pinned, None);
    }

    #[test]
    fn what_the_caller_asked_for_is_kept() {
        let fixed = job("fast", Some(50), Binding::default());
        assert_eq!(claim_of(&fixed, &load(), (true, (true, true), 0.0)).unwrap().pinned, Some(0));
        let asks = |min_accuracy| job("accurate", Some(50), Binding { min_accuracy: Some(min_accuracy), ..MOVABLE });
        let claim = claim_of(&asks(0.9), &load(), (true, (true, true), 0.0)).unwrap();
        assert_eq!((claim.pinned, claim.floor), (None, 1));
        let unreachable = claim_of(&asks(0.99), &load(), (true, (true, true), 0.0)).unwrap();
        assert_eq!((unreachable.pinned, unreachable.floor), (Some(1), 0));
    }

    #[test]
    fn what_cannot_be_read_or_has_no_tier_is_not_bound() {
        let mut unreadable = job("fast", None, MOVABLE);
        unreadable.entry = Err("torn".to_owned());
        assert!(claim_of(&unreadable, &load(), (true, (true, true), 0.0)).is_none());
        assert!(claim_of(&job("gone", None, MOVABLE), &load(), (true, (true, true), 0.0)).is_none());
    }
}
