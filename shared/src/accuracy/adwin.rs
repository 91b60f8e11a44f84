//! ADWIN (Bifet and Gavaldà 2007) in river's form: a window over the errors that is cut where its old part differs from its new.
//!
//! Buckets of 1, 2, 4, … samples, at most five of a size: some hundred numbers for a million samples. Every 32 samples
//! each cut is tried; with W samples, d' = ln(2 ln W / 0.002) and r = 1/(n0 - 4) + 1/(n1 - 4) the oldest bucket goes while
//! |m0 - m1| > sqrt(2 r s2 d') + 2/3 d' r. Each bucket keeps the posterior's sums of its labels beside its errors, so
//! that the posterior can be cut to the window that is left.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::posterior::{Evidence, to_f64};

/// Chance of a cut where nothing changed.
const DELTA: f64 = 0.002;
/// Samples between two looks.
const EVERY: u64 = 32;
/// Samples of a window that is not looked at yet, and of the smallest part of one.
const GRACE: u64 = 10;
const LEAST: u64 = 5;
/// Buckets of one size.
const BUCKETS: usize = 5;
/// Sizes; behind 5 * 2^24 samples the oldest bucket goes.
const ROWS: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    errors: u64,
    evidence: Evidence,
}

/// The window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    seen: u64,
    /// Row i has buckets of 2^i samples, the oldest first.
    rows: Vec<VecDeque<Bucket>>,
}

impl Adwin {
    /// Takes in whether an answer was wrong, with its label's sums; `true` where the window was cut.
    pub fn add(&mut self, error: bool, evidence: &Evidence, half_life_ms: f64) -> bool {
        self.insert(Bucket { errors: u64::from(error), evidence: *evidence }, half_life_ms);
        self.seen += 1;
        let mut cut = false;
        if self.seen.is_multiple_of(EVERY) {
            while self.width() > GRACE && self.differs() {
                self.drop_oldest();
                cut = true;
            }
        }
        cut
    }

    /// Samples in the window.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.rows.iter().enumerate().map(|(row, buckets)| (buckets.len() as u64) << row).sum()
    }

    /// Share of errors in the window; none where it is empty.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let width = self.width();
        (width > 0).then(|| to_f64(self.errors()) / to_f64(width))
    }

    /// The posterior's sums over the window.
    #[must_use]
    pub fn evidence(&self, half_life_ms: f64) -> Evidence {
        let mut sum = Evidence::default();
        self.rows.iter().flatten().for_each(|bucket| sum.merge(&bucket.evidence, half_life_ms));
        sum
    }

    fn errors(&self) -> u64 {
        self.rows.iter().flatten().map(|bucket| bucket.errors).sum()
    }

    fn insert(&mut self, bucket: Bucket, half_life_ms: f64) {
        let mut carried = Some(bucket);
        for row in 0..ROWS {
            let Some(bucket) = carried.take() else { return };
            if row == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            let Some(buckets) = self.rows.get_mut(row) else { return };
            buckets.push_back(bucket);
            if buckets.len() <= BUCKETS {
                return;
            }
            if let (Some(mut older), Some(newer)) = (buckets.pop_front(), buckets.pop_front()) {
                older.errors += newer.errors;
                older.evidence.merge(&newer.evidence, half_life_ms);
                carried = Some(older);
            }
        }
    }

    fn drop_oldest(&mut self) {
        while let Some(last) = self.rows.last_mut() {
            let dropped = last.pop_front().is_some();
            if last.is_empty() {
                self.rows.pop();
            }
            if dropped {
                return;
            }
        }
    }

    /// Does some old part of the window differ from the rest?
    fn differs(&self) -> bool {
        let (width, errors) = (self.width(), self.errors());
        let (total, wrong) = (to_f64(width), to_f64(errors));
        let mean = wrong / total;
        let (variance, d) = (mean * (1.0 - mean), (2.0 * total.ln() / DELTA).ln());
        let (mut n0, mut errors0) = (0, 0);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            for bucket in buckets {
                n0 += 1_u64 << row;
                errors0 += bucket.errors;
                let n1 = width.saturating_sub(n0);
                if n1 < LEAST {
                    return false;
                }
                if n0 < LEAST {
                    continue;
                }
                let (old, new) = (to_f64(n0), to_f64(n1));
                let apart = (to_f64(errors0) / old - (wrong - to_f64(errors0)) / new).abs();
                let r = 1.0 / (old - 4.0) + 1.0 / (new - 4.0);
                if apart > (2.0 * r * variance * d).sqrt() + 2.0 / 3.0 * d * r {
                    return true;
                }
            }
        }
        false
    }

    /// Can this have come from samples? What is stored may have been written by anybody.
    pub(super) fn is_sane(&self) -> bool {
        let fits = |row: usize, bucket: &Bucket| bucket.errors <= 1 << row && bucket.evidence.is_sane();
        self.rows.len() <= ROWS
            && self
                .rows
                .iter()
                .enumerate()
                .all(|(row, buckets)| buckets.len() <= BUCKETS && buckets.iter().all(|bucket| fits(row, bucket)))
    }
}
