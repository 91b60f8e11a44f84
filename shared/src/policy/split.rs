//! `slack-split` at a keeper: one job by the published plan.
//!
//! The share says how many jobs get the dearer tier, the utility gap says which: those with the
//! most slack and value. The older the picture, the less the gap counts, down to a plain share that
//! every keeper has in common.

use super::admit;
use super::decision::{Decision, Mode, Reason};
use super::draw::{fraction, mix};
use super::estimate::{NORMAL, Outlook, on_time};
use super::math::{fade, larger, logistic, logit, micros, smaller, unit, within};
use super::plan::{HEADROOM, Plan};
use super::profile::{MAX_TIERS, Profile, TierModel, ranked};
use super::threshold::reaches;
use super::{JobSpec, Moment, value_of};
use crate::snapshot::{TaskLoad, TierLoad};

/// Periods of age after which a picture is stale, and after which it is none.
const STALE: f32 = 2.0;
const BLIND: f32 = 20.0;
/// The chance on time that a job must have on a tier to explore it.
pub(super) const SURE: f32 = 0.99;
/// How many labels what is stated of a tier weighs as much as.
const PRIOR_LABELS: f32 = 20.0;
/// A tilt beyond this many logits says no more.
const MOST_TILT: f32 = 4.0;

/// What the keeper knows of the tiers, side by side.
pub(super) struct View {
    tiers: usize,
    right: [f32; MAX_TIERS],
    labels: [f32; MAX_TIERS],
    cost: [f32; MAX_TIERS],
    pub(super) completion: [f32; MAX_TIERS],
    spread: [f32; MAX_TIERS],
    pub(super) on_time: [f32; MAX_TIERS],
}

impl View {
    fn utility(&self, tier: usize) -> f32 {
        at(&self.right, tier) * at(&self.on_time, tier)
    }
}

fn at(values: &[f32; MAX_TIERS], tier: usize) -> f32 {
    values.get(tier).copied().unwrap_or(0.0)
}

/// The split between two tiers for one job.
struct Split {
    lower: usize,
    upper: usize,
    /// The share that was aimed at.
    share: f32,
    /// The probability of the dearer tier.
    p: f32,
    /// Why the cheaper one, where it is.
    cheap: Reason,
}

/// Decides for one job by a plan; `pinned` is a tier that exists.
pub(super) fn decide(plan: &Plan, load: &TaskLoad, job: &JobSpec, pinned: Option<usize>, moment: &Moment) -> Decision {
    let n = load.tiers.len().min(MAX_TIERS);
    let dearest = n.saturating_sub(1);
    let (lower, upper) = (plan.lower.min(dearest), plan.upper.min(dearest));
    let deadline = job.deadline_ms.map(micros);
    let (view, outlook) = look(plan, load, (lower, upper), deadline, moment);
    let mode = mode(plan, moment.age_ms);

    let split = if mode == Mode::Blind {
        blind(plan, &load.tiers, (lower, upper), deadline)
    } else {
        informed(plan, &view, &outlook, job, moment, (lower, upper))
    };
    let judge = mode != Mode::Blind;
    let settle = |tier| settle(&view, &load.tiers, job, tier, judge);
    let explore = plan.explore.min(dearest);
    let explored = if judge && at(&view.on_time, explore) >= SURE { unit(plan.epsilon) } else { 0.0 };
    let branches = [
        (explore, explored, Reason::Explored),
        (split.upper, (1.0 - explored) * split.p, Reason::SplitDear),
        (split.lower, (1.0 - explored) * (1.0 - split.p), split.cheap),
    ];
    let [by_chance, dear, cheap] = branches;
    let (wanted, _, because) = if fraction(moment.draws.explore) < explored {
        by_chance
    } else if fraction(moment.draws.split) < split.p {
        dear
    } else {
        cheap
    };
    let (tier, reason, propensity) = match pinned {
        Some(tier) => (tier, Reason::CallerPinned, 1.0),
        None => {
            let (tier, overruled) = settle(wanted);
            let same = branches.iter().filter(|branch| branch.1 > 0.0 && settle(branch.0).0 == tier);
            (tier, overruled.unwrap_or(because), unit(same.map(|branch| branch.1).fold(0.0, |sum, p| sum + p)))
        }
    };
    let alone = |tier: &TierLoad| larger(plan.net_us, 0.0) + tier.profile().batch_us(1);
    let too_long = |tier: &TierLoad| deadline.is_some_and(|deadline| alone(tier) > deadline);
    let hopeless = match pinned {
        Some(tier) => load.tiers.get(tier).is_some_and(too_long),
        None => load.tiers.iter().take(n).all(too_long),
    };
    // What is behind the last tier of which there are numbers is not judged.
    let judged = judge && tier < n;
    let young = micros(moment.age_ms) <= STALE * plan.period_us;
    let refused = if judged { admit::refuse(plan, job, moment, &outlook, (hopeless, young)) } else { None };
    Decision {
        tier,
        reason,
        mode,
        depth: load.depth(),
        accuracy: load.tiers.get(tier).and_then(|tier| tier.accuracy),
        propensity,
        share: split.share,
        completion_us: view.completion,
        on_time: view.on_time,
        refuse: refused.map(|(after_ms, _)| after_ms),
        shed: refused.is_some_and(|(_, is_shed)| is_shed),
    }
}

