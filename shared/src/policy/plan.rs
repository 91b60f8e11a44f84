//! The plan: how the load of one task is split over its tiers until the next plan, for all keepers at once.
//!
//! Made by one writer every period from what it observes. A share and not a rule is published, so
//! that any number of keepers with the same picture produce the planned mix instead of a herd.

use super::Policy;
use super::decision::Mode;
use super::estimate::{Outlook, on_time};
use super::hull::Hull;
use super::math::{larger, logit, number, smaller, unit, within};
use super::profile::{MAX_TIERS, TierModel, ranked};
use super::steady::{self, Steering};

/// The share of the workers' time that is planned with.
pub const HEADROOM: f32 = 0.9;

/// What is published of a plan. Times are in microseconds of the plan's maker, work in microseconds of one worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// The policy that holds for this task, where one was set at run time.
    pub policy: Option<Policy>,
    /// How much was known.
    pub mode: Mode,
    /// Live workers, in workers of the profiles' pace; at least a tenth.
    pub workers: f32,
    /// Keepers of snapshots seen lately; at least 1.
    pub isolates: u32,
    /// Work that waits or runs.
    pub work_us: f32,
    /// The backlog of work that is aimed at.
    pub target_us: f32,
    /// Mean rest of the runs that are going on.
    pub residual_us: f32,
    /// Arrivals a second.
    pub rate: f32,
    /// Index of dispersion of the arrivals' counts; 1 for a Poisson stream.
    pub idc: f32,
    /// Time between two plans.
    pub period_us: f32,
    /// The share of the workers' time that is used, 0..=1.
    pub busy: f32,
    /// The cheaper tier in use.
    pub lower: usize,
    /// The dearer tier in use; the same where one tier beats all mixes.
    pub upper: usize,
    /// The share of the dearer tier while the picture is young, 0..=1.
    pub x0: f32,
    /// The share of the dearer tier that holds without a picture of the queue, 0..=1.
    pub x_inf: f32,
    /// Correction of the share, in logits: what the shares that came out were short of.
    pub bias: f32,
    /// The mean utility gap between both tiers.
    pub gap_mean: f32,
    /// How sharply the gap of a job tells against the mean: the temperature of the tilt.
    pub tau0: f32,
    /// The price of a worker's time, in right answers a second.
    pub price: f32,
    /// How fast a backlog relaxes: the time constant with which the share fades.
    pub relax_us: f32,
    /// The share that is sent to [`Self::explore`] whatever the split says, 0..=1.
    pub epsilon: f32,
    /// The tier of which least is known.
    pub explore: usize,
    /// The share that is refused, by class in the order of `Priority::ALL`, 0..=1.
    pub reject: [f32; 3],
    /// Correction of the chance on time, learned from how often it came true; 1 where nothing was learned.
    pub kappa: f32,
    /// Mean time between a keeper and the queue, both ways.
    pub net_us: f32,
    /// Standard deviation of it.
    pub net_sd_us: f32,
    /// By how much a dearer tier is taken to be better where accuracies are not known.
    pub rank_gap: f32,
}

impl Default for Plan {
    /// The plan of somebody who knows nothing: a quarter for the dearer of two tiers.
    fn default() -> Self {
        Self {
            policy: None,
            mode: Mode::Unprofiled,
            workers: 1.0,
            isolates: 1,
            work_us: 0.0,
            target_us: 0.0,
            residual_us: 0.0,
            rate: 0.0,
            idc: 1.0,
            period_us: 250_000.0,
            busy: 0.0,
            lower: 0,
            upper: 1,
            x0: 0.25,
            x_inf: 0.25,
            bias: 0.0,
            gap_mean: 0.0,
            tau0: 0.05,
            price: 0.0,
            relax_us: 250_000.0,
            epsilon: 0.0,
            explore: 0,
            reject: [0.0; 3],
            kappa: 1.0,
            net_us: 0.0,
            net_sd_us: 0.0,
            rank_gap: Tuning::RANK_GAP,
        }
    }
}

/// One tier as the maker of a plan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TierSeen {
    /// Cost and accuracy.
    pub model: TierModel,
    /// The profile was measured batch by batch and not guessed from a mean.
    pub profiled: bool,
    /// Jobs that wait for it.
    pub waiting: u32,
    /// Jobs that run on it.
    pub in_flight: u32,
}

