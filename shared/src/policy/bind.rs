//! Binding at the worker: which tier each claimed job really runs on, and in which batches.
//!
//! The last decision and the best informed one: the queue is seen as it is now. Urgent jobs run
//! first and cheap, those with slack last and dear, as many as fit without making anything late that
//! is claimed or waits behind. Owns no clock and no queue; buffers are the caller's.

mod pack;
mod protect;

pub use protect::{Behind, QUANTILES};

use super::hull::Hull;
use super::math::number;
use super::profile::{MAX_TIERS, TierModel};
use super::value_of;
use crate::reading::Priority;

/// A tier has to gain this much accuracy over a cheaper one to be worth its time.
const RANK_GAP: f32 = super::plan::Tuning::RANK_GAP;

/// One claimed job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claimed {
    /// Time left for running it, in microseconds: until its deadline, less the way of the answer; infinite without one.
    pub slack_us: f32,
    /// How urgent it is; also what a right answer is worth.
    pub class: Priority,
    /// The tier that it must run on: named by the caller, or by a keeper to explore.
    pub pinned: Option<u8>,
    /// The cheapest tier that reaches the accuracy the caller asked for; 0 for no wish.
    pub floor: u8,
    /// The tier that was advised; of equal jobs the one with the dearer advice is lifted first.
    pub hint: u8,
}

impl Default for Claimed {
    fn default() -> Self {
        Self { slack_us: f32::INFINITY, class: Priority::Normal, pinned: None, floor: 0, hint: 0 }
    }
}

/// Jobs that run together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batch {
    /// The tier they run on.
    pub tier: u8,
    /// Where its jobs start in [`Batches::jobs`].
    pub first: u32,
    /// How many they are, at most the tier's cap.
    pub len: u32,
    /// When it is done, in microseconds from now, as the profile has it.
    pub done_us: f32,
}

/// The result of [`bind`], and its buffers: reused, they allocate nothing.
#[derive(Debug, Default)]
pub struct Batches {
    /// Positions of the claimed jobs in the order in which they run.
    pub jobs: Vec<u32>,
    /// The runs, in order. A run may come too late for jobs that nothing could have served in time beside the others:
    /// whoever runs it judges deadlines again at its start.
    pub runs: Vec<Batch>,
    /// Positions of the jobs that cannot be done in time even if they ran alone at once; where more wait behind than a
    /// run holds, also of those that a full run of the cheapest tier would make late.
    pub expired: Vec<u32>,
    places: Vec<Place>,
}

/// A job on its way into a batch; sorted by slack.
#[derive(Debug, Clone, Copy)]
struct Place {
    slack_us: f32,
    job: u32,
    tier: u8,
    movable: bool,
    value: f32,
}

impl Batches {
    /// Buffers for that many jobs.
    #[must_use]
    pub fn with_capacity(jobs: usize) -> Self {
        Self {
            jobs: Vec::with_capacity(jobs),
            runs: Vec::with_capacity(jobs),
            expired: Vec::with_capacity(jobs),
            places: Vec::with_capacity(jobs),
        }
    }

    /// The positions of one run's jobs.
    #[must_use]
    pub fn jobs_of(&self, run: &Batch) -> &[u32] {
        let at = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        self.jobs.get(at(run.first)..at(run.first.saturating_add(run.len))).unwrap_or_default()
    }
}

/// The constants of binding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BindTuning {
    /// Standard deviations of a run's time that are kept free.
    pub sigmas: f32,
    /// While others wait, a dear job may cost this multiple of what it costs in full batches; else it is left cheap.
    pub waste: f32,
    /// The share of the time that protection leaves which may be used.
    pub fill: f32,
    /// The share of a new job's time that a full run may take, beside a cheap one.
    pub half: f32,
    /// The share of it that a full run of the cheapest tier may take.
    pub cheap_half: f32,
}

impl Default for BindTuning {
    fn default() -> Self {
        Self { sigmas: 3.0, waste: 1.03, fill: 1.0, half: 0.65, cheap_half: 0.5 }
    }
}

