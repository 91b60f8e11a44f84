//! One plan for all: what is known of a task becomes `shared::policy`'s observations, and its plan the snapshot's.
//!
//! Of several processes with one queue one makes the plan, and the others take it from the shared
//! facts, so that every keeper of snapshots sees the same split whichever process it asks. Whoever
//! finds no plan, or one that is not renewed, makes the next (docs/decisions/0029-one-plan.md). Owns
//! the observing and the agreeing; how a load is split is `shared::policy`'s.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::catalog::CatalogTask;
use shared::policy::plan::TierSeen;
use shared::policy::{Observations, Plan, Reason, TierModel, plan};
use shared::reading::Priority;
use shared::snapshot::{Snapshot, TaskLoad};

use super::meters::{Arrivals, Keepers, Recent, Reliability, Shares};
use super::presence::{Line, Peers, Told};
use super::{Advice, DecisionRecord, policies};
use crate::app::App;
use crate::clock::now_ms;
use crate::queue::{Counts, QueueError};

/// The field of the plan among the shared facts.
const PLAN: &str = "plan";
/// A plan that is the same is told again after this, so that others see that its maker lives.
const RENEW: Duration = Duration::from_secs(1);
/// Periods, and at least this time, behind which a plan that was not renewed is made by another.
const TAKE_OVER_PERIODS: u32 = 8;
const TAKE_OVER: Duration = Duration::from_secs(3);

/// What this process observes, and the plans that hold.
#[derive(Debug)]
pub struct Planner {
    boot: u64,
    tasks: Mutex<BTreeMap<String, State>>,
}

#[derive(Debug)]
struct State {
    queued: Arrivals,
    synchronous: Arrivals,
    synchronous_total: u64,
    recent: Recent,
    keepers: Keepers,
    shares: Shares,
    reliability: Reliability,
    peers: Peers,
    run: Option<(u64, Instant)>,
    busy: f32,
    plan: Option<Plan>,
    planned_at: Option<Instant>,
    // As last seen among the shared facts, and since when it is the same.
    stored: Option<(String, Instant)>,
    renewed_at: Option<Instant>,
    seq: u64,
}

impl State {
    const fn new(recent: Recent, keepers: Keepers, shares: Shares, peers: Peers) -> Self {
        Self {
            queued: Arrivals::new(),
            synchronous: Arrivals::new(),
            synchronous_total: 0,
            recent,
            keepers,
            shares,
            reliability: Reliability::new(),
            peers,
            run: None,
            busy: 0.0,
            plan: None,
            planned_at: None,
            stored: None,
            renewed_at: None,
            seq: 0,
        }
    }

    /// Is the plan this process's to make?
    fn is_maker(
        &mut self,
        boot: u64,
        shared: bool,
        facts: &[(String, String)],
        (now, period): (Instant, Duration),
    ) -> bool {
        let Some((_, text)) = facts.iter().find(|(field, _)| field == PLAN).filter(|_| shared) else {
            self.stored = None;
            return true;
        };
        let since = match &self.stored {
            Some((known, since)) if known == text => *since,
            _ => {
                self.stored = Some((text.clone(), now));
                now
            }
        };
        let silent = now.saturating_duration_since(since) >= (period * TAKE_OVER_PERIODS).max(TAKE_OVER);
        silent || Snapshot::from_text(text).map_or(true, |stored| stored.boot == boot)
    }

    /// The plan that another process made.
    fn adopt(&mut self, task: &str, now: Instant) {
        let Some((text, since)) = &self.stored else { return };
        let stored = Snapshot::from_text(text).ok().and_then(|stored| stored.tasks.into_iter().next());
        if let Some(plan) = stored.filter(|load| load.task == task).and_then(|load| load.plan) {
            self.plan = Some(plan);
            self.planned_at = Some((*since).min(now));
        }
    }
}

