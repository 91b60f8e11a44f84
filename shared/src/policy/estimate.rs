//! When a tier would be done with a job, and the chance that this is in time.
//!
//! Dead reckoning from the picture's age and from what this keeper has sent since, then the wait
//! behind the work of all workers, then the job's own batch.

use super::math::{count, larger, logistic, micros, number, within};
use super::plan::Plan;
use super::profile::Profile;

/// `logistic(1.702 x)` is the normal distribution function within 0.01.
pub(super) const NORMAL: f32 = 1.702;
/// A keeper's own count weighs as much as the plan's once it is this many jobs.
const PRIOR_JOBS: f32 = 4.0;
/// The share of completion that no measured spread explains.
pub(super) const FLOOR: f32 = 0.02;

/// What a job that is sent now would find.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    /// Work of all workers that lies before it, in microseconds.
    pub(super) work_us: f32,
    /// The jobs that come now, in jobs a microsecond: as planned, or more where this keeper sees a surge.
    pub(super) rate: f32,
    /// A surge that chance does not explain is on.
    pub(super) surge: bool,
    wait_us: f32,
    variance: f32,
    /// Depths now, as a multiple of those in the picture.
    stretch: f32,
}

impl Outlook {
    /// The outlook by a plan of that age, with a mean cost of a job in microseconds.
    pub(super) fn of(plan: &Plan, mean_us: f32, age_ms: u64, sent: u32) -> Self {
        let age = within(micros(age_ms), 0.0, 1e12);
        let workers = larger(plan.workers, 0.1);
        let keepers = number(plan.isolates.max(1));
        let planned = larger(plan.rate, 0.0) / 1e6;

        // What this keeper should have sent, what it did send, and what all have sent by both.
        let own = planned * age / keepers;
        let sent = number(sent);
        let surge = sent > own + 2.0 * own.sqrt() + 1.0;
        let surely = sent - 2.0 * (sent + 1.0).sqrt();
        let seen = larger(own * (PRIOR_JOBS + sent) / (PRIOR_JOBS + own), surely);
        let arrived = seen * keepers;
        let rate = if surge { larger(planned, arrived / larger(age, 1_000.0)) } else { planned };

        let before = larger(plan.work_us, 0.0);
        let work_us = within(before + arrived * mean_us - age * workers, 0.0, 1e12);
        let residual = larger(plan.residual_us, 0.0);
        let drift = mean_us / workers;
        let variance = residual * residual
            + larger(plan.idc, 0.0) * planned * age * drift * drift
            + plan.net_sd_us * plan.net_sd_us;
        let stretch = if before > 1.0 { within(work_us / before, 0.0, 1e3) } else { 1.0 };
        Self { work_us, rate, surge, wait_us: work_us / workers + residual, variance, stretch }
    }

    /// When a tier would be done, in microseconds, and the standard deviation of that.
    pub(super) fn completion(&self, plan: &Plan, profile: &Profile, depth: u32) -> (f32, f32) {
        let workers = larger(plan.workers, 0.1);
        let waiting = number(depth) * self.stretch;
        let beside = within((waiting / workers).ceil(), 0.0, number(profile.cap()));
        let batch = (1 + count(beside)).min(profile.cap());
        let done = larger(plan.net_us, 0.0) + self.wait_us + profile.batch_us(batch);
        let run = profile.sd() * profile.sd() * (1.0 + waiting / (workers * number(profile.cap())));
        let floor = FLOOR * done;
        (done, larger(self.variance + run + floor * floor, 1.0).sqrt())
    }
}

/// The chance to be done by a deadline; 1 where there is none.
pub(super) fn on_time((done_us, sd_us): (f32, f32), deadline_us: Option<f32>, kappa: f32) -> f32 {
    deadline_us.map_or(1.0, |deadline_us| logistic(NORMAL * kappa * (deadline_us - done_us) / sd_us))
}