/// Binds claimed jobs to tiers and batches, from what waits behind them; `out` is overwritten.
///
/// Best with claims of at most one full run of the dear tier, by deadline: the worker then decides again after every run.
/// Without tiers every job is left in `out.jobs` and no run is made.
pub fn bind(claimed: &[Claimed], tiers: &[TierModel], behind: &Behind, out: &mut Batches) {
    bind_with(claimed, tiers, behind, &BindTuning::default(), out);
}

/// [`bind`] with other constants.
pub fn bind_with(claimed: &[Claimed], tiers: &[TierModel], behind: &Behind, tuning: &BindTuning, out: &mut Batches) {
    let tiers = tiers.get(..tiers.len().min(MAX_TIERS)).unwrap_or_default();
    out.jobs.clear();
    out.runs.clear();
    out.expired.clear();
    out.places.clear();
    if tiers.is_empty() {
        out.jobs.extend((0_u32..).zip(claimed).map(|(job, _)| job));
        return;
    }
    let mut fitted = [TierModel::default(); MAX_TIERS];
    let tiers = behind.fit(tiers, tuning.cheap_half, &mut fitted);
    place(claimed, tiers, (behind, tuning), out);
    let hull = Hull::of_models(tiers, RANK_GAP);
    let limit = tuning.fill * behind.limit_us(tiers, hull.pair(0.0).0, tuning.sigmas);
    lift(&mut out.places, tiers, &hull, behind, (limit, tuning));
    pack::pack(tiers, tuning.sigmas, out);
}

/// Sorts what can be done by slack, each job on the cheapest tier it may run on.
fn place(claimed: &[Claimed], tiers: &[TierModel], (behind, tuning): (&Behind, &BindTuning), out: &mut Batches) {
    let alone = |tier: u8| tiers.get(usize::from(tier)).map_or(f32::INFINITY, |tier| tier.profile.batch_us(1));
    let (cheapest, least) = (0_u8..)
        .zip(tiers)
        .fold((0, f32::INFINITY), |best, (tier, _)| if alone(tier) < best.1 { (tier, alone(tier)) } else { best });
    // Where more wait than one run holds, time spent on small runs for the last moment of a few makes many late.
    let cheap = tiers.get(usize::from(cheapest)).copied().unwrap_or_default().profile;
    let waiting = u32::try_from(claimed.len()).unwrap_or(u32::MAX).saturating_add(behind.count);
    let crowded = behind.count > 0 && waiting > cheap.cap();
    let least = if crowded { cheap.batch_us(cheap.cap()) + tuning.sigmas * cheap.sd() } else { least };
    for (job, claim) in (0_u32..).zip(claimed) {
        let slack_us = if claim.slack_us.is_nan() { 0.0 } else { claim.slack_us };
        let exists = |tier: &u8| usize::from(*tier) < tiers.len();
        let pinned = claim.pinned.filter(exists);
        if slack_us < pinned.map_or(least, alone) {
            out.expired.push(job);
            continue;
        }
        let floor = Some(claim.floor).filter(exists).filter(|floor| *floor > 0 && alone(*floor) <= slack_us);
        let hint = if claim.hint > 0 { 0.01 } else { 0.0 };
        out.places.push(Place {
            slack_us,
            job,
            tier: pinned.or(floor).unwrap_or(cheapest),
            movable: pinned.is_none(),
            value: value_of(claim.class) + hint,
        });
    }
    out.places.sort_unstable_by(|a, b| a.slack_us.total_cmp(&b.slack_us).then(a.job.cmp(&b.job)));
}

/// Lifts as many jobs as fit up the hull, step by step: to a step only once all that can stand on it do.
fn lift(places: &mut [Place], tiers: &[TierModel], hull: &Hull, behind: &Behind, (limit, tuning): (f32, &BindTuning)) {
    let mut step = 0.0;
    while step < hull.top() {
        let (low, high, _) = hull.pair(step);
        let (Ok(low), Ok(high)) = (u8::try_from(low), u8::try_from(high)) else { return };
        let free = places.iter().filter(|place| place.movable && place.tier == low).count();
        let lifted = most(places, tiers, (low, high), free, (limit, tuning));
        let lifted = if behind.count > 0 { worth(lifted, free, tiers, (low, high), (behind, tuning)) } else { lifted };
        raise(places, (low, high), lifted);
        swap_by_value(places, tiers, (low, high), tuning.sigmas);
        if lifted < free || free == 0 {
            return;
        }
        step += 1.0;
    }
}

