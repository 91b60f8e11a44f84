//! The native side's live picture of load and accuracy, and the snapshots made of it.
//!
//! Fed by every enqueue and settle of this process, by its own synchronous readings, and by
//! [`super::feed`] with what other processes did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use shared::catalog::Catalog;
use shared::policy::{Mode, Plan, Profile};
use shared::snapshot::{Snapshot, TaskLoad, TierLoad};

use crate::queue::Depths;

/// Live load and accuracy of every task.
#[derive(Debug)]
pub struct Snapshots {
    boot: u64,
    seq: AtomicU64,
    tasks: ArcSwap<BTreeMap<String, Arc<[Tier]>>>,
    plans: ArcSwap<BTreeMap<String, Planned>>,
}

/// A plan, and the backlog of each tier when it was made or heard of.
#[derive(Debug, Clone)]
struct Planned {
    plan: Plan,
    at: Instant,
    depths: Vec<u32>,
}

/// Periods after which a plan that nobody renewed is shown as stale, and as of no use. Twice what keepers allow: here a
/// period begins when the round over all tasks does.
const STALE_PERIODS: f32 = 4.0;
const BLIND_PERIODS: f32 = 40.0;

impl Planned {
    /// The plan as it is to be shown now: with the backlog of now, and the mode that its age allows.
    fn shown(&self, tiers: &[TierLoad]) -> Plan {
        let mut plan = self.plan;
        for (tier, before) in tiers.iter().zip(&self.depths) {
            let grown = f64::from(tier.depth) - f64::from(*before);
            #[expect(clippy::cast_possible_truncation, reason = "24 bits are what a decision rests on")]
            let grown = grown as f32;
            plan.work_us = (plan.work_us + grown * tier.profile().server_us()).max(0.0);
        }
        let periods = self.at.elapsed().as_secs_f32() * 1e6 / plan.period_us.max(1.0);
        if periods > BLIND_PERIODS {
            plan.mode = Mode::Blind;
        } else if periods > STALE_PERIODS && plan.mode < Mode::Stale {
            plan.mode = Mode::Stale;
        }
        plan
    }
}

#[derive(Debug)]
struct Tier {
    name: String,
    // Readings of `/predict` that wait or run in this process: they load the same workers.
    synchronous: Arc<AtomicU32>,
    known: Mutex<Known>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    queued: u32,
    service_us: Option<u32>,
    accuracy: Option<f32>,
    profile: Option<Profile>,
    labels: f32,
}

impl Tier {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Plain numbers: a panic elsewhere cannot have left them half written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one synchronous reading in for as long as it lives.
#[derive(Debug)]
pub struct SynchronousGuard(Option<Arc<AtomicU32>>);

impl Drop for SynchronousGuard {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Snapshots {
    /// A picture in which nothing waits and nothing is known.
    ///
    /// `boot` names this run of the process; another run must have another number.
    #[must_use]
    pub fn new(catalog: &Catalog, boot: u64) -> Self {
        let snapshots = Self { boot, seq: AtomicU64::new(0), tasks: ArcSwap::default(), plans: ArcSwap::default() };
        snapshots.sync(catalog);
        snapshots
    }

    /// Takes in which tasks and tiers there are; what stays keeps what is known of it.
    pub fn sync(&self, catalog: &Catalog) {
        let before = self.tasks.load();
        let same = before.len() == catalog.tasks.len()
            && catalog.tasks.iter().all(|task| {
                let tiers = before.get(&task.schema.name);
                tiers.is_some_and(|tiers| tiers.iter().map(|tier| &tier.name).eq(&task.schema.tiers))
            });
        if same {
            return;
        }
        let tier = |task: &str, name: &String| {
            let kept = self
                .tiers(task)
                .iter()
                .find(|tier| tier.name == *name)
                .map(|tier| (*tier.known(), Arc::clone(&tier.synchronous)));
            let (known, synchronous) = kept.unwrap_or_default();
            Tier { name: name.clone(), synchronous, known: Mutex::new(known) }
        };
        let tasks = catalog.tasks.iter().map(|task| {
            let task = &task.schema;
            (task.name.clone(), task.tiers.iter().map(|name| tier(&task.name, name)).collect())
        });
        self.tasks.store(Arc::new(tasks.collect()));
    }

    fn tiers(&self, task: &str) -> Arc<[Tier]> {
        self.tasks.load().get(task).map_or_else(|| Arc::from([]), Arc::clone)
    }

    /// Takes in a task's backlog; a tier that is not listed has none.
    pub fn set_depths(&self, task: &str, depths: &Depths) {
        for tier in self.tiers(task).iter() {
            tier.known().queued = depths.get(&tier.name).copied().unwrap_or(0);
        }
    }

    /// Takes in what is known of a tier's model.
    pub fn set_facts(&self, task: &str, tier: &str, service_us: Option<u32>, accuracy: Option<f32>) {
        if let Some(tier) = self.tiers(task).iter().find(|candidate| candidate.name == tier) {
            let mut known = tier.known();
            known.service_us = service_us;
            known.accuracy = accuracy;
        }
    }

    /// Takes in how long runs of a tier's model take.
    pub fn set_profile(&self, task: &str, tier: &str, profile: Option<Profile>) {
        if let Some(tier) = self.tiers(task).iter().find(|candidate| candidate.name == tier) {
            tier.known().profile = profile;
        }
    }

