//! From observations to a plan: how much time each job can be given, and what that buys.
//!
//! Owns the formulas of the split; hysteresis is `steady`'s, the hull of the tiers `hull`'s.

use super::{Observations, Plan, Tuning};
use crate::policy::PolicyKind;
use crate::policy::decision::Mode;
use crate::policy::hull::Hull;
use crate::policy::math::{larger, logit, number, smaller, unit, within};
use crate::policy::profile::{MAX_TIERS, ranked};
use crate::policy::steady::{self, Steering};

/// The headroom that is kept for each period by which a plan arrives late.
const LATE: f32 = 0.03;

/// No fall larger than this is taken for noise.
const MOST_NOISE: f32 = 0.15;

/// Plans the split of one task until the next plan.
#[must_use]
pub fn plan(seen: &Observations<'_>, tuning: &Tuning) -> Plan {
    let table = Table::of(seen);
    let workers = larger(number(seen.workers.max(1)) * within(seen.pace, 0.0, 10.0), 0.1);
    // A rise counts at once and goes on until the plan arrives; a fall counts when the smoothed rate shows it.
    let smooth = within(seen.rate, 0.0, 1e9);
    let rise = larger(within(seen.last_rate.unwrap_or(0.0), 0.0, 1e9) - smooth, 0.0);
    let ahead = smaller(within(seen.delivery_us, 0.0, 1e9) / larger(tuning.memory_us, 1.0), 2.0);
    let rate = smooth + rise * (1.0 + ahead);
    let idc = within(seen.idc, 0.0, 1e4);
    let deadline = within(seen.deadline_us.unwrap_or(tuning.patience_us), 0.0, 1e12);

    // Jobs and time until this plan is replaced everywhere, and what the workers can give each job.
    let horizon = within(seen.period_us, 1e3, 1e9) + within(seen.delivery_us, 0.0, 1e9);
    let mean = rate * horizon / 1e6;
    let jobs = larger(mean + tuning.z * (idc * mean).sqrt(), 1e-6);
    let late = within(seen.delivery_us, 0.0, 1e9) / within(seen.period_us, 1e3, 1e9);
    let headroom = tuning.headroom * (1.0 - smaller(LATE * late, 0.2));
    let carried = headroom * workers * horizon;
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
    let safe = tuning.absorb * absorbed / peak;
    let wanted = table.hull.level(smaller(by_load, safe));
    let budget_inf = smaller(headroom * workers * 1e6 / larger(rate, 1e-6), safe);
    let cheapest = table.cost(table.hull.pair(0.0).0);
    let saturated = rate * cheapest > tuning.headroom * workers * 1e6;

    // Recovery waits until the backlog is gone; a fall that chance could have made waits until there is one.
    let rested = seen.head_age_us < 0.25 * deadline && work_us / workers < seen.period_us;
    let pressed = work_us > target_us;
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
        usual_us: within(seen.median_deadline_us.or(seen.deadline_us).unwrap_or(0.0), 0.0, 1e12),
        tau0: Plan::default().tau0,
        price: 0.0,
        relax_us: within(pair_cost(x0) / (workers * open * open), period_us, 20.0 * period_us),
        epsilon: 0.0,
        // What comes to the dearest tier of a cascade was selected, and its labels teach nothing of all readings.
        explore: if starts_cheap(seen) { table.n.saturating_sub(1) } else { table.least_labelled() },
        // What is measured, not what it may grow to: refusing is for what is certain.
        reject: shed(seen, (smooth + rise) * cheapest, workers * 1e6, (work_us, workers * deadline)),
        kappa: within(seen.kappa, 0.1, 10.0),
        net_us: within(seen.net_us, 0.0, 1e9),
        net_sd_us: within(seen.net_sd_us, 0.0, 1e9),
        rank_gap: table.rank_gap,
    };
    let gain = (table.right(upper) - table.right(lower)) / larger(table.cost(upper) - table.cost(lower), 1e-3) * 1e6;
    plan.price = price(seen, gain, work_us / larger(target_us, 1.0));
    plan.bias = bias(seen, &plan);
    plan.epsilon = if saturated { 0.0 } else { exploration(seen, tuning, &table, &plan) };
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
    let counted = larger(within(seen.rate, 0.0, 1e9) * seen.period_us / 1e6, 1.0);
    let relative = smaller((within(seen.idc, 0.0, 1e4) / counted).sqrt(), 1.0);
    let noise = hull.level(budget_inf * (1.0 + relative)) - hull.level(budget_inf);
    // A plan that arrives late cannot wait for the backlog to tell noise from a rise.
    let late = within(seen.delivery_us, 0.0, 1e9) / within(seen.period_us, 1e3, 1e9);
    let rise = if rested { tuning.rise * within(seen.elapsed_us, 0.0, 1e7) / 1e6 } else { 0.0 };
    steady::next(
        wanted,
        Steering {
            before: hull.level_of(before.lower, before.upper, before.x0),
            top: hull.top(),
            dead_band: within(tuning.play * noise / (1.0 + larger(late - 0.5, 0.0)), tuning.dead_band, MOST_NOISE),
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

/// A quarter of the error of the share a period, less the later plans arrive, where the split was free to choose.
fn bias(seen: &Observations<'_>, plan: &Plan) -> f32 {
    let (Some(before), Some(realised)) = (seen.previous, seen.realised) else { return 0.0 };
    let free = |share: f32| (0.02..=0.98).contains(&share);
    if before.lower != plan.lower || before.upper != plan.upper || !free(before.x0) || !free(plan.x0) {
        return 0.0;
    }
    let late = within(seen.delivery_us, 0.0, 1e9) / plan.period_us;
    within(before.bias + 0.25 / (1.0 + 2.0 * late) * (logit(before.x0) - logit(unit(realised))), -3.0, 3.0)
}

/// Does the policy send every reading to the cheapest tier first, whatever the split says?
fn starts_cheap(seen: &Observations<'_>) -> bool {
    seen.policy.is_some_and(|policy| policy.kind == PolicyKind::Cascade)
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
        _ if starts_cheap(seen) => 0.0,
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
}
