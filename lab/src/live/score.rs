//! What the rows of a run are worth, at each load and second by second.
//!
//! Every offered job counts once, by the moment it should have been sent. Worth something is a right
//! answer within the deadline of that moment.

use std::collections::BTreeMap;

use serde::Serialize;

use super::drive::{Ended, Row};
use super::stair::Stair;

/// Length of a point of the curves, in milliseconds.
const BIN_MS: f64 = 1_000.0;

/// Counts and figures of some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Jobs offered.
    pub(crate) offered: usize,
    /// Right and in time, of all offered, 0 to 1.
    pub(crate) effective: f64,
    /// In time, of all offered.
    pub(crate) attainment: f64,
    /// Right, of those in time.
    pub(crate) accuracy: f64,
    /// By the accurate tier, of those answered.
    pub(crate) dear: f64,
    /// By another tier than the one hinted when the job was taken, of those answered.
    pub(crate) rebound: f64,
    /// Answered, but too late.
    pub(crate) late: usize,
    /// Given up in time to run others.
    pub(crate) expired: usize,
    /// Not taken.
    pub(crate) refused: usize,
    /// No word, or an error.
    pub(crate) failed: usize,
    /// Of the answers, in milliseconds from when the job should have been sent.
    pub(crate) p50_ms: f64,
    /// The same, 95 of 100.
    pub(crate) p95_ms: f64,
    /// The same, 99 of 100.
    pub(crate) p99_ms: f64,
    /// How late the load itself was, 99 of 100; large figures mean that the machine had no time for it.
    pub(crate) sent_late_p99_ms: f64,
}

/// One second of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Point {
    /// Its middle, in seconds.
    pub(crate) at_s: f64,
    /// Jobs offered a second.
    pub(crate) rate: f64,
    /// As [`Figures`] has them.
    pub(crate) effective: Option<f64>,
    /// Of what was answered.
    pub(crate) p95_ms: Option<f64>,
    /// Of what was answered.
    pub(crate) dear: Option<f64>,
    /// Jobs sent and not ended, mean.
    pub(crate) depth: f64,
}

/// The figure below which a share of sorted ones lies; NaN where there are none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil().max(1.0) as usize - 1;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The figures of some rows.
pub(crate) fn figures<'a>(rows: impl Iterator<Item = &'a Row>, deadline_ms: f64) -> Figures {
    let rows: Vec<&Row> = rows.collect();
    let count = |is: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| is(row)).count();
    let answered = |row: &Row| row.ended == Ended::Answered;
    let on_time = |row: &Row| answered(row) && row.took_ms <= deadline_ms;
    let took = sorted(rows.iter().filter(|row| answered(row)).map(|row| row.took_ms));
    let sent_late = sorted(rows.iter().map(|row| row.late_sent_ms));
    let (in_time, right) = (count(&on_time), count(&|row| on_time(row) && row.correct));
    Figures {
        offered: rows.len(),
        effective: share(right, rows.len()),
        attainment: share(in_time, rows.len()),
        accuracy: share(right, in_time),
        dear: share(count(&|row| answered(row) && row.dear), count(&answered)),
        rebound: share(count(&|row| answered(row) && row.rebound), count(&answered)),
        late: count(&|row| answered(row) && row.took_ms > deadline_ms),
        expired: count(&|row| row.ended == Ended::Expired),
        refused: count(&|row| row.ended == Ended::Refused),
        failed: count(&|row| row.ended == Ended::Failed),
        p50_ms: quantile(&took, 0.5),
        p95_ms: quantile(&took, 0.95),
        p99_ms: quantile(&took, 0.99),
        sent_late_p99_ms: quantile(&sent_late, 0.99),
    }
}

/// How many of the answers had which reason.
pub(crate) fn reasons(rows: &[Row]) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for row in rows.iter().filter(|row| row.ended == Ended::Answered) {
        *reasons.entry(row.reason.clone()).or_insert(0) += 1;
    }
    reasons
}