/// How much is known with a picture of that age.
pub(super) fn mode(plan: &Plan, age_ms: u64) -> Mode {
    let periods = micros(age_ms) / larger(plan.period_us, 1.0);
    match periods {
        periods if periods > BLIND => Mode::Blind,
        periods if periods > STALE => Mode::Stale,
        _ => plan.mode,
    }
}

/// What each tier costs, how often it is right, and when it would be done.
pub(super) fn look(
    plan: &Plan,
    load: &TaskLoad,
    (lower, upper): (usize, usize),
    deadline: Option<f32>,
    moment: &Moment,
) -> (View, Outlook) {
    let n = load.tiers.len().min(MAX_TIERS);
    let mut known = [None; MAX_TIERS];
    let mut cost = [0.0; MAX_TIERS];
    let mut labels = [0.0; MAX_TIERS];
    for (((tier, known), cost), labels) in load.tiers.iter().zip(&mut known).zip(&mut cost).zip(&mut labels) {
        *known = tier.accuracy;
        *cost = tier.profile().server_us();
        *labels = tier.labels;
    }
    let mut view = View {
        tiers: n,
        right: ranked(known.get(..n).unwrap_or_default(), unit(plan.rank_gap)),
        labels,
        cost,
        completion: [0.0; MAX_TIERS],
        spread: [0.0; MAX_TIERS],
        on_time: [0.0; MAX_TIERS],
    };
    let (cheap, dear) = (at(&cost, lower), at(&cost, upper));
    let outlook = Outlook::of(plan, cheap + unit(plan.x0) * (dear - cheap), moment.age_ms, moment.sent);
    let places = view.completion.iter_mut().zip(&mut view.spread).zip(&mut view.on_time);
    for (tier, ((completion, spread), chance)) in load.tiers.iter().zip(places) {
        let done = outlook.completion(plan, &tier.profile(), tier.depth);
        (*completion, *spread) = done;
        *chance = on_time(done, deadline, plan.kappa);
    }
    (view, outlook)
}

/// M2: the share that needs no picture, for jobs that leave three times what the dearer tier takes.
fn blind(plan: &Plan, tiers: &[TierLoad], (lower, upper): (usize, usize), deadline: Option<f32>) -> Split {
    let alone = tiers.get(upper).map_or(0.0, |tier| tier.profile().batch_us(1));
    let open = deadline.is_none_or(|deadline| deadline >= 3.0 * alone);
    let share = unit(plan.x_inf);
    let cheap = if open { Reason::SplitCheap } else { Reason::DeadlineTight };
    Split { lower, upper, share, p: if open && lower != upper { share } else { 0.0 }, cheap }
}