/// What is observed of one task. Numbers that are not known have the value that says so, or their neutral one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observations<'a> {
    /// The tiers, cheapest first; what is behind the [`MAX_TIERS`]th is ignored.
    pub tiers: &'a [TierSeen],
    /// Live workers that share the work.
    pub workers: u32,
    /// How fast they are, as a multiple of the profiles' pace: below 1 where one is slow or shares its processor.
    pub pace: f32,
    /// Keepers of snapshots seen lately.
    pub isolates: u32,
    /// Arrivals a second, smoothed.
    pub rate: f32,
    /// Arrivals a second in the last period alone; a rise shows here first.
    pub last_rate: Option<f32>,
    /// The highest of such rates lately (a minute or so): what may come again before the next plan.
    pub peak_rate: Option<f32>,
    /// Index of dispersion of the arrivals' counts.
    pub idc: f32,
    /// Time until the next plan.
    pub period_us: f32,
    /// Mean age at which a plan reaches a decision.
    pub delivery_us: f32,
    /// Time since the previous plan.
    pub elapsed_us: f32,
    /// Work that waits or runs, where it was measured; else it is reckoned from the counts of the tiers.
    pub work_us: Option<f32>,
    /// The share of the workers' time in use, 0..=1.
    pub busy: f32,
    /// How long the oldest waiting job has waited.
    pub head_age_us: f32,
    /// The 10th percentile of recent relative deadlines.
    pub deadline_us: Option<f32>,
    /// The median of them.
    pub median_deadline_us: Option<f32>,
    /// Mean time between a keeper and the queue, both ways.
    pub net_us: f32,
    /// Standard deviation of it.
    pub net_sd_us: f32,
    /// Correction of the chance on time.
    pub kappa: f32,
    /// Shares of the classes in the arrivals, in the order of `Priority::ALL`.
    pub classes: [f32; 3],
    /// The share of the dearer tier that the previous plan brought about.
    pub realised: Option<f32>,
    /// Mean and standard deviation of the utility gaps that keepers saw.
    pub gap: Option<(f32, f32)>,
    /// How often the cheapest and the dearest tier disagree, 0..=1: accuracies cannot differ by more.
    pub disagreement: Option<f32>,
    /// A drift detector has raised an alarm lately.
    pub alarm: bool,
    /// The policy that was set for the task at run time.
    pub policy: Option<Policy>,
    /// The plan before this one.
    pub previous: Option<&'a Plan>,
}

impl Default for Observations<'_> {
    fn default() -> Self {
        Self {
            tiers: &[],
            workers: 1,
            pace: 1.0,
            isolates: 1,
            rate: 0.0,
            last_rate: None,
            peak_rate: None,
            idc: 1.0,
            period_us: 250_000.0,
            delivery_us: 0.0,
            elapsed_us: 250_000.0,
            work_us: None,
            busy: 0.0,
            head_age_us: 0.0,
            deadline_us: None,
            median_deadline_us: None,
            net_us: 0.0,
            net_sd_us: 0.0,
            kappa: 1.0,
            classes: [0.0, 1.0, 0.0],
            realised: None,
            gap: None,
            disagreement: None,
            alarm: false,
            policy: None,
            previous: None,
        }
    }
}

/// The constants of planning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// Standard deviations of the arrivals' count to plan for.
    pub z: f32,
    /// The share of the workers' time to plan with.
    pub headroom: f32,
    /// The share of what the deadline leaves that the backlog may fill.
    pub fill: f32,
    /// How much of the backlog's error one period corrects; below 1 is stable with a delay of one period.
    pub gain: f32,
    /// The share of what workers and deadline can absorb that a peak may fill.
    pub absorb: f32,
    /// The fastest rise of the share, a second.
    pub rise: f32,
    /// Rises smaller than this are not published, nor falls smaller than it and than a tenth of the share.
    pub dead_band: f32,
    /// The time over which the arrival rate is smoothed: how noisy it is.
    pub memory_us: f32,
    /// The deadline of jobs that name none, for the backlog that is aimed at.
    pub patience_us: f32,
    /// The share of exploration.
    pub epsilon: f32,
    /// The share of exploration after an alarm.
    pub alarm_epsilon: f32,
    /// Labels, in effective number, behind which a tier needs no exploration.
    pub labels: f32,
}

