//! A pool's service time as a line over the size of a batch, fitted to the runs that it counted.
//!
//! `S(b) = alpha + beta * b` by weighted least squares; old runs fade, the warm-up stays in with a
//! small weight, so that there is a line before the first run and again after a long silence. Runs of
//! one size say nothing of the slope, so of the warm-up its shape stays; its level follows the runs,
//! since a machine that was busy at the start would make a seldom used model look slow for ever. What
//! the line is used for is `shared::policy`'s.

use std::time::{Duration, Instant};

use shared::policy::Profile;

use super::stats::Stats;

/// After this time a run counts half.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// How many runs the warm-up's two sizes count as, each.
const WARM_UP_RUNS: f64 = 4.0;
/// So many runs are remembered for the level of the warm-up: by count, so that it holds however seldom they are.
const PACE_RUNS: f64 = 32.0;
/// A mean over this multiple of the line counts as this multiple: one stall of the machine must not make every deadline
/// look hopeless.
const MOST: f64 = 4.0;

/// Weighted sums over runs of `b` rows that took `t` microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    w: f64,
    wb: f64,
    wbb: f64,
    wt: f64,
    wbt: f64,
    wtt: f64,
}

impl Sums {
    /// `w` runs of `b` rows with this mean time and mean square of it.
    fn add(&mut self, w: f64, b: f64, mean: f64, square: f64) {
        self.w += w;
        self.wb += w * b;
        self.wbb += w * b * b;
        self.wt += w * mean;
        self.wbt += w * b * mean;
        self.wtt += w * square;
    }

    fn scaled(mut self, by: f64) -> Self {
        for sum in [&mut self.w, &mut self.wb, &mut self.wbb, &mut self.wt, &mut self.wbt, &mut self.wtt] {
            *sum *= by;
        }
        self
    }

    /// The same where every run takes `pace` times as long.
    fn paced(mut self, pace: f64) -> Self {
        self.wt *= pace;
        self.wbt *= pace;
        self.wtt *= pace * pace;
        self
    }

    fn plus(self, other: Self) -> Self {
        Self {
            w: self.w + other.w,
            wb: self.wb + other.wb,
            wbb: self.wbb + other.wbb,
            wt: self.wt + other.wt,
            wbt: self.wbt + other.wbt,
            wtt: self.wtt + other.wtt,
        }
    }

    /// The line's two numbers and the standard deviation around it, none of them below zero.
    fn line(self) -> (f64, f64, f64) {
        let spread = self.w * self.wbb - self.wb * self.wb;
        let through_origin = self.wbt / self.wbb.max(1e-9);
        let (mut alpha, mut beta) = (0.0, through_origin);
        // Runs of one size only say nothing of the slope.
        if spread > 1e-6 * self.w * self.wbb {
            beta = (self.w * self.wbt - self.wb * self.wt) / spread;
            alpha = (self.wt - beta * self.wb) / self.w;
        }
        if alpha < 0.0 {
            (alpha, beta) = (0.0, through_origin);
        }
        if beta < 0.0 {
            (alpha, beta) = (self.wt / self.w.max(1e-9), 0.0);
        }
        let variance = (self.wtt - alpha * self.wt - beta * self.wbt) / self.w.max(1e-9);
        (alpha, beta, variance.max(0.0).sqrt())
    }
}

/// What runs take by what the warm-up says they take: the geometric mean of lately, in logarithms.
#[derive(Debug)]
struct Pace {
    log: f64,
    runs: f64,
}

impl Pace {
    /// Takes in `runs` more, and the sum of their logarithms.
    fn saw(&mut self, runs: f64, logs: f64) {
        let all = self.runs + runs;
        self.log = (self.log * self.runs + logs) / all;
        self.runs = all.min(PACE_RUNS);
    }

    fn get(&self) -> f64 {
        self.log.exp()
    }
}

/// The fit of one pool.
#[derive(Debug)]
pub(super) struct Fit {
    cap: u16,
    warm_up: Sums,
    pace: Pace,
    sums: Sums,
    seen: Vec<[u64; 3]>,
    at: Instant,
}

impl Fit {
    /// From what the warm-up measured: a run of one row, and of a full batch.
    pub(super) fn new(single: Duration, largest: Duration, max_batch: usize) -> Self {
        let mut warm_up = Sums::default();
        let mut add = |rows: usize, took: Duration| {
            let micros = took.as_secs_f64() * 1e6;
            warm_up.add(WARM_UP_RUNS, to_f64(rows as u64), micros, micros * micros);
        };
        add(1, single);
        if max_batch > 1 {
            add(max_batch, largest);
        }
        let cap = u16::try_from(max_batch).unwrap_or(u16::MAX);
        let pace = Pace { log: 0.0, runs: WARM_UP_RUNS };
        Self { cap, warm_up, pace, sums: Sums::default(), seen: Vec::new(), at: Instant::now() }
    }

