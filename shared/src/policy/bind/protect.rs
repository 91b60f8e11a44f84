//! How long one worker may be busy without making what waits behind it late.

use crate::policy::math::{count, larger, number, smaller, within};
use crate::policy::profile::{MAX_TIERS, Profile, TierModel};

/// How many points of the slack of what waits are known.
pub const QUANTILES: usize = 5;

/// What stays in the queue behind the claimed jobs, and who shares it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behind {
    /// Jobs that wait behind the claimed ones.
    pub count: u32,
    /// Their slack in microseconds at the quantiles 0, 1/4, 1/2, 3/4 and 1 of the order in which they will be served.
    pub slack_us: [f32; QUANTILES],
    /// Arrivals a second.
    pub rate: f32,
    /// Index of dispersion of the arrivals' counts.
    pub idc: f32,
    /// The slack of a job that arrives now.
    pub deadline_us: f32,
    /// Live workers that share the queue, this one included; at least 1.
    pub workers: u32,
}

impl Default for Behind {
    /// Nothing waits, nothing comes.
    fn default() -> Self {
        Self {
            count: 0,
            slack_us: [f32::INFINITY; QUANTILES],
            rate: 0.0,
            idc: 1.0,
            deadline_us: f32::INFINITY,
            workers: 1,
        }
    }
}

impl Behind {
    /// What waits where only the slacks of the oldest and of the newest waiting job are known: evenly between.
    #[must_use]
    pub fn between(count: u32, head_us: f32, newest_us: f32) -> Self {
        let point = |quarter: f32| head_us + (newest_us - head_us) * quarter / 4.0;
        let between = [head_us, point(1.0), point(2.0), point(3.0), newest_us];
        let known = head_us.is_finite() && newest_us.is_finite();
        Self { count, slack_us: if known { between } else { [head_us; QUANTILES] }, ..Self::default() }
    }

    /// The longest time that this worker may take, if each worker does the same and then serves its part of what waits
    /// on the cheapest tier.
    pub(super) fn limit_us(&self, tiers: &[TierModel], cheapest: usize, sigmas: f32) -> f32 {
        let cheap = tiers.get(cheapest).copied().unwrap_or_default().profile;
        let workers = number(self.workers.max(1));
        let mut limit = f32::INFINITY;
        if self.count > 0 {
            let mut quarter = 0.0;
            for slack in self.slack_us {
                let place = 1.0 + number(self.count - 1) * quarter / 4.0;
                limit = smaller(limit, slack - self.after_us(&cheap, place / workers, sigmas));
                quarter += 1.0;
            }
        }
        smaller(limit, self.arrivals_us(&cheap, workers, sigmas))
    }

    /// The tiers, the cheapest with runs no larger than a job that arrives now has time for: what its cap allows may take
    /// longer than any deadline, and all that waits is reckoned in its full runs.
    pub(super) fn fit<'t>(
        &self,
        tiers: &[TierModel],
        share: f32,
        fitted: &'t mut [TierModel; MAX_TIERS],
    ) -> &'t [TierModel] {
        let n = tiers.len().min(MAX_TIERS);
        for (to, from) in fitted.iter_mut().zip(tiers) {
            *to = *from;
        }
        let fitted = fitted.get_mut(..n).unwrap_or_default();
        let alone = |tier: &TierModel| tier.profile.batch_us(1);
        let cheapest = fitted.iter_mut().reduce(|a, b| if alone(b) < alone(a) { b } else { a });
        if let Some(cheapest) = cheapest {
            let whole = within_time(&cheapest.profile, share * self.patience_us());
            cheapest.profile.cap = u16::try_from(whole).unwrap_or(u16::MAX);
        }
        fitted
    }

    /// The largest run of a dear tier that a job which arrives now has time for, beside a cheap one: at least 1.
    pub(super) fn full_run(&self, cheap: &Profile, dear: &Profile, share: f32) -> u32 {
        within_time(dear, share * (self.patience_us() - cheap.batch_us(cheap.cap())))
    }

    /// How long a job that arrives now can wait; where that is not said, how long the newest that waits can.
    fn patience_us(&self) -> f32 {
        let newest = self.slack_us.last().copied().filter(|slack| self.count > 0 && slack.is_finite());
        let known = if self.deadline_us.is_finite() { Some(self.deadline_us) } else { newest };
        known.map_or(1e12, |patience| within(patience, 0.0, 1e12))
    }

    /// Until a job is done that stands at that place of one worker's part, on the cheapest tier.
    fn after_us(&self, cheap: &Profile, place: f32, sigmas: f32) -> f32 {
        let beside = self.count.min(cheap.cap());
        cheap.batch_us(count(place.ceil()).max(beside).max(1)) + sigmas * cheap.sd()
    }

    /// The bound that those give who arrive meanwhile.
    fn arrivals_us(&self, cheap: &Profile, workers: f32, sigmas: f32) -> f32 {
        let rate = within(self.rate, 0.0, 1e9) / 1e6;
        let deadline = if self.deadline_us.is_nan() { 0.0 } else { self.deadline_us };
        // Whoever comes next stands behind all that is as urgent; up to the next known point, to be safe.
        let ahead = self.slack_us.iter().position(|slack| *slack > deadline).unwrap_or(QUANTILES);
        let share = smaller(number(u32::try_from(ahead).unwrap_or(0)) / 4.0, 1.0);
        let next = deadline - self.after_us(cheap, (number(self.count) * share + 1.0) / workers, sigmas);
        if rate <= 0.0 || !next.is_finite() {
            return next;
        }
        // In a burst over what the cheapest tier can carry the last to arrive is worst off.
        let run = larger(cheap.batch_us(cheap.cap()), 1.0);
        let burst = rate + 2.0 * (within(self.idc, 0.0, 1e4) * rate / run).sqrt();
        let each = cheap.server_us();
        let room = workers * (deadline - self.after_us(cheap, 1.0, sigmas)) / each - number(self.count);
        if burst * each > workers { smaller(next, room / burst) } else { next }
    }
}

/// The largest run that takes no longer: at least 1, at most the cap.
fn within_time(profile: &Profile, room_us: f32) -> u32 {
    let (mut fits, mut over) = (1, profile.cap() + 1);
    while fits + 1 < over {
        let middle = fits + (over - fits) / 2;
        if profile.batch_us(middle) <= room_us { fits = middle } else { over = middle }
    }
    fits
}