impl Tuning {
    /// By how much a dearer tier is taken to be better where nothing is known.
    pub const RANK_GAP: f32 = 0.05;
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            z: 2.0,
            headroom: HEADROOM,
            fill: 0.5,
            gain: 0.25,
            absorb: 0.9,
            rise: 0.10,
            dead_band: 0.03,
            memory_us: 1e6,
            patience_us: 1e6,
            epsilon: 0.02,
            alarm_epsilon: 0.10,
            labels: 400.0,
        }
    }
}

/// Plans the split of one task until the next plan.
#[must_use]
pub fn plan(seen: &Observations<'_>, tuning: &Tuning) -> Plan {
    let table = Table::of(seen);
    let workers = larger(number(seen.workers.max(1)) * within(seen.pace, 0.0, 10.0), 0.1);
    // A rise counts at once, a fall when the smoothed rate shows it.
    let rate = larger(within(seen.rate, 0.0, 1e9), within(seen.last_rate.unwrap_or(0.0), 0.0, 1e9));
    let idc = within(seen.idc, 0.0, 1e4);
    let deadline = within(seen.deadline_us.unwrap_or(tuning.patience_us), 0.0, 1e12);

    // Jobs and time until this plan is replaced everywhere, and what the workers can give each job.
    let horizon = within(seen.period_us, 1e3, 1e9) + within(seen.delivery_us, 0.0, 1e9);
    let mean = rate * horizon / 1e6;
    let jobs = larger(mean + tuning.z * (idc * mean).sqrt(), 1e-6);
    let carried = tuning.headroom * workers * horizon;
    let steady_level = table.hull.level(carried / jobs);
    let (low, high, steady_share) = table.hull.pair(steady_level);
    let full = |tier: usize| table.full.get(tier).copied().unwrap_or(0.0);

    let work_us = within(seen.work_us.unwrap_or(table.work_us), 0.0, 1e12);
    let target_us = larger(tuning.fill * workers * (deadline - full(high)), 0.0);
    let by_load = (carried + tuning.gain * (target_us - work_us)) / jobs;
    // A peak like those lately may begin right after this plan: what it brings until the next one must fit into the time
    // of all workers and the backlog that the deadline allows.
    let peak = larger(within(seen.peak_rate.unwrap_or(0.0), 0.0, 1e9) * horizon / 1e6, jobs);
    let absorbed = larger(workers * (horizon + deadline - full(high)) - work_us, 0.0);
    let wanted = table.hull.level(smaller(by_load, tuning.absorb * absorbed / peak));
    let budget_inf = tuning.headroom * workers * 1e6 / larger(rate, 1e-6);
    let cheapest = table.cost(table.hull.pair(0.0).0);
    let saturated = rate * cheapest > tuning.headroom * workers * 1e6;

    let pressed = work_us / workers > seen.period_us;
    let rested = seen.head_age_us < 0.25 * deadline && !pressed;
    let level = if saturated { 0.0 } else { held(seen, tuning, &table.hull, wanted, (budget_inf, pressed, rested)) };
    let (lower, upper, x0) = table.hull.pair(level);
    let pair_cost = |share: f32| table.cost(lower) + share * (table.cost(upper) - table.cost(lower));
    // The share without a picture, of the same pair: what is over it is all, what is under it none.
    let x_inf = unit(table.hull.level(budget_inf) - table.hull.level_of(lower, upper, 0.0));

    // Mean rest of the batches that run, shared by the workers (length-biased, no spread between batches).
    let batch = full(low) + steady_share * (full(high) - full(low));
    let busy = unit(seen.busy);
    let open = 1.0 - smaller(busy, 0.99).sqrt();
    let period_us = within(seen.period_us, 1e3, 1e9);
    let mut plan = Plan {
        policy: seen.policy,
        mode: table.mode(saturated),
        workers,
        isolates: seen.isolates.max(1),
        work_us,
        target_us,
        residual_us: busy * batch / (2.0 * workers),
        rate,
        idc,
        period_us,
        busy,
        lower,
        upper,
        x0,
        x_inf: if lower == upper { 0.0 } else { x_inf },
        bias: 0.0,
        gap_mean: 0.0,
        tau0: within(seen.gap.map_or(0.05, |(_, spread)| spread), 0.02, 1.0),
        price: 0.0,
        relax_us: within(pair_cost(x0) / (workers * open * open), period_us, 20.0 * period_us),
        epsilon: 0.0,
        explore: table.least_labelled(),
        reject: shed(seen, rate * cheapest, workers * 1e6, (work_us, workers * deadline)),
        kappa: within(seen.kappa, 0.1, 10.0),
        net_us: within(seen.net_us, 0.0, 1e9),
        net_sd_us: within(seen.net_sd_us, 0.0, 1e9),
        rank_gap: table.rank_gap,
    };
    let gain = (table.right(upper) - table.right(lower)) / larger(table.cost(upper) - table.cost(lower), 1e-3) * 1e6;
    plan.price = price(seen, gain, work_us / larger(target_us, 1.0));
    plan.bias = bias(seen, &plan);
    plan.epsilon = if saturated { 0.0 } else { exploration(seen, tuning, &table, &plan) };
    plan.gap_mean = seen.gap.map_or_else(|| table.gap_at(&plan, seen), |(mean, _)| within(mean, -10.0, 10.0));
    plan
}

