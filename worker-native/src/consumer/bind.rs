//! Which tier each claimed job really runs on, and in which order they start: looked at again where the queue is seen
//! as it is.
//!
//! Brings `shared::policy::bind` what it asks for, and turns its runs into entries for another version. Under the other
//! policies, and where nothing is planned, every job runs as it was handed in. The lane a job counts under stays the one
//! it was accepted with: the counters know no other.

use shared::policy::{Batches, Behind, Claimed as Claim, Plan, PolicyKind, TierModel, bind};
use shared::snapshot::{TaskLoad, TierLoad};

use super::Consumer;
use crate::engine::index::{Model, Task};
use crate::queue::{Claimed, Entry};

/// The share of the workers' time below which jobs without a deadline are lifted.
const CALM: f32 = 0.7;

/// Runs of each worker that a consumer holds jobs for: one that runs, one that waits for it, and as many on their way in
/// and out.
const RUNS_AHEAD: usize = 4;
/// Fewer jobs than this are held nowhere: settling them takes its time as well.
const LEAST_WINDOW: usize = 32;

/// A claimed job on its way to its start.
#[derive(Debug)]
pub(super) struct Bound {
    /// The job, its entry for the tier that it is bound to.
    pub(super) job: Claimed,
    /// It cannot be done by its deadline on any tier it may run on: it is not started.
    pub(super) hopeless: bool,
}

impl Bound {
    const fn start(job: Claimed) -> Self {
        Self { job, hopeless: false }
    }
}

/// Jobs that start together: one batch of one tier, as far as the model allows.
pub(super) type Run = Vec<Bound>;