/// The most jobs that can go from `low` to `high` with everything in time: found by halving.
fn most(
    places: &mut [Place],
    tiers: &[TierModel],
    (low, high): (u8, u8),
    free: usize,
    (limit, tuning): (f32, &BindTuning),
) -> usize {
    let noise = tuning.sigmas * tiers.get(usize::from(high)).map_or(0.0, |tier| tier.profile.sd());
    let (mut fits, mut over) = (0, free + 1);
    while fits + 1 < over {
        let middle = fits + (over - fits) / 2;
        raise(places, (low, high), middle);
        let (in_time, total_us) = pack::check(places, tiers, tuning.sigmas);
        lower(places, (low, high), middle);
        if in_time && total_us + noise <= limit {
            fits = middle;
        } else {
            over = middle;
        }
    }
    fits
}

/// The most of `lifted` whose runs are full: while others wait, a run that is mostly overhead buys fewer right answers
/// than the same time a little later, when as many wait as fill it.
fn worth(
    lifted: usize,
    free: usize,
    tiers: &[TierModel],
    (low, high): (u8, u8),
    (behind, tuning): (&Behind, &BindTuning),
) -> usize {
    let model = |tier: u8| tiers.get(usize::from(tier)).copied().unwrap_or_default().profile;
    let (low, high) = (model(low), model(high));
    let count = |jobs: usize| u32::try_from(jobs).unwrap_or(u32::MAX);
    let whole = behind.full_run(&low, &high, tuning.half);
    let dear = tuning.waste * (high.batch_us(whole) - low.batch_us(whole)) / number(whole);
    let full = |jobs: &usize| {
        let after = low.batch_us(count(free - jobs)) + high.batch_us(count(*jobs));
        after - low.batch_us(count(free)) <= dear * number(count(*jobs))
    };
    let cap = usize::try_from(high.cap()).unwrap_or(usize::MAX);
    [lifted, lifted - lifted % cap].into_iter().find(full).unwrap_or(0)
}

/// Moves the `n` movable jobs with most slack from `low` to `high`.
fn raise(places: &mut [Place], (low, high): (u8, u8), n: usize) {
    let movable = places.iter_mut().rev().filter(|place| place.movable && place.tier == low);
    movable.take(n).for_each(|place| place.tier = high);
}

/// Undoes [`raise`].
fn lower(places: &mut [Place], (low, high): (u8, u8), n: usize) {
    let raised = places.iter_mut().rev().filter(|place| place.movable && place.tier == high);
    raised.take(n).for_each(|place| place.tier = low);
}

/// Gives dear places to the jobs that are worth most, where their slack allows any place.
fn swap_by_value(places: &mut [Place], tiers: &[TierModel], (low, high): (u8, u8), sigmas: f32) {
    let values = || places.iter().filter(|place| place.movable).map(|place| place.value);
    let first = values().next().unwrap_or_default();
    if values().all(|value| value.total_cmp(&first).is_eq()) {
        return;
    }
    let (_, total_us) = pack::check(places, tiers, sigmas);
    loop {
        let held = |place: &&mut Place| place.movable && place.tier == high;
        let best = |a: &Place, b: &Place| a.value > b.value || (a.value >= b.value && a.slack_us > b.slack_us);
        let wanting = places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.movable && place.tier == low && place.slack_us >= total_us);
        let wanting = wanting.reduce(|a, b| if best(b.1, a.1) { b } else { a }).map(|(at, place)| (at, place.value));
        let giving = places.iter_mut().filter(held).reduce(|a, b| if b.value < a.value { b } else { a });
        let (Some((at, value)), Some(giving)) = (wanting, giving) else { return };
        if value <= giving.value {
            return;
        }
        giving.tier = low;
        if let Some(wanting) = places.get_mut(at) {
            wanting.tier = high;
        }
    }
}
