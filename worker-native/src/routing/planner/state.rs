//! What is observed of one task, the plan made of it, and how processes agree on whose it is.
//!
//! Pure but for the numbers it keeps: moment, counts and shared facts come in, a plan and what to tell go out.

use std::time::{Duration, Instant};

use shared::policy::plan::{TierSeen, rebindable_work_us};
use shared::policy::{Observations, Plan, plan};
use shared::snapshot::{Snapshot, TaskLoad};

use super::Look;
use crate::clock::now_ms;
use crate::queue::Counts;
use crate::routing::meters::{Arrivals, Keepers, Recent, Reliability, Shares};
use crate::routing::presence::{SILENCE, Told};

/// Periods, and at least this time, behind which the plan of a maker that is silent is made by another.
const TAKE_OVER_PERIODS: u32 = 8;
const TAKE_OVER: Duration = Duration::from_secs(3);

/// The plan among the shared facts, as last seen.
#[derive(Debug)]
struct Stored {
    text: String,
    /// Who made it; none where it cannot be read.
    boot: Option<u64>,
    /// How many plans its maker had made of the task, where that is told.
    made: Option<u32>,
    /// Since when neither it nor what its maker tells has changed.
    since: Instant,
}

/// One task as this process observes it.
#[derive(Debug)]
pub(super) struct State {
    queued: Arrivals,
    synchronous: Arrivals,
    pub(super) synchronous_total: u64,
    pub(super) recent: Recent,
    pub(super) keepers: Keepers,
    pub(super) shares: Shares,
    pub(super) reliability: Reliability,
    // What was told last of this process, and when that was reckoned.
    own: Option<(Told, Instant)>,
    // Plans that this process made, and whether the plan is its own to make.
    made: u32,
    makes: bool,
    run: Option<(u64, Instant)>,
    busy: f32,
    pub(super) plan: Option<Plan>,
    pub(super) planned_at: Option<Instant>,
    stored: Option<Stored>,
    seq: u64,
}

impl State {
    pub(super) const fn new(recent: Recent, keepers: Keepers, shares: Shares) -> Self {
        Self {
            queued: Arrivals::new(),
            synchronous: Arrivals::new(),
            synchronous_total: 0,
            recent,
            keepers,
            shares,
            reliability: Reliability::new(),
            own: None,
            made: 0,
            makes: false,
            run: None,
            busy: 0.0,
            plan: None,
            planned_at: None,
            stored: None,
            seq: 0,
        }
    }

    /// Is the plan this process's to make? `stored` is the one among the shared facts, `made_by` how many plans of the
    /// task a process tells to have made: a plan that stays the same is not written again, but counted there.
    pub(super) fn is_maker(
        &mut self,
        boot: u64,
        stored: Option<&str>,
        made_by: impl Fn(u64) -> Option<u32>,
        (now, period): (Instant, Duration),
    ) -> bool {
        self.makes = self.sees_no_other(boot, stored, made_by, (now, period));
        self.makes
    }

    fn sees_no_other(
        &mut self,
        boot: u64,
        stored: Option<&str>,
        made_by: impl Fn(u64) -> Option<u32>,
        (now, period): (Instant, Duration),
    ) -> bool {
        let Some(text) = stored else {
            self.stored = None;
            return true;
        };
        if self.stored.as_ref().is_none_or(|known| known.text != text) {
            let maker = Snapshot::from_text(text).ok().map(|stored| stored.boot);
            self.stored = Some(Stored { text: text.to_owned(), boot: maker, made: None, since: now });
        }
        let Some(known) = &mut self.stored else { return true };
        let made = known.boot.and_then(made_by);
        if made.is_some() && made != known.made {
            (known.made, known.since) = (made, now);
        }
        let silent = now.saturating_duration_since(known.since) >= (period * TAKE_OVER_PERIODS).max(TAKE_OVER);
        silent || known.boot.is_none_or(|maker| maker == boot)
    }

    /// The plan that another process made.
    pub(super) fn adopt(&mut self, task: &str, now: Instant) {
        let Some(Stored { text, since, .. }) = &self.stored else { return };
        let stored = Snapshot::from_text(text).ok().and_then(|stored| stored.tasks.into_iter().next());
        if let Some(plan) = stored.filter(|load| load.task == task).and_then(|load| load.plan) {
            self.plan = Some(plan);
            self.planned_at = Some((*since).min(now));
        }
    }