impl Consumer {
    /// Binds claimed jobs; `drained` says that the queue had no more to give.
    pub(super) fn bind(&self, claimed: Vec<Claimed>, drained: bool) -> Vec<Run> {
        self.note_deadlines(&claimed);
        let load = self.app.snapshots.load(&self.task);
        let index = self.app.engine.index();
        let in_force = load.plan.filter(|_| self.app.policies.of(&self.task).policy.kind == PolicyKind::SlackSplit);
        let (Some(plan), Some(task)) = (in_force, index.tasks.get(&self.task)) else {
            return claimed.into_iter().map(|job| vec![Bound::start(job)]).collect();
        };
        let tiers: Vec<TierModel> = load.tiers.iter().map(TierLoad::model).collect();
        let behind = self.behind(&claimed, &load, &plan, drained);
        let calm = behind.count == 0 && plan.busy < CALM;
        let ahead_us = ahead_us(task, &load);
        // What has no tier, or cannot be read, is not bound: it starts first, as it came.
        let (mut runs, mut bindable, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for job in claimed {
            match claim_of(&job, &load, (calm, ahead_us)) {
                Some(claim) => {
                    claims.push(claim);
                    bindable.push(Some(job));
                }
                None => runs.push(vec![Bound::start(job)]),
            }
        }
        let mut batches = Batches::with_capacity(claims.len());
        bind(&claims, &tiers, &behind, &mut batches);
        let mut take = |at: &u32| bindable.get_mut(usize::try_from(*at).unwrap_or(usize::MAX))?.take();
        for run in &batches.runs {
            let jobs = batches.jobs_of(run).iter().filter_map(&mut take);
            let tier = load.tiers.get(usize::from(run.tier)).map(|tier| tier.tier.as_str()).unwrap_or_default();
            runs.push(jobs.map(|job| Bound::start(self.bound(job, task, tier))).collect());
        }
        let mut expired = batches.expired.iter().filter_map(&mut take);
        // Where all are given up by the profile, one is tried: only a run can show that the model has become quick again.
        let probe = if batches.runs.is_empty() { expired.next() } else { None };
        let (probe, expired) = (probe.map(Bound::start), expired.collect::<Vec<_>>());
        runs.extend(probe.map(|probe| vec![probe]));
        runs.push(expired.into_iter().map(|job| Bound { job, hopeless: true }).collect());
        // Nothing is left over where the two sides agree; what were left must run all the same.
        runs.push(bindable.into_iter().flatten().map(Bound::start).collect());
        runs.retain(|run| !run.is_empty());
        runs
    }

    /// How many jobs to hold at once. Under `slack-split`, where there are deadlines, a few runs a worker and no more.
    pub(super) fn window(&self) -> usize {
        let most = self.app.config.queue.concurrency as usize;
        let split = self.app.policies.of(&self.task).policy.kind == PolicyKind::SlackSplit;
        if !split || self.app.planner.deadline(&self.task).is_none() {
            return most;
        }
        let index = self.app.engine.index();
        let Some(task) = index.tasks.get(&self.task) else { return most };
        let pools = task.models.values().filter_map(|model| model.versions.get(&model.default_version)?.pool());
        let rows = pools.map(|pool| pool.workers() * pool.warm_up.max_batch).max().unwrap_or(0);
        (RUNS_AHEAD * rows).clamp(LEAST_WINDOW.min(most), most)
    }

    /// A process that takes no readings in learns from claims what deadlines there are.
    fn note_deadlines(&self, claimed: &[Claimed]) {
        if self.app.config.role.serves_api() {
            return;
        }
        for job in claimed.iter().filter(|job| job.attempt <= 1) {
            if let Ok(entry) = &job.entry {
                self.app.planner.claimed(&self.task, job.left.map(|left| left + job.waited), entry.priority);
            }
        }
    }

    /// What stays in the queue behind the claimed jobs.
    fn behind(&self, claimed: &[Claimed], load: &TaskLoad, plan: &Plan, drained: bool) -> Behind {
        let deadline_us = self.app.planner.deadline(&self.task).map_or(f32::INFINITY, |left| left.as_secs_f32() * 1e6);
        let sight = self.app.admission.sight(&self.task);
        let running =
            sight.map_or(0, |sight| sight.counts.running.values().fold(0_u32, |sum, jobs| sum.saturating_add(*jobs)));
        let claims = u32::try_from(claimed.len()).unwrap_or(u32::MAX);
        let held = u32::try_from(self.held.count()).unwrap_or(u32::MAX).saturating_add(claims);
        let count = if drained { 0 } else { load.depth().saturating_sub(running.max(held)) };
        // First come, first served, nearly: the next one is about as old as the last of these.
        let head_us = claimed.last().map_or(deadline_us, |job| match job.left {
            Some(left) => left.as_secs_f32() * 1e6,
            None => (deadline_us - job.waited.as_secs_f32() * 1e6).max(0.0),
        });
        let slack_us = Behind::between(count, head_us, deadline_us).slack_us;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; at least a tenth")]
        let workers = plan.workers.round() as u32;
        Behind { count, slack_us, rate: plan.rate, idc: plan.idc, deadline_us, workers: workers.max(1) }
    }

    /// The job for a model of its tier; as it is where that is its own, or where none of the tier can be served.
    fn bound(&self, mut job: Claimed, task: &Task, tier: &str) -> Claimed {
        let Ok(entry) = &mut job.entry else { return job };
        let hinted = entry.decision.tier.clone();
        if hinted.as_deref() != Some(tier) {
            let model = task.models.values().find(|model| model.folder.tier.as_deref() == Some(tier));
            let Some(version) = model.and_then(|model| version_for(model, entry)) else { return job };
            let model = model.map(|model| model.folder.name.clone()).unwrap_or_default();
            (entry.model, entry.model_version) = (model, version);
            entry.decision.tier = Some(tier.to_owned());
        }
        self.app.metrics.bound(&self.task, hinted.as_deref().unwrap_or_default(), tier);
        entry.decision.hinted = hinted;
        job
    }
}

/// Work that waits in this process's pools already, in microseconds of one worker.
fn ahead_us(task: &Task, load: &TaskLoad) -> f32 {
    let pools = task.models.values().filter_map(|model| {
        let tier = load.tiers.iter().find(|tier| model.folder.tier.as_ref() == Some(&tier.tier))?;
        Some((tier, model.versions.get(&model.default_version)?.pool()?))
    });
    pools.fold(0.0, |sum, (tier, pool)| {
        let waiting = u32::try_from(pool.waiting()).unwrap_or(u32::MAX);
        let workers = u32::try_from(pool.workers()).unwrap_or(u32::MAX).max(1);
        sum + tier.profile().batch_us(waiting.div_ceil(workers))
    })
}

/// The job as the policy sees it; none for one that has no tier.
fn claim_of(job: &Claimed, load: &TaskLoad, (calm, ahead_us): (bool, f32)) -> Option<Claim> {
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
    let free = entry.binding.movable && !entry.pinned && !entry.fallback && reached && !idle;
    let left_us = job.left.map_or(f32::INFINITY, |left| left.as_secs_f32() * 1e6);
    Some(Claim { slack_us: left_us - ahead_us, class: entry.priority, pinned: (!free).then_some(hint), floor, hint })
}

/// The version that a model's rollout gives the job's sensor.
fn version_for(model: &Model, entry: &Entry) -> Option<u32> {
    let key = entry.sensor_id.as_deref().unwrap_or(&entry.request_id);
    let assigned = model.rollout.assign(key).version;
    [assigned, model.default_version]
        .into_iter()
        .find(|version| model.versions.get(version).is_some_and(|version| version.is_servable()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::policy::Profile;
    use shared::snapshot::TierLoad;

    use super::*;
    use crate::queue::Ticket;
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
        let claim = claim_of(&job("accurate", Some(50), MOVABLE), &load(), (false, 10_000.0)).unwrap();
        assert_eq!((claim.pinned, claim.hint), (None, 1));
        assert!((claim.slack_us - 40_000.0).abs() < 1.0, "{claim:?}");
    }

    #[test]
    fn a_job_without_a_deadline_keeps_its_tier_unless_all_is_calm() {
        let busy = claim_of(&job("fast", None, MOVABLE), &load(), (false, 0.0)).unwrap();
        assert_eq!((busy.pinned, busy.slack_us), (Some(0), f32::INFINITY));
        assert_eq!(claim_of(&job("fast", None, MOVABLE), &load(), (true, 0.0)).unwrap().pinned, None);
    }

    #[test]
    fn what_the_caller_asked_for_is_kept() {
        let fixed = job("fast", Some(50), Binding::default());
        assert_eq!(claim_of(&fixed, &load(), (true, 0.0)).unwrap().pinned, Some(0));
        let asks = |min_accuracy| job("accurate", Some(50), Binding { min_accuracy: Some(min_accuracy), ..MOVABLE });
        let claim = claim_of(&asks(0.9), &load(), (true, 0.0)).unwrap();
        assert_eq!((claim.pinned, claim.floor), (None, 1));
        let unreachable = claim_of(&asks(0.99), &load(), (true, 0.0)).unwrap();
        assert_eq!((unreachable.pinned, unreachable.floor), (Some(1), 0));
    }

    #[test]
    fn what_cannot_be_read_or_has_no_tier_is_not_bound() {
        let mut unreadable = job("fast", None, MOVABLE);
        unreadable.entry = Err("torn".to_owned());
        assert!(claim_of(&unreadable, &load(), (true, 0.0)).is_none());
        assert!(claim_of(&job("gone", None, MOVABLE), &load(), (true, 0.0)).is_none());
    }
}