    /// The line, with what was counted since it was asked for last.
    pub(super) fn update(&mut self, stats: &Stats, now: Instant) -> Profile {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.sums = self.sums.scaled(0.5_f64.powf(passed / HALF_LIFE.as_secs_f64()));
        let (alpha, beta, _) = self.line();
        let (first_alpha, first_beta, _) = self.warm_up.line();
        let (mut new_runs, mut logs) = (0.0, 0.0);
        for (size, counted) in stats.sizes().enumerate() {
            if self.seen.len() <= size {
                self.seen.push([0; 3]);
            }
            let Some(seen) = self.seen.get_mut(size) else { continue };
            let [runs, micros, squares] = [0, 1, 2].map(|at| to_f64(difference(counted, *seen, at)));
            *seen = counted;
            if runs > 0.0 {
                let rows = to_f64(size.max(1) as u64);
                let (mean, square) = (micros / runs, squares / runs);
                let over = (mean / (MOST * (alpha + beta * rows)).max(1.0)).max(1.0);
                self.sums.add(runs, rows, mean / over, square / (over * over));
                new_runs += runs;
                logs += runs * (mean / over / (first_alpha + first_beta * rows).max(1.0)).max(1e-6).ln();
            }
        }
        self.pace.saw(new_runs, logs);
        let (alpha, beta, sd) = self.line();
        Profile { alpha_us: to_f32(alpha), beta_us: to_f32(beta), sd_us: to_f32(sd), cap: self.cap }
    }

    fn line(&self) -> (f64, f64, f64) {
        self.sums.plus(self.warm_up.paced(self.pace.get())).line()
    }
}

fn difference(counted: [u64; 3], seen: [u64; 3], at: usize) -> u64 {
    let value = |of: [u64; 3]| of.get(at).copied().unwrap_or_default();
    value(counted).saturating_sub(value(seen))
}

#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of one interval stay below 2^53")]
const fn to_f64(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, reason = "what is kept of a time is a float32")]
const fn to_f32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn before_the_first_run_the_line_is_the_warm_ups() {
        let stats = Stats::new(8, micros(9), None);
        let profile = Fit::new(micros(9), micros(44), 8).update(&stats, Instant::now());
        assert!((profile.alpha_us - 4.0).abs() < 0.01 && (profile.beta_us - 5.0).abs() < 0.01, "{profile:?}");
        assert_eq!(profile.cap, 8);
    }

    #[test]
    fn the_line_follows_the_runs_and_keeps_their_level_when_they_fade() {
        let stats = Stats::new(8, micros(900), None);
        let mut fit = Fit::new(micros(900), micros(4_400), 8);
        for rows in [1_u64, 2, 4, 8].into_iter().cycle().take(4_000) {
            stats.ran(rows as usize, 1, micros(1_000 + 1_000 * rows));
        }
        let now = Instant::now();
        let profile = fit.update(&stats, now);
        assert!((profile.alpha_us - 1_000.0).abs() < 50.0 && (profile.beta_us - 1_000.0).abs() < 20.0, "{profile:?}");
        assert!(profile.sd_us < 200.0, "{profile:?}");
        // What is left of it is the warm-up, at the pace of the runs: about twice what it said.
        let later = fit.update(&stats, now + HALF_LIFE * 40);
        assert!((later.alpha_us - 850.0).abs() < 20.0 && (later.beta_us - 1_060.0).abs() < 20.0, "{later:?}");
    }

    #[test]
    fn a_slow_warm_up_is_outweighed_by_runs_however_seldom_they_are() {
        // As on a machine that was busy at the start: twenty times what it takes.
        let stats = Stats::new(8, micros(20_000), None);
        let mut fit = Fit::new(micros(20_000), micros(160_000), 8);
        let start = Instant::now();
        let mut profile = fit.update(&stats, start);
        for minute in 1..=30 {
            stats.ran(1, 1, micros(1_000));
            profile = fit.update(&stats, start + Duration::from_secs(60 * minute));
        }
        let (single, full) = (profile.batch_us(1), profile.batch_us(8));
        assert!(single < 2_000.0, "{profile:?}");
        // Of the shape nothing else is known than what the warm-up saw.
        assert!((full / single - 8.0).abs() < 1.0, "{profile:?}");
    }

    #[test]
    fn one_stall_does_not_make_every_deadline_hopeless() {
        let stats = Stats::new(1, micros(100), None);
        let mut fit = Fit::new(micros(100), micros(100), 1);
        stats.ran(1, 1, Duration::from_secs(5));
        let profile = fit.update(&stats, Instant::now());
        assert!(profile.batch_us(1) < 400.0, "{profile:?}");
    }

    #[test]
    fn runs_of_one_size_only_are_no_slope() {
        let mut sums = Sums::default();
        sums.add(10.0, 4.0, 80.0, 6_400.0);
        assert_eq!(sums.line(), (0.0, 20.0, 0.0));
    }
}
