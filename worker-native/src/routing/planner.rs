//! One plan for all: what is known of a task becomes `shared::policy`'s observations, and its plan the snapshot's.
//!
//! Of several processes with one queue one makes the plan, and the others take it from the shared
//! facts, so that every keeper of snapshots sees the same split whichever process it asks. Whoever
//! finds no plan, or one whose maker is silent, makes the next (docs/decisions/0029-one-plan.md). Owns
//! the observing and the agreeing; how a load is split is `shared::policy`'s.

mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::catalog::CatalogTask;
use shared::policy::plan::HEADROOM;
use shared::policy::{Plan, PolicyKind, Reason};
use shared::reading::Priority;
use shared::snapshot::TaskLoad;

use super::meters::{Keepers, Recent, Shares};
use super::presence::{Line, Peers};
use super::{Advice, DecisionRecord, policies, tiers};
use crate::app::App;
use crate::engine::Pool;
use crate::queue::{Counts, NewFact};
use state::{State, whole};

/// The field of the plan among the shared facts.
pub(super) const PLAN: &str = "plan";
/// How often a process tells of itself that makes no plan; one that makes any tells with each round.
const TELL: Duration = Duration::from_secs(1);

/// What this process observes, and the plans that hold.
#[derive(Debug)]
pub struct Planner {
    boot: u64,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    tasks: BTreeMap<String, State>,
    peers: Peers,
}

/// What labels, and readings that two tiers answered, say of a task's tiers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Learned {
    /// A drift detector has raised an alarm lately.
    pub(super) alarmed: bool,
    /// How often the cheapest and the dearest tier can disagree at most, 0..=1.
    pub(super) disagreement: Option<f64>,
}

/// What one look at a task gives to plan with.
struct Look<'a> {
    task: &'a str,
    load: TaskLoad,
    counts: &'a Counts,
    workers: u32,
    run_ns: u64,
    head_age: Option<Duration>,
    learned: Learned,
    in_force: policies::InForce,
    period: Duration,
    shared: bool,
}

impl Planner {
    /// Nothing observed yet; `boot` names this run of the process.
    #[must_use]
    pub const fn new(boot: u64) -> Self {
        Self { boot, known: Mutex::new(Known { tasks: BTreeMap::new(), peers: Peers::new() }) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Counters: a panic elsewhere leaves them usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, task: &str, work: impl FnOnce(&mut State) -> T) -> T {
        work(state_of(&mut self.known().tasks, task))
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

    /// A reading was turned away because its class is being shed: what is asked for is load all the same, else the share
    /// that is shed would be nothing as soon as it worked.
    pub fn shed(&self, task: &str, deadline: Option<Duration>, class: Priority) {
        self.with(task, |state| {
            state.recent.saw(deadline, class);
            state.synchronous_total += 1;
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

    /// Takes in what processes tell of themselves.
    pub(super) fn heard(&self, facts: &[(String, String)], now: Instant) {
        self.known().peers.heard(&id_of(self.boot), facts, now);
    }

    /// What this process has to tell of itself now, and which lines of dead ones go.
    pub(super) fn presence(&self, now: Instant) -> Vec<NewFact> {
        let mut known = self.known();
        let Known { tasks, peers } = &mut *known;
        let told = || tasks.iter().filter_map(|(task, state)| Some((task.as_str(), state.tells(now)?)));
        let every = if told().any(|(_, told)| told.made > 0) { Duration::ZERO } else { TELL };
        let lines = peers.lines(&id_of(self.boot), told(), (every, now));
        let fact = |(field, value): Line| NewFact {
            task: policies::EVERY_TASK.to_owned(),
            name: policies::FACTS.to_owned(),
            field,
            value,
        };
        lines.into_iter().map(fact).collect()
    }

    /// Observes, and plans or takes the plan of another process; the text of one that is to be told is returned.
    fn step(
        &self,
        look: &Look<'_>,
        facts: &[(String, String)],
        now: Instant,
    ) -> (Option<(Plan, Instant)>, Option<String>) {
        let mut known = self.known();
        let Known { tasks, peers } = &mut *known;
        let state = state_of(tasks, look.task);
        state.observe(look, now);
        let own = state.told(look, now);
        let stored = facts.iter().find(|(field, _)| field == PLAN).map(|(_, text)| text.as_str());
        let made_by = |boot| peers.made(&id_of(boot), look.task);
        let mut news = None;
        if state.is_maker(self.boot, stored.filter(|_| look.shared), made_by, (now, look.period)) {
            let all: Vec<_> = peers.all(look.task, own, now).collect();
            let made = state.make(look, &all, now);
            news = if look.shared { state.publish(look, self.boot, made) } else { None };
        } else {
            state.adopt(look.task, now);
        }
        (state.plan.zip(state.planned_at), news)
    }
}

fn state_of<'t>(tasks: &'t mut BTreeMap<String, State>, task: &str) -> &'t mut State {
    let new = || State::new(Recent::default(), Keepers::default(), Shares::default());
    tasks.entry(task.to_owned()).or_insert_with(new)
}

/// How a run of a process is named among the shared facts.
fn id_of(boot: u64) -> String {
    format!("{boot:x}")
}

/// Observes one task, and brings its plan into the picture; `facts` are its shared facts of routing. Returned is the text
/// of a plan that others are to be told.
pub(super) fn step(
    app: &App,
    task: &CatalogTask,
    (counts, learned): (&Counts, Learned),
    facts: &[(String, String)],
) -> Option<String> {
    let name = task.schema.name.as_str();
    let load = app.snapshots.load(name);
    if load.tiers.is_empty() {
        return None;
    }
    let (workers, run_ns) = work(app, name);
    let look = Look {
        task: name,
        head_age: head_age(app, name, counts),
        load,
        counts,
        workers,
        run_ns,
        learned,
        in_force: app.policies.of(name),
        period: app.config.routing.snapshot_interval,
        shared: app.config.queue.is_shared(),
    };
    let (plan, news) = app.planner.step(&look, facts, Instant::now());
    if let Some((plan, at)) = plan {
        app.snapshots.set_plan(name, plan, at);
    }
    news
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
    let pools = pools(app, task);
    (whole(workers_of(&pools) as u128), pools.iter().map(|pool| pool.run_ns()).sum())
}

/// Jobs a second that consumers settle where they must, with the cheapest tier; none where they may not change tiers.
pub(crate) fn rate_at_need(app: &App, task: &str) -> Option<f64> {
    let load = app.snapshots.load(task);
    // Jobs without a deadline keep their tier.
    app.planner.deadline(task)?;
    let plan = load.plan.filter(|_| app.policies.of(task).policy.kind == PolicyKind::SlackSplit)?;
    let rate = HEADROOM * plan.workers * 1e6 / tiers::cheapest_us(&load);
    (rate.is_finite() && rate > 0.0).then(|| rate.into())
}

/// The pools of a task's tiers.
fn pools(app: &App, task: &str) -> Vec<Arc<Pool>> {
    let index = app.engine.index();
    let models = index.tasks.get(task).into_iter().flat_map(|task| task.models.values());
    let versions = models.filter(|model| model.folder.tier.is_some()).flat_map(|model| model.versions.values());
    versions.filter_map(|version| version.pool()).collect()
}

/// Runs of these pools that this machine makes at once: pools of several models share the processor's cores.
fn workers_of(pools: &[Arc<Pool>]) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    pools.iter().map(|pool| pool.workers()).max().unwrap_or(0).min(cores)
}

/// Runs of a task that this process makes at once, at least 1.
pub(crate) fn workers(app: &App, task: &str) -> usize {
    workers_of(&pools(app, task)).max(1)
}