    /// Takes in how many labels are behind a tier's accuracy, in effective number.
    pub fn set_labels(&self, task: &str, tier: &str, labels: f32) {
        if let Some(tier) = self.tiers(task).iter().find(|candidate| candidate.name == tier) {
            tier.known().labels = labels;
        }
    }

    /// Takes in a task's plan, made at `at`.
    pub fn set_plan(&self, task: &str, plan: Plan, at: Instant) {
        let depths = self.tiers_now(task).into_iter().map(|tier| tier.depth).collect();
        let planned = Planned { plan, at, depths };
        self.plans.rcu(|plans| {
            let mut plans = BTreeMap::clone(plans);
            // The same plan again, as a follower hears it: the backlog of its own time stands.
            if plans.get(task).is_none_or(|known| known.at != planned.at || known.plan != planned.plan) {
                plans.insert(task.to_owned(), planned.clone());
            }
            plans
        });
    }

    /// How old a task's plan is; none where there is none.
    #[must_use]
    pub fn plan_age(&self, task: &str) -> Option<Duration> {
        self.plans.load().get(task).map(|planned| planned.at.elapsed())
    }

    /// Counts one synchronous reading until the guard is dropped.
    #[must_use]
    pub fn begin_synchronous(&self, task: &str, tier: &str) -> SynchronousGuard {
        let count =
            self.tiers(task).iter().find(|candidate| candidate.name == tier).map(|tier| Arc::clone(&tier.synchronous));
        if let Some(count) = &count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        SynchronousGuard(count)
    }

    /// Load and accuracy of one task, now, and its plan.
    #[must_use]
    pub fn load(&self, task: &str) -> TaskLoad {
        let tiers = self.tiers_now(task);
        let plan = self.plans.load().get(task).map(|planned| planned.shown(&tiers));
        TaskLoad { task: task.to_owned(), tiers, plan }
    }

    fn tiers_now(&self, task: &str) -> Vec<TierLoad> {
        let tiers = self.tiers(task);
        let tiers = tiers.iter().map(|tier| {
            let known = *tier.known();
            TierLoad {
                tier: tier.name.clone(),
                depth: known.queued.saturating_add(tier.synchronous.load(Ordering::Relaxed)),
                service_us: known.service_us,
                accuracy: known.accuracy,
                labels: known.labels,
                measured: known.profile,
            }
        });
        tiers.collect()
    }

    /// A snapshot of one task, or of all; each has a higher number than the one before.
    #[must_use]
    pub fn take(&self, task: Option<&str>, now_ms: u64) -> Snapshot {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
        let known = self.tasks.load();
        let tasks = match task.filter(|task| known.contains_key(*task)) {
            Some(task) => vec![self.load(task)],
            None => known.keys().map(|task| self.load(task)).collect(),
        };
        Snapshot { boot: self.boot, seq, at: now_ms, tasks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots() -> Snapshots {
        let catalog = serde_json::json!({"etag": "e", "default_task": null, "tasks": [{"models": [], "schema": {
            "name": "task", "kind": "anomaly", "tiers": ["fast", "accurate"],
            "fields": [{"name": "x", "type": "number"}],
        }}]});
        Snapshots::new(&serde_json::from_value(catalog).unwrap(), 7)
    }

    #[test]
    fn synchronous_readings_count_until_they_end() {
        let snapshots = snapshots();
        snapshots.set_depths("task", &Depths::from([("accurate".to_owned(), 3)]));
        let first = snapshots.begin_synchronous("task", "accurate");
        let none = snapshots.begin_synchronous("task", "no such tier");
        assert_eq!(snapshots.load("task").depth(), 4);
        drop((first, none));
        assert_eq!(snapshots.load("task").depth(), 3);
        snapshots.set_depths("task", &Depths::new());
        assert_eq!(snapshots.load("task").depth(), 0);
    }

    #[test]
    fn a_plan_is_shown_with_the_backlog_of_now_and_the_mode_of_its_age() {
        let snapshots = snapshots();
        let profile = Profile { alpha_us: 0.0, beta_us: 1_000.0, sd_us: 0.0, cap: 1 };
        snapshots.set_profile("task", "accurate", Some(profile));
        snapshots.set_depths("task", &Depths::from([("accurate".to_owned(), 2)]));
        let plan = Plan { mode: Mode::Normal, work_us: 2_000.0, ..Plan::default() };
        snapshots.set_plan("task", plan, Instant::now());
        snapshots.set_depths("task", &Depths::from([("accurate".to_owned(), 7)]));
        let shown = snapshots.load("task").plan.unwrap();
        assert_eq!((shown.work_us, shown.mode), (7_000.0, Mode::Normal));
        let back = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        snapshots.set_plan("task", plan, back(5));
        assert_eq!(snapshots.load("task").plan.unwrap().mode, Mode::Stale);
        snapshots.set_plan("task", plan, back(60));
        assert_eq!(snapshots.load("task").plan.unwrap().mode, Mode::Blind);
        assert!(snapshots.plan_age("task").unwrap() >= Duration::from_secs(60));
    }

    #[test]
    fn a_later_snapshot_has_a_higher_number() {
        let snapshots = snapshots();
        snapshots.set_facts("task", "fast", Some(12), Some(0.5));
        let (first, second) = (snapshots.take(Some("task"), 1), snapshots.take(None, 2));
        assert!(second.seq > first.seq && second.boot == 7);
        assert_eq!(second.tasks[0].tiers[0].service_us, Some(12));
        assert_eq!(Snapshot::from_text(&second.to_text()).unwrap(), second);
    }
}
