//! When each reading should start: a constant rate, or the recorded arrivals of a trace.
//!
//! Pure: offsets from the replay's begin, known before the first request leaves, so that no answer
//! can move a later start. Waiting until then is [`super::replay`]'s.

use std::time::Duration;

use super::to_f64;

/// The intended starts of a replay.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pace {
    /// One reading after another, evenly.
    Even {
        /// Readings a second.
        per_s: f64,
    },
    /// A trace's arrivals, again and again.
    Trace {
        /// Offsets from the first, in milliseconds, ascending.
        offsets_ms: Vec<f64>,
        /// After how many milliseconds the trace begins again.
        period_ms: f64,
        /// What the trace's milliseconds are multiplied by.
        factor: f64,
    },
}

impl Pace {
    /// A trace as recorded, `speed` times as fast.
    pub(super) fn of_trace(offsets_ms: Vec<f64>, speed: f64) -> Self {
        let span = offsets_ms.last().copied().unwrap_or(0.0);
        let gaps = offsets_ms.len().saturating_sub(1).max(1);
        // One mean gap more than the span, or the seam would be a burst of two.
        let period_ms = span + span / to_f64(gaps);
        Self::Trace { offsets_ms, period_ms, factor: 1.0 / speed }
    }

    /// The same arrivals with a mean of `per_s` over the first `rows` of them.
    ///
    /// # Errors
    /// In words, where those arrivals all share one offset: no factor changes their rate.
    pub(super) fn scaled_to(mut self, per_s: f64, rows: u64) -> Result<Self, String> {
        let span_ms = self.unscaled_ms(rows.saturating_sub(1));
        match &mut self {
            Self::Even { per_s: rate } => *rate = per_s,
            Self::Trace { .. } if rows < 2 => {}
            Self::Trace { .. } if span_ms <= 0.0 => {
                return Err(format!("the first {rows} arrivals share one offset; use --spread or no --rate"));
            }
            Self::Trace { factor, .. } => *factor = to_f64(rows - 1) * 1_000.0 / per_s / span_ms,
        }
        Ok(self)
    }

    /// When reading `index` (from 0) should start, after the replay's begin.
    pub(super) fn at(&self, index: u64) -> Duration {
        let ms = match self {
            Self::Even { .. } => self.unscaled_ms(index),
            Self::Trace { factor, .. } => self.unscaled_ms(index) * factor,
        };
        Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or(Duration::MAX)
    }

    /// Readings a second over the first `rows`; `None` where they all start at once.
    pub(super) fn mean_rate(&self, rows: u64) -> Option<f64> {
        let span_s = self.at(rows.saturating_sub(1)).as_secs_f64();
        match self {
            Self::Even { per_s } => Some(*per_s),
            Self::Trace { .. } => (span_s > 0.0).then(|| to_f64(rows - 1) / span_s),
        }
    }

    fn unscaled_ms(&self, index: u64) -> f64 {
        match self {
            Self::Even { per_s } => to_f64(index) * 1_000.0 / per_s,
            Self::Trace { offsets_ms, period_ms, .. } => {
                let length = u64::try_from(offsets_ms.len()).unwrap_or(u64::MAX).max(1);
                let within = usize::try_from(index % length).ok().and_then(|i| offsets_ms.get(i)).copied();
                within.unwrap_or(0.0) + to_f64(index / length) * period_ms
            }
        }
    }
}

/// Reads a trace: one offset in milliseconds a line, ascending; the first becomes 0.
///
/// # Errors
/// In words, with the line's number.
pub(super) fn parse_trace(text: &str) -> Result<Vec<f64>, String> {
    let mut offsets: Vec<f64> = Vec::new();
    for (i, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
        if line.is_empty() {
            continue;
        }
        match line.parse::<f64>() {
            Ok(ms) if !ms.is_finite() => return Err(format!("line {i}: {line:?} is not finite")),
            Ok(ms) if offsets.last().is_some_and(|last| ms < *last) => {
                return Err(format!("line {i}: {line} is below the offset before it; sort the trace"));
            }
            Ok(ms) => offsets.push(ms),
            Err(_) => return Err(format!("line {i}: {line:?} is no offset in milliseconds")),
        }
    }
    let first = *offsets.first().ok_or("there is no offset in it")?;
    offsets.iter_mut().for_each(|ms| *ms -= first);
    Ok(offsets)
}