/// A run second by second.
pub(crate) fn curve(rows: &[Row], stair: &Stair, deadline_ms: f64) -> Vec<Point> {
    let bins = (stair.seconds() * 1e3 / BIN_MS).ceil() as usize;
    let bin_of = |row: &Row| (row.offset_ms / BIN_MS) as usize;
    let mut of_bin: Vec<Vec<&Row>> = vec![Vec::new(); bins];
    let mut present_ms = vec![0.0; bins];
    for row in rows {
        if let Some(bin) = of_bin.get_mut(bin_of(row)) {
            bin.push(row);
        }
        // A job that was not taken is nobody's backlog.
        if matches!(row.ended, Ended::Answered | Ended::Expired) {
            let (from, until) = (row.offset_ms, row.offset_ms + row.took_ms);
            for (bin, present) in present_ms.iter_mut().enumerate().skip(bin_of(row)) {
                let begin = BIN_MS * bin as f64;
                if begin >= until {
                    break;
                }
                *present += (until.min(begin + BIN_MS) - from.max(begin)).max(0.0);
            }
        }
    }
    let points = of_bin.iter().zip(present_ms).enumerate().map(|(bin, (rows, present))| {
        let found = figures(rows.iter().copied(), deadline_ms);
        let answered = rows.iter().any(|row| row.ended == Ended::Answered);
        Point {
            at_s: (bin as f64 + 0.5) * BIN_MS / 1e3,
            rate: rows.len() as f64 * 1e3 / BIN_MS,
            effective: (!rows.is_empty()).then_some(found.effective),
            p95_ms: answered.then_some(found.p95_ms),
            dear: answered.then_some(found.dear),
            depth: present / BIN_MS,
        }
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(offset_ms: f64, ended: Ended, correct: bool, took_ms: f64) -> Row {
        Row {
            offset_ms,
            cycle: String::new(),
            ended,
            correct,
            dear: correct,
            rebound: false,
            reason: "split".to_owned(),
            took_ms,
            late_sent_ms: 0.0,
        }
    }

    #[test]
    fn every_offered_job_counts_and_only_right_answers_in_time_are_worth_something() {
        let rows = [
            row(0.0, Ended::Answered, true, 10.0),
            row(0.0, Ended::Answered, false, 20.0),
            row(0.0, Ended::Answered, true, 101.0),
            row(0.0, Ended::Expired, false, 120.0),
            row(0.0, Ended::Refused, false, 1.0),
        ];
        let found = figures(rows.iter(), 100.0);
        assert_eq!((found.offered, found.late, found.expired, found.refused, found.failed), (5, 1, 1, 1, 0));
        assert!((found.effective - 0.2).abs() < 1e-12 && (found.attainment - 0.4).abs() < 1e-12);
        assert!((found.accuracy - 0.5).abs() < 1e-12 && (found.dear - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((found.p50_ms, found.p99_ms), (20.0, 101.0));
        assert_eq!(reasons(&rows), BTreeMap::from([("split".to_owned(), 3)]));
        assert!(figures([].iter(), 1.0).p50_ms.is_nan());
    }

    #[test]
    fn the_curve_counts_who_is_there_and_when() {
        let stair = Stair::new(&[1.0], 10.0, 3.0, 10, 1);
        let rows = [row(500.0, Ended::Answered, true, 1_000.0), row(2_500.0, Ended::Refused, false, 400.0)];
        let points = curve(&rows, &stair, 2_000.0);
        assert_eq!(points.iter().map(|point| point.depth).collect::<Vec<_>>(), [0.5, 0.5, 0.0]);
        assert_eq!(points.iter().map(|point| point.rate).collect::<Vec<_>>(), [1.0, 0.0, 1.0]);
        assert_eq!(points.iter().map(|point| point.effective).collect::<Vec<_>>(), [Some(1.0), None, Some(0.0)]);
        assert_eq!(points[2].p95_ms, None);
    }
}