fn informed(
    plan: &Plan,
    view: &View,
    outlook: &Outlook,
    job: &JobSpec,
    moment: &Moment,
    (lower, upper): (usize, usize),
) -> Split {
    let share = share(plan, view, outlook, moment.age_ms, (lower, upper));
    let saturated = plan.mode == Mode::Saturated;
    let none = |cheap| Split { lower, upper, share, p: 0.0, cheap };
    if lower == upper {
        return none(if saturated { Reason::Saturated } else { Reason::SplitCheap });
    }
    let extra = at(&view.cost, upper) - at(&view.cost, lower);
    let value = value_of(job.class);
    let gain = |(low, high): (f32, f32)| high * at(&view.on_time, upper) - low * at(&view.on_time, lower);
    let price = plan.price * extra / 1e6;
    let known = (at(&view.right, lower), at(&view.right, upper));
    let gap = value * gain(known) - price;
    let drawn = sampled(view, (lower, upper), moment.draws.sample);
    if value * gain(drawn) <= price {
        return none(match () {
            () if drawn.1 <= drawn.0 => Reason::AccuracyLow,
            () if gain(drawn) <= 0.0 => Reason::DeadlineTight,
            () => Reason::PriceHigh,
        });
    }
    let cheap = if saturated { Reason::Saturated } else { Reason::SplitCheap };
    if share <= 0.0 {
        return none(cheap);
    }
    if share >= 1.0 {
        return Split { lower, upper, share, p: 1.0, cheap };
    }
    let age = micros(moment.age_ms) / larger(plan.period_us, 1.0);
    let sharpness = 1.0 / (larger(plan.tau0, 1e-3) * (1.0 + age));
    // Held against the usual job in the same outlook: what is alike gets the share itself, however old the picture.
    let usual = {
        let deadline = (plan.usual_us > 0.0).then_some(plan.usual_us);
        let chance = |tier| on_time((at(&view.completion, tier), at(&view.spread, tier)), deadline, plan.kappa);
        known.1 * chance(upper) - known.0 * chance(lower) - price
    };
    let tilt = within((gap - usual) * sharpness, -MOST_TILT, MOST_TILT);
    Split { lower, upper, share, p: logistic(logit(share) + within(plan.bias, -4.0, 4.0) + tilt), cheap }
}

/// The accuracies of both tiers as one draw from what is known of them, while labels do not tell them apart (Thompson).
///
/// Without a single label the statement stands: drawing would cost right answers and teach nothing.
fn sampled(view: &View, (lower, upper): (usize, usize), draw: u64) -> (f32, f32) {
    let known = (at(&view.right, lower), at(&view.right, upper));
    let labels = (at(&view.labels, lower), at(&view.labels, upper));
    if larger(labels.0, labels.1) < 1.0 {
        return known;
    }
    let variance = |right: f32, labels: f32| right * (1.0 - right) / (larger(labels, 0.0) + PRIOR_LABELS);
    let (low, high) = (variance(known.0, labels.0), variance(known.1, labels.1));
    let apart = known.1 - known.0;
    if apart * apart >= 4.0 * (low + high) {
        return known;
    }
    let normal = |draw: u64| logit(fraction(draw)) / NORMAL;
    (unit(known.0 + normal(draw) * low.sqrt()), unit(known.1 + normal(mix(draw)) * high.sqrt()))
}

/// The share at this age: from what the queue allows to what the hardware alone allows; less at once in a surge.
fn share(plan: &Plan, view: &View, outlook: &Outlook, age_ms: u64, (lower, upper): (usize, usize)) -> f32 {
    let late = larger(micros(age_ms) - plan.period_us, 0.0) / larger(plan.relax_us, 1.0);
    let faded = unit(plan.x_inf) + (unit(plan.x0) - unit(plan.x_inf)) * fade(late);
    if !outlook.surge {
        return unit(faded);
    }
    let (cheap, dear) = (at(&view.cost, lower), at(&view.cost, upper));
    let budget = HEADROOM * larger(plan.workers, 0.1) / larger(outlook.rate, 1e-9);
    smaller(unit(faded), unit((budget - cheap) / larger(dear - cheap, 1e-3)))
}

/// The tier that a wanted one comes to for this job, and why another where it is.
fn settle(view: &View, tiers: &[TierLoad], job: &JobSpec, wanted: usize, judge: bool) -> (usize, Option<Reason>) {
    let mut choice = (wanted, None);
    if let Some(asked) = job.min_accuracy
        && !reaches(tiers, wanted, asked)
        && let Some(tier) = (wanted..view.tiers).find(|tier| reaches(tiers, *tier, asked))
    {
        choice = (tier, Some(Reason::AccuracyAsked));
    }
    // Where the tier would come too late for most such jobs, the one below it that is right in time most often.
    if judge && at(&view.on_time, choice.0) < 0.5 {
        let best =
            (0..=choice.0).reduce(|best, tier| if view.utility(tier) > view.utility(best) { tier } else { best });
        if let Some(tier) = best.filter(|tier| *tier != choice.0) {
            choice = (tier, Some(Reason::DeadlineTight));
        }
    }
    choice
}

impl TierLoad {
    /// The profile to reckon with: the measured one, else the mean with a margin, else one without cost.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let mean = |us: u32| Profile::from_mean(super::math::number(us));
        self.measured.or_else(|| self.service_us.map(mean)).unwrap_or_default()
    }

    /// Cost and accuracy, as plans and bindings take them.
    #[must_use]
    pub fn model(&self) -> TierModel {
        TierModel { profile: self.profile(), accuracy: self.accuracy, n_eff: self.labels }
    }
}