/// What one look at a task gives to plan with.
struct Look<'a> {
    task: &'a str,
    load: TaskLoad,
    counts: &'a Counts,
    workers: u32,
    run_ns: u64,
    head_age: Option<Duration>,
    in_force: policies::InForce,
    period: Duration,
    shared: bool,
}

impl Planner {
    /// Nothing observed yet; `boot` names this run of the process.
    #[must_use]
    pub const fn new(boot: u64) -> Self {
        Self { boot, tasks: Mutex::new(BTreeMap::new()) }
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        // Counters: a panic elsewhere leaves them usable.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, task: &str, work: impl FnOnce(&mut State) -> T) -> T {
        let mut tasks = self.tasks();
        if let Some(state) = tasks.get_mut(task) {
            return work(state);
        }
        let state = State::new(Recent::default(), Keepers::default(), Shares::default(), Peers::default());
        work(tasks.entry(task.to_owned()).or_insert(state))
    }

    /// A reading of a served task was given a model; `here` says that it is answered here, past the queue.
    pub fn routed(
        &self,
        task: &CatalogTask,
        (deadline, class): (Option<Duration>, Priority),
        (decision, advice): (&DecisionRecord, &Advice),
        here: bool,
    ) {
        self.with(&task.schema.name, |state| {
            state.recent.saw(deadline, class);
            state.synchronous_total += u64::from(here);
            if let Some(keeper) = advice.keeper() {
                state.keepers.saw(keeper, Instant::now());
            }
            let free = ![Reason::CallerPinned, Reason::Explored].map(Reason::name).contains(&decision.reason.as_str());
            let tier = decision.tier.as_deref().and_then(|tier| task.schema.tier_index(tier)).filter(|_| free);
            match (&state.plan, tier) {
                (Some(plan), Some(tier)) if plan.lower != plan.upper && tier == plan.upper => state.shares.saw(true),
                (Some(plan), Some(tier)) if plan.lower != plan.upper && tier == plan.lower => state.shares.saw(false),
                _ => {}
            }
        });
    }

    /// A job was claimed that other processes took in: here it shows what deadlines there are.
    pub fn claimed(&self, task: &str, deadline: Option<Duration>, class: Priority) {
        self.with(task, |state| state.recent.saw(deadline, class));
    }

    /// A job with this predicted chance on time was in time, or not.
    pub fn ended(&self, task: &str, predicted: f32, in_time: bool) {
        self.with(task, |state| state.reliability.saw(predicted, in_time));
    }

    /// The deadline of the urgent tenth of what this process saw lately.
    #[must_use]
    pub fn deadline(&self, task: &str) -> Option<Duration> {
        self.with(task, |state| state.recent.deadline(10))
    }

    /// Observes, and plans or takes the plan of another process; what is to be told is returned.
    fn step(&self, look: &Look<'_>, facts: &[(String, String)], now: Instant) -> (Option<(Plan, Instant)>, Vec<Line>) {
        let id = format!("{:x}", self.boot);
        self.with(look.task, |state| {
            state.observe(look, now);
            let own = state.told(look, now);
            let mut lines = Vec::new();
            if look.shared {
                state.peers.heard(&id, facts, now);
                lines = state.peers.lines(&id, own, now);
            }
            if state.is_maker(self.boot, look.shared, facts, (now, look.period)) {
                let made = state.make(look, own, now);
                lines.extend(look.shared.then(|| state.publish(look, self.boot, made, now)).flatten());
            } else {
                state.adopt(look.task, now);
            }
            (state.plan.zip(state.planned_at), lines)
        })
    }
}

impl State {
    fn observe(&mut self, look: &Look<'_>, now: Instant) {
        let unsettled: u64 = look.counts.depths.values().map(|jobs| u64::from(*jobs)).sum();
        self.queued.saw(look.counts.settled.saturating_add(unsettled), now);
        self.synchronous.saw(self.synchronous_total, now);
        let ran = self.run.replace((look.run_ns, now));
        if let Some((before, at)) = ran {
            let passed = now.saturating_duration_since(at).as_secs_f32() * number(look.workers.max(1));
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one period")]
            let ran = look.run_ns.saturating_sub(before) as f32 / 1e9;
            if passed > 1e-3 {
                // A quarter of the new and three of the old: a period alone is noise.
                self.busy += 0.25 * ((ran / passed).min(1.0) - self.busy);
            }
        }
    }

