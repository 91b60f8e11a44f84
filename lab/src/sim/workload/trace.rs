//! Recorded arrivals: one offset in milliseconds a line, in order, as in `shared/traces`.
//!
//! Several requests on one tick are spread evenly until the next one: what a recorder rounded away
//! must not look like a burst.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a trace.
///
/// # Errors
/// When the file cannot be read, is too large, or holds anything but numbers in order.
pub(crate) fn read(path: &Path) -> anyhow::Result<Arc<[f64]>> {
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    ensure!(size <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

/// Reads a trace's text.
///
/// # Errors
/// When it holds anything but numbers in order, or fewer than two.
pub(crate) fn parse(text: &str) -> anyhow::Result<Arc<[f64]>> {
    let mut offsets: Vec<f64> = Vec::new();
    for (i, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let offset: f64 = line.parse().with_context(|| format!("line {}: {line:?} is no number", i + 1))?;
        ensure!(offset.is_finite(), "line {}: {line:?} is no moment", i + 1);
        ensure!(offsets.last().is_none_or(|last| *last <= offset), "line {}: earlier than the line before", i + 1);
        offsets.push(offset);
    }
    ensure!(offsets.len() > 1, "a trace needs two arrivals at least");
    ensure!(offsets.first() < offsets.last(), "all arrivals are at one moment");
    Ok(spread(&offsets).into())
}

/// Spreads what stands on one tick evenly until the next tick.
fn spread(offsets: &[f64]) -> Vec<f64> {
    let mut spread = Vec::with_capacity(offsets.len());
    let mut last_gap = 0.0;
    let mut rest = offsets;
    while let Some(tick) = rest.first() {
        let here = rest.iter().take_while(|offset| *offset == tick).count();
        let gap = rest.get(here).map_or(last_gap, |next| next - tick);
        // A pause of the source is no tick: nothing is spread further than over the usual distance.
        let over = if last_gap > 0.0 { f64::min(gap, 2.0 * last_gap) } else { gap };
        spread.extend((0..here).map(|i| tick + over * i as f64 / here as f64));
        last_gap = if last_gap > 0.0 { f64::min(gap, 2.0 * last_gap) } else { gap };
        rest = &rest[here..];
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_spread_and_pauses_are_not_filled() {
        let offsets = parse("0\n0\n0\n3000\n6000\n6000\n60000\n").unwrap();
        assert_eq!(&offsets[..], &[0.0, 1000.0, 2000.0, 3000.0, 6000.0, 9000.0, 60000.0]);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for text in ["", "1", "1\n1", "2\n1", "a\nb", "1\nNaN"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
