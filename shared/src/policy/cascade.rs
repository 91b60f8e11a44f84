//! `cascade`: the cheapest tier first, and a dearer one where its answer is not sure enough.
//!
//! Two pure functions. `start` is where a keeper sends a reading; [`again`] says of an answer that is there whether a
//! dearer tier is asked as well, alone or beside `slack-split`, where the time must be worth it. Owns the choice only:
//! who runs the other tier keeps the first answer until there is a better one, so that asking again loses nothing.

use super::decision::{Decision, Mode, Reason};
use super::draw::fraction;
use super::estimate::{FLOOR, on_time};
use super::hull::Hull;
use super::math::{larger, micros, unit, within};
use super::plan::{Plan, Tuning};
use super::profile::{MAX_TIERS, TierModel, ranked};
use super::split::{SURE, look, mode};
use super::threshold::{because, reaches};
use super::{JobSpec, Moment, value_of};
use crate::reading::Priority;
use crate::snapshot::TaskLoad;

/// `CASCADE_BELOW` of the policy `cascade` where nobody sets it.
pub const DEFAULT_CASCADE_BELOW: f32 = 0.8;
/// The least chance to be in time with which a dearer tier is asked.
const LEAST_CHANCE: f32 = 0.9;

/// Which answers a dearer tier is asked for again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cascade {
    /// Those whose confidence is under this, 0..=1.
    pub below: f32,
    /// Those without a confidence where others have one, and those of which the run failed, as well.
    pub fail_accurate: bool,
}

impl Default for Cascade {
    fn default() -> Self {
        Self { below: DEFAULT_CASCADE_BELOW, fail_accurate: true }
    }
}

/// What a tier said of its own answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// How sure it is, 0..=1; a NaN is a confidence that cannot be told.
    Confidence(f32),
    /// Answers of this kind never tell a confidence, as numbers do not.
    Nothing,
    /// There is no answer: its run failed.
    Failed,
}

/// An answer, and what is known at its moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hop<'a> {
    /// The task's tiers, cheapest first.
    pub tiers: &'a [TierModel],
    /// The tier that answered, by position.
    pub answered: usize,
    /// What it said.
    pub said: Said,
    /// How urgent the reading is; also what a right answer is worth.
    pub class: Priority,
    /// Time left for another tier, in microseconds: until the deadline, less the way of the answer; infinite without one.
    pub left_us: f32,
    /// How long another run would wait for a worker of this process, in microseconds.
    pub ahead_us: f32,
    /// The plan beside which time for a second answer must be worth it, with the work of now; none to ask whenever there
    /// is time.
    pub load: Option<&'a Plan>,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This tier, by position, is asked as well.
    Escalate(usize),
    /// It stands.
    Keep(Kept),
}

/// Why an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is sure enough.
    Confident,
    /// Nothing is known of how sure it is.
    Untold,
    /// No dearer tier is known to be better.
    Top,
    /// A dearer tier would hardly be done in time.
    Late,
    /// The time of a dearer tier is worth more to the jobs that wait.
    Load,
}

/// Where a reading starts: on the cheapest tier that reaches what the job asks for, and by a plan's share of exploration
/// on the dearest, whose accuracy could not be learned from the answers that come to it since they were doubtful.
pub(super) fn start(load: &TaskLoad, job: &JobSpec, moment: &Moment) -> Decision {
    let asked =
        job.min_accuracy.and_then(|asked| (0..load.tiers.len()).find(|tier| reaches(&load.tiers, *tier, asked)));
    let (cheap, reason) = match asked {
        Some(tier) if tier > 0 => (tier, Reason::AccuracyAsked),
        _ => (0, Reason::Cascade),
    };
    let Some(plan) = &load.plan else { return because(load, (cheap, reason)) };
    let n = load.tiers.len().min(MAX_TIERS);
    let dearest = n.saturating_sub(1);
    let pair = (plan.lower.min(dearest), plan.upper.min(dearest));
    let (view, _) = look(plan, load, pair, job.deadline_ms.map(micros), moment);
    let mode = mode(plan, moment.age_ms);
    let in_time = view.on_time.get(dearest).is_some_and(|chance| *chance >= SURE);
    let explored = if mode != Mode::Blind && in_time && dearest > cheap { unit(plan.epsilon) } else { 0.0 };
    let (tier, reason, propensity) = if fraction(moment.draws.explore) < explored {
        (dearest, Reason::Explored, explored)
    } else {
        (cheap, reason, 1.0 - explored)
    };
    Decision {
        mode,
        propensity,
        share: explored,
        completion_us: view.completion,
        on_time: view.on_time,
        ..because(load, (tier, reason))
    }
}