    /// What others are told of this process for the task; none where the task was not looked at for a while.
    pub(super) fn tells(&self, now: Instant) -> Option<Told> {
        let (told, _) = self.own.filter(|(_, at)| now.saturating_duration_since(*at) < SILENCE)?;
        Some(Told { made: if self.makes { self.made } else { 0 }, ..told })
    }
}

impl State {
    pub(super) fn observe(&mut self, look: &Look<'_>, now: Instant) {
        let unsettled: u64 = look.counts.depths.values().map(|jobs| u64::from(*jobs)).sum();
        self.queued.saw(look.counts.settled.saturating_add(unsettled), now);
        self.synchronous.saw(self.synchronous_total, now);
        let ran = self.run.replace((look.run_ns, now));
        if let Some((before, at)) = ran {
            let passed = now.saturating_duration_since(at).as_secs_f32() * number(look.workers.max(1));
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one period")]
            let ran = look.run_ns.saturating_sub(before) as f32 / 1e9;
            if passed > 1e-3 {
                // A quarter of the new and three of the old: a period alone is noise.
                self.busy += 0.25 * ((ran / passed).min(1.0) - self.busy);
            }
        }
    }

    pub(super) fn told(&mut self, look: &Look<'_>, now: Instant) -> Told {
        let deadline = |percent| self.recent.deadline(percent).map_or(0, |left| whole(left.as_millis()));
        let told = Told {
            workers: look.workers,
            busy: self.busy,
            rate: float(self.synchronous.rate()),
            kappa: float(self.reliability.kappa()),
            deadlines_ms: [deadline(10), deadline(50)],
            keepers: whole(self.keepers.count(now) as u128),
            made: 0,
        };
        self.own = Some((told, now));
        told
    }

    /// Makes the plan from what all processes tell, this one first.
    pub(super) fn make(&mut self, look: &Look<'_>, all: &[Told], now: Instant) -> Plan {
        let seen = tiers(&look.load, look.counts);
        let workers: u32 = all.iter().map(|told| told.workers).fold(0, u32::saturating_add);
        let working = all.iter().filter(|told| told.workers > 0);
        let busy = working.clone().map(|told| told.busy * number(told.workers)).sum::<f32>();
        // What the workers learned: they alone see how jobs end.
        let (learned, of) = working.fold((0.0, 0.0_f32), |(sum, n), told| (sum + told.kappa, n + 1.0));
        let rate: f32 = all.iter().map(|told| told.rate).sum();
        let deadline = |at: usize| {
            let known = all.iter().filter_map(|told| told.deadlines_ms.get(at)).filter(|ms| **ms > 0);
            known.min().map(|ms| number(*ms) * 1_000.0)
        };
        let period_us = micros(look.period);
        let elapsed = self.planned_at.map_or(look.period, |at| now.saturating_duration_since(at));
        let observed = Observations {
            tiers: &seen,
            workers: workers.max(1),
            isolates: all.iter().map(|told| told.keepers).max().unwrap_or(1).max(1),
            rate: float(self.queued.rate()) + rate,
            idc: float(self.queued.idc().max(self.synchronous.idc())),
            period_us,
            delivery_us: period_us / 2.0,
            elapsed_us: micros(elapsed),
            // Jobs with a deadline are bound again: what waits costs what the cheapest tier takes, where it must.
            work_us: deadline(0).map(|_| rebindable_work_us(&seen)),
            busy: busy / number(workers.max(1)),
            head_age_us: look.head_age.map_or(0.0, micros),
            deadline_us: deadline(0),
            median_deadline_us: deadline(1),
            kappa: if of > 0.0 { learned / of } else { all.first().map_or(1.0, |own| own.kappa) },
            classes: self.recent.classes(),
            realised: self.shares.take(),
            #[expect(clippy::cast_possible_truncation, reason = "a share")]
            disagreement: look.learned.disagreement.map(|share| share as f32),
            alarm: look.learned.alarmed,
            last_rate: Some(float(self.queued.last() + self.synchronous.last())),
            peak_rate: Some(float(self.queued.peak() + self.synchronous.peak())),
            policy: Some(look.in_force.policy),
            previous: self.plan.as_ref(),
            ..Observations::default()
        };
        let made = plan(&observed, &look.in_force.knobs.tuning());
        self.plan = Some(made);
        self.planned_at = Some(now);
        // Never 0: that is who makes none.
        self.made = self.made.wrapping_add(1).max(1);
        made
    }

