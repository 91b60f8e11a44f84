//! Whether a job had better be refused at once, and when its sender should come back.
//!
//! Advice only: first degrade, then shed by class, then refuse what comes too late by any tier.

use super::draw::{fraction, mix};
use super::estimate::Outlook;
use super::math::{count, larger, number, within};
use super::plan::Plan;
use super::{JobSpec, Moment};
use crate::reading::Priority;

/// Longest time to wait that is advised, in milliseconds.
const LONGEST_MS: f32 = 60_000.0;

/// When to come back, in milliseconds; none where the job is welcome. `best` is its best chance to be in time.
pub(super) fn refuse(plan: &Plan, job: &JobSpec, moment: &Moment, outlook: &Outlook, best: f32) -> Option<u32> {
    let (class, least) = match job.class {
        Priority::High => (0, 0.0),
        Priority::Normal => (1, 0.5),
        Priority::Low => (2, 0.5),
    };
    let shed = plan.reject.get(class).copied().unwrap_or(0.0);
    if best >= least && fraction(moment.draws.admit) >= shed {
        return None;
    }
    let over = larger(outlook.work_us - plan.target_us, 0.0) / number(plan.workers.max(1));
    let jitter = fraction(mix(moment.draws.admit)) * plan.period_us;
    Some(count(within((over + jitter) / 1_000.0, 1.0, LONGEST_MS)))
}