/// Spreads each run of equal offsets evenly up to the next one; the last run takes the gap before it.
pub(super) fn spread_ticks(offsets_ms: &mut [f64]) {
    let mut start = 0;
    let mut gap = 0.0;
    while let Some(tick) = offsets_ms.get(start).copied() {
        let run = offsets_ms.iter().skip(start).take_while(|ms| **ms == tick).count();
        if let Some(next) = offsets_ms.get(start + run) {
            gap = next - tick;
        }
        for (i, ms) in offsets_ms.iter_mut().skip(start).take(run).enumerate() {
            *ms = tick + gap * to_f64(i) / to_f64(run);
        }
        start += run;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts_ms(pace: &Pace, count: u64) -> Vec<f64> {
        (0..count).map(|i| (pace.at(i).as_secs_f64() * 1e6).round() / 1e3).collect()
    }

    #[test]
    fn an_even_pace_does_not_drift() {
        let pace = Pace::Even { per_s: 3.0 };
        assert_eq!(starts_ms(&pace, 4), [0.0, 333.333, 666.667, 1_000.0]);
        assert_eq!(pace.at(3_000_000), Duration::from_secs(1_000_000));
    }

    #[test]
    fn a_trace_starts_at_zero_keeps_its_shape_and_begins_again_after_a_mean_gap() {
        let offsets = parse_trace("100\n110\n\n130.5\r\n160\n").unwrap();
        assert_eq!(offsets, [0.0, 10.0, 30.5, 60.0]);
        let pace = Pace::of_trace(offsets, 2.0);
        assert_eq!(starts_ms(&pace, 6), [0.0, 5.0, 15.25, 30.0, 40.0, 45.0]);
    }

    #[test]
    fn scaling_reaches_the_mean_rate_over_the_rows_replayed() {
        let offsets = vec![0.0, 0.0, 30.0, 100.0, 110.0];
        for (rows, per_s) in [(5_u64, 50.0), (3, 7.0), (12, 400.0)] {
            let pace = Pace::of_trace(offsets.clone(), 1.0).scaled_to(per_s, rows).unwrap();
            assert!((pace.mean_rate(rows).unwrap() - per_s).abs() < 1e-6 * per_s, "{rows} at {per_s}");
        }
        let pace = Pace::of_trace(offsets.clone(), 1.0).scaled_to(50.0, 5).unwrap();
        assert_eq!(starts_ms(&pace, 5), [0.0, 0.0, 21.818, 72.727, 80.0]);
        assert!(Pace::of_trace(offsets, 1.0).scaled_to(50.0, 2).unwrap_err().contains("share one offset"));
    }

    #[test]
    fn wrong_traces_name_the_line() {
        assert!(parse_trace("1\n2\nthree\n").unwrap_err().starts_with("line 3"));
        assert!(parse_trace("5\n4\n").unwrap_err().contains("sort"));
        assert!(parse_trace("\n\n").unwrap_err().contains("no offset"));
        assert!(parse_trace("NaN").unwrap_err().contains("not finite"));
    }

    #[test]
    fn ticks_are_spread_up_to_the_next() {
        let mut offsets = vec![0.0, 0.0, 0.0, 3.0, 9.0, 9.0];
        spread_ticks(&mut offsets);
        assert_eq!(offsets, [0.0, 1.0, 2.0, 3.0, 9.0, 12.0]);
        let mut single = vec![0.0, 0.0];
        spread_ticks(&mut single);
        assert_eq!(single, [0.0, 0.0]);
    }
}