    /// The plan as others are told of it, where it changed.
    pub(super) fn publish(&mut self, look: &Look<'_>, boot: u64, made: Plan) -> Option<String> {
        let tasks = vec![TaskLoad { plan: Some(made), ..look.load.clone() }];
        let own = self.stored.as_ref().filter(|stored| stored.boot == Some(boot));
        let before = own.and_then(|stored| Snapshot::from_text(&stored.text).ok());
        let before = before.and_then(|before| before.tasks.into_iter().next());
        if before.is_some_and(|before| before.plan.is_some_and(|before| is_near(&before, &made))) {
            return None;
        }
        self.seq += 1;
        Some(Snapshot { boot, seq: self.seq, at: now_ms(), tasks }.to_text())
    }
}

/// Would keepers decide the same by both?
fn is_near(a: &Plan, b: &Plan) -> bool {
    let near = |a: f32, b: f32| (a - b).abs() <= 0.05 * a.abs().max(b.abs());
    a.policy == b.policy
        && (a.mode, a.lower, a.upper, a.reject) == (b.mode, b.lower, b.upper, b.reject)
        && near(a.workers, b.workers)
        && (a.x0 - b.x0).abs() < 0.005
        && near(a.work_us, b.work_us)
        && near(a.rate, b.rate)
}

/// The tiers as the plan sees them.
fn tiers(load: &TaskLoad, counts: &Counts) -> Vec<TierSeen> {
    let seen = load.tiers.iter().map(|tier| {
        let in_flight = counts.running.get(&tier.tier).copied().unwrap_or_default();
        TierSeen {
            model: tier.model(),
            profiled: tier.measured.is_some(),
            waiting: tier.depth.saturating_sub(in_flight),
            in_flight,
        }
    });
    seen.collect()
}

pub(super) fn whole(value: u128) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "24 bits are what a plan rests on")]
const fn number(value: u32) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, reason = "24 bits are what a plan rests on")]
const fn float(value: f64) -> f32 {
    value as f32
}

fn micros(time: Duration) -> f32 {
    time.as_secs_f32() * 1e6
}

#[cfg(test)]
mod tests {
    use shared::snapshot::TierLoad;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(250);

    fn state() -> State {
        State::new(Recent::default(), Keepers::default(), Shares::default())
    }

    /// The text of a plan of another process.
    fn theirs() -> String {
        let tiers = vec![TierLoad { tier: "fast".to_owned(), ..TierLoad::default() }];
        let load = TaskLoad { task: "pump".to_owned(), tiers, plan: Some(Plan::default()) };
        Snapshot { boot: 7, seq: 1, at: 1, tasks: vec![load] }.to_text()
    }

    #[test]
    fn a_plan_that_stays_the_same_is_young_as_long_as_its_maker_counts_on() {
        let (mut state, text, start) = (state(), theirs(), Instant::now());
        for tick in 1..=40 {
            let now = start + PERIOD * tick;
            let made = |boot: u64| (boot == 7).then_some(tick);
            assert!(!state.is_maker(1, Some(&text), made, (now, PERIOD)), "{tick}");
            state.adopt("pump", now);
            assert_eq!(state.planned_at, Some(now), "{tick}");
        }
        // A maker that still lives but makes no more plans of this task is silent as well.
        let last = start + PERIOD * 40;
        let mut takes_over = |ticks| state.is_maker(1, Some(&text), |_| Some(40), (last + PERIOD * ticks, PERIOD));
        assert_eq!([1, 11, 12].map(&mut takes_over), [false, false, true]);
    }

    #[test]
    fn a_plan_whose_maker_tells_nothing_is_as_old_as_its_text() {
        let (mut state, text, start) = (state(), theirs(), Instant::now());
        let mut takes_over = |ticks| state.is_maker(1, Some(&text), |_| None, (start + PERIOD * ticks, PERIOD));
        assert_eq!([0, 11, 12].map(&mut takes_over), [false, false, true]);
        assert!(state.is_maker(1, None, |_| None, (start, PERIOD)), "there is none");
        assert!(state.is_maker(1, Some("torn"), |_| None, (start, PERIOD)));
        assert!(state.is_maker(7, Some(&text), |_| None, (start, PERIOD)), "its own");
    }
}