/// The level to publish, after the one before.
fn held(
    seen: &Observations<'_>,
    tuning: &Tuning,
    hull: &Hull,
    wanted: f32,
    (budget_inf, pressed, rested): (f32, bool, bool),
) -> f32 {
    let Some(before) = seen.previous else { return wanted };
    // Noise of the measured rate, as a level: the dead band must be wider than what chance alone moves.
    let counted = larger(seen.rate * tuning.memory_us / 1e6, 1.0);
    let relative = smaller((within(seen.idc, 0.0, 1e4) / counted).sqrt(), 1.0);
    let noise = hull.level(budget_inf * (1.0 + relative)) - hull.level(budget_inf);
    let rise = if rested { tuning.rise * within(seen.elapsed_us, 0.0, 1e7) / 1e6 } else { 0.0 };
    steady::next(
        wanted,
        Steering {
            before: hull.level_of(before.lower, before.upper, before.x0),
            top: hull.top(),
            dead_band: within(2.0 * noise, tuning.dead_band, 0.15),
            rise,
            pressed,
        },
    )
}

/// Drift plus penalty: the price rises while the backlog is over its target, and falls below it. It stays under what the
/// dearer tier gains, so that alone it bars only what is worth less than a usual job.
fn price(seen: &Observations<'_>, gain: f32, fullness: f32) -> f32 {
    let gain = within(gain, 0.0, 1e9);
    let before = seen.previous.map_or(0.0, |plan| plan.price);
    within(before + 0.1 * gain * within(fullness - 1.0, -1.0, 1.0), 0.0, 0.9 * gain)
}

/// A quarter of the error of the share a period, where the split was free to choose.
fn bias(seen: &Observations<'_>, plan: &Plan) -> f32 {
    let (Some(before), Some(realised)) = (seen.previous, seen.realised) else { return 0.0 };
    let free = |share: f32| (0.02..=0.98).contains(&share);
    if before.lower != plan.lower || before.upper != plan.upper || !free(before.x0) || !free(plan.x0) {
        return 0.0;
    }
    within(before.bias + 0.25 * (logit(before.x0) - logit(unit(realised))), -3.0, 3.0)
}

/// The forced share: only what the split itself does not send to the tier of which least is known.
fn exploration(seen: &Observations<'_>, tuning: &Tuning, table: &Table, plan: &Plan) -> f32 {
    let labels = table.labels.get(plan.explore).copied().unwrap_or(0.0);
    let idle = 0.5 * (1.0 - plan.busy);
    let forced = if seen.alarm {
        tuning.alarm_epsilon
    } else if table.unranked {
        smaller(tuning.alarm_epsilon, idle)
    } else if labels < tuning.labels {
        smaller(tuning.epsilon, idle)
    } else {
        0.0
    };
    let planned = match plan.explore {
        tier if tier == plan.upper => plan.x0,
        tier if tier == plan.lower => 1.0 - plan.x0,
        _ => 0.0,
    };
    unit(forced - planned)
}

