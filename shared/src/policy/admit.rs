//! Whether a job had better be refused at once, and when its sender should come back.
//!
//! Advice only, and only where it is certain: a picture that is some hundred milliseconds old cannot know that a job will
//! be late, because workers bind again and clear a backlog several times faster than it was hinted. So what is refused is
//! what an empty queue could not serve in time, and the share that the plan sheds because no tier can carry the load.

use super::draw::{fraction, mix};
use super::estimate::Outlook;
use super::math::{count, larger, within};
use super::plan::Plan;
use super::{JobSpec, Moment};
use crate::reading::Priority;

/// Longest time to wait that is advised, in milliseconds.
const LONGEST_MS: f32 = 60_000.0;

/// When to come back, in milliseconds, and whether that is because the job's class is shed; none where the job is welcome.
///
/// `hopeless` says that it would be late even alone, `young` that the plan is of now: what an old one sheds is a burst
/// that may be over.
pub(super) fn refuse(
    plan: &Plan,
    job: &JobSpec,
    moment: &Moment,
    outlook: &Outlook,
    (hopeless, young): (bool, bool),
) -> Option<(u32, bool)> {
    let class = Priority::ALL.iter().position(|class| *class == job.class).unwrap_or(0);
    let shed = if young { plan.reject.get(class).copied().unwrap_or(0.0) } else { 0.0 };
    let is_shed = fraction(moment.draws.admit) < shed;
    if !hopeless && !is_shed {
        return None;
    }
    let over = larger(outlook.work_us - plan.target_us, 0.0) / larger(plan.workers, 0.1);
    let jitter = fraction(mix(moment.draws.admit)) * plan.period_us;
    Some((count(within((over + jitter) / 1_000.0, 1.0, LONGEST_MS)), is_shed))
}