    fn told(&mut self, look: &Look<'_>, now: Instant) -> Told {
        let deadline = |percent| self.recent.deadline(percent).map_or(0, |left| whole(left.as_millis()));
        Told {
            workers: look.workers,
            busy: self.busy,
            rate: float(self.synchronous.rate()),
            kappa: float(self.reliability.kappa()),
            deadlines_ms: [deadline(10), deadline(50)],
            keepers: whole(self.keepers.count(now) as u128),
        }
    }

    /// Makes the plan from what all processes tell.
    fn make(&mut self, look: &Look<'_>, own: Told, now: Instant) -> Plan {
        let seen = tiers(&look.load, look.counts);
        let all: Vec<Told> = self.peers.all(own, now).collect();
        let workers: u32 = all.iter().map(|told| told.workers).fold(0, u32::saturating_add);
        let working = all.iter().filter(|told| told.workers > 0);
        let busy = working.clone().map(|told| told.busy * number(told.workers)).sum::<f32>();
        // What the workers learned: they alone see how jobs end.
        let (learned, of) = working.fold((0.0, 0.0_f32), |(sum, n), told| (sum + told.kappa, n + 1.0));
        let rate: f32 = all.iter().map(|told| told.rate).sum();
        let deadline = |at: usize| {
            let known = all.iter().filter_map(|told| told.deadlines_ms.get(at)).filter(|ms| **ms > 0);
            known.min().map(|ms| number(*ms) * 1_000.0)
        };
        let period_us = micros(look.period);
        let elapsed = self.planned_at.map_or(look.period, |at| now.saturating_duration_since(at));
        let observed = Observations {
            tiers: &seen,
            workers: workers.max(1),
            isolates: all.iter().map(|told| told.keepers).max().unwrap_or(1).max(1),
            rate: float(self.queued.rate()) + rate,
            idc: float(self.queued.idc().max(self.synchronous.idc())),
            period_us,
            delivery_us: period_us / 2.0,
            elapsed_us: micros(elapsed),
            busy: busy / number(workers.max(1)),
            head_age_us: look.head_age.map_or(0.0, micros),
            deadline_us: deadline(0),
            median_deadline_us: deadline(1),
            kappa: if of > 0.0 { learned / of } else { own.kappa },
            classes: self.recent.classes(),
            realised: self.shares.take(),
            last_rate: Some(float(self.queued.last() + self.synchronous.last())),
            peak_rate: Some(float(self.queued.peak() + self.synchronous.peak())),
            policy: Some(look.in_force.policy),
            previous: self.plan.as_ref(),
            ..Observations::default()
        };
        let made = plan(&observed, &look.in_force.knobs.tuning());
        self.plan = Some(made);
        self.planned_at = Some(now);
        made
    }

    /// The plan as others are told of it, where it changed or must be renewed.
    fn publish(&mut self, look: &Look<'_>, boot: u64, made: Plan, now: Instant) -> Option<Line> {
        let tasks = vec![TaskLoad { plan: Some(made), ..look.load.clone() }];
        let text = |seq| Snapshot { boot, seq, at: now_ms(), tasks: tasks.clone() }.to_text();
        let before = self.stored.as_ref().and_then(|(text, _)| Snapshot::from_text(text).ok());
        let before = before.filter(|before| before.boot == boot).and_then(|before| before.tasks.into_iter().next());
        let same = before.is_some_and(|before| before.plan.is_some_and(|before| is_near(&before, &made)));
        let renewed = self.renewed_at.is_some_and(|at| now.saturating_duration_since(at) < RENEW);
        if same && renewed {
            return None;
        }
        self.renewed_at = Some(now);
        self.seq += 1;
        Some((PLAN.to_owned(), Some(text(self.seq))))
    }
}