/// The share to refuse by class, from the lowest up, so that the cheapest tier can carry the rest.
///
/// Only once the backlog holds half of what all workers can do within a deadline: what is over for a moment is queued.
fn shed(seen: &Observations<'_>, asked: f32, capacity: f32, (work_us, within_us): (f32, f32)) -> [f32; 3] {
    let mut reject = [0.0; 3];
    if asked <= capacity || work_us < 0.5 * within_us {
        return reject;
    }
    let mut excess = 1.0 - capacity / asked;
    for (share, reject) in seen.classes.iter().zip(&mut reject).rev() {
        let share = unit(*share);
        if share > 0.0 && excess > 0.0 {
            *reject = unit(excess / share);
            excess -= share;
        }
    }
    reject
}

/// The tiers as numbers side by side.
struct Table {
    n: usize,
    cost: [f32; MAX_TIERS],
    full: [f32; MAX_TIERS],
    right: [f32; MAX_TIERS],
    labels: [f32; MAX_TIERS],
    hull: Hull,
    work_us: f32,
    rank_gap: f32,
    unranked: bool,
    unprofiled: bool,
}

impl Table {
    fn of(seen: &Observations<'_>) -> Self {
        let n = seen.tiers.len().min(MAX_TIERS);
        let (mut cost, mut full, mut labels) = ([0.0; MAX_TIERS], [0.0; MAX_TIERS], [0.0; MAX_TIERS]);
        let mut known = [None; MAX_TIERS];
        let mut work_us = 0.0;
        for (at, tier) in seen.tiers.iter().take(MAX_TIERS).enumerate() {
            let profile = tier.model.profile;
            let jobs = number(tier.waiting) + 0.5 * number(tier.in_flight);
            work_us += jobs * profile.server_us();
            if let (Some(cost), Some(full), Some(labels), Some(known)) =
                (cost.get_mut(at), full.get_mut(at), labels.get_mut(at), known.get_mut(at))
            {
                (*cost, *full, *labels) = (profile.server_us(), profile.batch_us(profile.cap()), tier.model.n_eff);
                *known = tier.model.accuracy;
            }
        }
        let rank_gap = smaller(Tuning::RANK_GAP, unit(seen.disagreement.unwrap_or(1.0)));
        let right = ranked(known.get(..n).unwrap_or_default(), rank_gap);
        let unprofiled = seen.tiers.iter().any(|tier| !tier.profiled);
        let unranked = known.iter().take(n).any(Option::is_none);
        let hull = Hull::of(&cost, &right, n);
        Self { n, cost, full, right, labels, hull, work_us, rank_gap, unranked, unprofiled }
    }

    fn cost(&self, tier: usize) -> f32 {
        self.cost.get(tier).copied().unwrap_or(0.0)
    }

    fn right(&self, tier: usize) -> f32 {
        self.right.get(tier).copied().unwrap_or(0.0)
    }

    const fn mode(&self, saturated: bool) -> Mode {
        match (saturated, self.unprofiled, self.unranked) {
            (true, ..) => Mode::Saturated,
            (false, true, _) => Mode::Unprofiled,
            (false, false, true) => Mode::Unranked,
            (false, false, false) => Mode::Normal,
        }
    }

    fn least_labelled(&self) -> usize {
        let labels = self.labels.iter().take(self.n).enumerate();
        labels.reduce(|least, tier| if *tier.1 < *least.1 { tier } else { least }).map_or(0, |(tier, _)| tier)
    }

    /// The utility gap of a job with the median deadline that arrives now.
    fn gap_at(&self, plan: &Plan, seen: &Observations<'_>) -> f32 {
        let deadline = seen.median_deadline_us.or(seen.deadline_us);
        let (dear, cheap) = (self.cost(plan.upper), self.cost(plan.lower));
        let outlook = Outlook::of(plan, cheap + plan.x0 * (dear - cheap), 0, 0);
        let utility = |tier: usize| {
            let Some(tier_seen) = seen.tiers.get(tier) else { return 0.0 };
            let done = outlook.completion(plan, &tier_seen.model.profile, tier_seen.waiting);
            self.right(tier) * on_time(done, deadline, plan.kappa)
        };
        utility(plan.upper) - utility(plan.lower) - plan.price * (dear - cheap) / 1e6
    }
}