/// Is a dearer tier asked for an answer that is there, or that failed?
///
/// The more confident an answer is, the less likely: from some confidence on it stands. A tier that is known to be less
/// accurate than the one that answered is never asked, nor one that would not be done within `left_us`.
#[must_use]
pub fn again(cascade: &Cascade, hop: &Hop<'_>) -> Verdict {
    let tiers = hop.tiers.get(..hop.tiers.len().min(MAX_TIERS)).unwrap_or_default();
    // Nothing is in doubt where `below` is no number.
    let is_doubtful = |sure: f32| sure < cascade.below;
    match hop.said {
        Said::Nothing => return Verdict::Keep(Kept::Untold),
        Said::Confidence(sure) if sure.is_nan() && !cascade.fail_accurate => return Verdict::Keep(Kept::Untold),
        Said::Failed if !cascade.fail_accurate => return Verdict::Keep(Kept::Untold),
        Said::Confidence(sure) if !sure.is_nan() && !is_doubtful(sure) => return Verdict::Keep(Kept::Confident),
        Said::Confidence(_) | Said::Failed => {}
    }
    let Some((to, dear)) = dearer(tiers, hop).and_then(|to| Some((to, tiers.get(to)?))) else {
        return Verdict::Keep(Kept::Top);
    };
    let done = within(hop.ahead_us, 0.0, 1e12) + dear.profile.batch_us(1);
    let spread = larger(dear.profile.sd(), FLOOR * done);
    let left = if hop.left_us.is_nan() { 0.0 } else { hop.left_us };
    let kappa = hop.load.map_or(1.0, |plan| within(plan.kappa, 0.1, 10.0));
    let chance = if left == f32::INFINITY { 1.0 } else { on_time((done, larger(spread, 1.0)), Some(left), kappa) };
    if chance < LEAST_CHANCE {
        return Verdict::Keep(Kept::Late);
    }
    match hop.load {
        Some(plan) if !is_worth(tiers, hop, plan, (to, dear, chance)) => Verdict::Keep(Kept::Load),
        _ => Verdict::Escalate(to),
    }
}

/// The dearest tier that earns its cost; by a plan the dearer of the two in use.
fn dearer(tiers: &[TierModel], hop: &Hop<'_>) -> Option<usize> {
    let dearest = tiers.len().checked_sub(1)?;
    let to = match hop.load {
        Some(plan) => plan.upper.min(dearest),
        None => Hull::of_models(tiers, Tuning::RANK_GAP).dearest(),
    };
    let known = |tier: usize| tiers.get(tier).and_then(|tier| tier.accuracy).filter(|right| right.is_finite());
    let worse = known(to).zip(known(hop.answered)).is_some_and(|(dear, own)| dear < own);
    (to > hop.answered && !worse).then_some(to)
}

/// Is what the dearer tier may add worth its time by the plan, and the backlog such that there is any to spare?
fn is_worth(tiers: &[TierModel], hop: &Hop<'_>, plan: &Plan, (to, dear, chance): (usize, &TierModel, f32)) -> bool {
    // A share of jobs is planned so that the backlog keeps to its target; second answers are beside that plan, so they
    // end where the target is reached, whatever they are worth.
    let work_us = larger(larger(plan.work_us, 0.0), larger(hop.ahead_us, 0.0) * larger(plan.workers, 0.1));
    if plan.mode == Mode::Saturated || work_us > larger(plan.target_us, 0.0) {
        return false;
    }
    let mut known = [None; MAX_TIERS];
    for (known, tier) in known.iter_mut().zip(tiers) {
        *known = tier.accuracy;
    }
    let right = ranked(known.get(..tiers.len()).unwrap_or_default(), unit(plan.rank_gap));
    let of = |tier: usize| right.get(tier).copied().unwrap_or(0.0);
    let sure = match hop.said {
        Said::Confidence(sure) if !sure.is_nan() => unit(sure),
        Said::Confidence(_) | Said::Nothing => of(hop.answered),
        Said::Failed => 0.0,
    };
    let gain = within(of(to) - sure, 0.0, 1.0 - sure);
    value_of(hop.class) * chance * gain > larger(plan.price, 0.0) * dear.profile.server_us() / 1e6
}

#[cfg(test)]
mod tests;