/// Would keepers decide the same by both?
fn is_near(a: &Plan, b: &Plan) -> bool {
    let near = |a: f32, b: f32| (a - b).abs() <= 0.05 * a.abs().max(b.abs());
    a.policy == b.policy
        && (a.mode, a.lower, a.upper, a.reject) == (b.mode, b.lower, b.upper, b.reject)
        && near(a.workers, b.workers)
        && (a.x0 - b.x0).abs() < 0.005
        && near(a.work_us, b.work_us)
        && near(a.rate, b.rate)
}

/// The tiers as the plan sees them.
fn tiers(load: &TaskLoad, counts: &Counts) -> Vec<TierSeen> {
    let seen = load.tiers.iter().map(|tier| {
        let in_flight = counts.running.get(&tier.tier).copied().unwrap_or_default();
        TierSeen {
            model: TierModel { profile: tier.profile(), accuracy: tier.accuracy, n_eff: tier.labels },
            profiled: tier.measured.is_some(),
            waiting: tier.depth.saturating_sub(in_flight),
            in_flight,
        }
    });
    seen.collect()
}

/// Observes one task, and brings its plan into the picture; `facts` are its shared facts of routing.
///
/// # Errors
/// [`QueueError`] where the plan cannot be told.
pub(super) async fn step(
    app: &App,
    task: &CatalogTask,
    counts: &Counts,
    facts: &[(String, String)],
) -> Result<(), QueueError> {
    let name = task.schema.name.as_str();
    let load = app.snapshots.load(name);
    if load.tiers.is_empty() {
        return Ok(());
    }
    let (workers, run_ns) = work(app, name);
    let look = Look {
        task: name,
        head_age: head_age(app, name, counts),
        load,
        counts,
        workers,
        run_ns,
        in_force: app.policies.of(name),
        period: app.config.routing.snapshot_interval,
        shared: app.config.queue.is_shared(),
    };
    let (plan, lines) = app.planner.step(&look, facts, Instant::now());
    if let Some((plan, at)) = plan {
        app.snapshots.set_plan(name, plan, at);
    }
    for (field, line) in lines {
        app.queue.set_fact(name, policies::FACTS, &field, line.as_deref()).await?;
    }
    Ok(())
}

/// How long the oldest waiting job has waited, by Little's law; none while nothing waits.
fn head_age(app: &App, task: &str, counts: &Counts) -> Option<Duration> {
    let sum = |jobs: &crate::queue::Depths| jobs.values().map(|jobs| u64::from(*jobs)).sum::<u64>();
    let waiting = sum(&counts.depths).saturating_sub(sum(&counts.running)).saturating_sub(counts.delayed);
    // Where no speed was ever seen, nobody works: what waits is old.
    (waiting > 0).then(|| app.admission.drain_time(task, waiting).unwrap_or(Duration::from_secs(60)))
}

/// The workers of this process for a task, and the time that they ran, in nanoseconds.
fn work(app: &App, task: &str) -> (u32, u64) {
    if !app.config.role.consumes() {
        return (0, 0);
    }
    let index = app.engine.index();
    let Some(task) = index.tasks.get(task) else { return (0, 0) };
    let of_tiers = task.models.values().filter(|model| model.folder.tier.is_some());
    let pools: Vec<_> =
        of_tiers.flat_map(|model| model.versions.values()).filter_map(|version| version.pool()).collect();
    // Pools of several models share the processor's cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = pools.iter().map(|pool| pool.workers()).max().unwrap_or(0).min(cores);
    (whole(workers as u128), pools.iter().map(|pool| pool.run_ns()).sum())
}

fn whole(value: u128) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "24 bits are what a plan rests on")]
const fn number(value: u32) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, reason = "24 bits are what a plan rests on")]
const fn float(value: f64) -> f32 {
    value as f32
}

fn micros(time: Duration) -> f32 {
    time.as_secs_f32() * 1e6
}
