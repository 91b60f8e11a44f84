//! The batching that every rival gets: work-conserving, most urgent first, what is lost is dropped early.
//!
//! Owns one rule for a worker that knows its tier (after Nexus): with more work than one batch holds,
//! full batches of jobs that a full batch still serves in time; with less, the largest batch that
//! the most urgent job allows.

use super::{Batches, Bench};
use crate::sim::queue::Claimed;

/// Drops what no batch of this tier saves, or runs one batch of it.
pub(crate) fn serve(tier: usize, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
    let spec = bench.world.tiers[tier];
    let waiting = held.len() + bench.queue.len(bench.only);
    // Two standard deviations more: a full batch that is late by a hair is the dearest way to lose jobs.
    let least = if waiting > spec.cap { spec.batch_us(spec.cap) * (1.0 + 2.0 * bench.world.noise) } else { spec.batch_us(1) };
    if drop_hopeless(held, bench, least, out) {
        return;
    }
    let rows = spec.fits(slack_us(held, bench)).max(1).min(held.len()).min(spec.cap);
    out.run(tier, 0..rows);
}

/// Drops the jobs that cannot wait for `us` more microseconds of work at this worker's pace. Were there any?
pub(crate) fn drop_hopeless(held: &[Claimed], bench: &Bench<'_>, us: f64, out: &mut Batches) -> bool {
    let until = bench.now_us + (us * bench.pace) as u64;
    // Most urgent first: the hopeless are at the head.
    let hopeless = held.iter().take_while(|job| job.finish_by_us < until).count();
    out.expired.extend((0..hopeless).map(|place| place as u16));
    hopeless > 0
}

/// How long the most urgent job can wait, in microseconds of the profile (a slow worker has less).
pub(crate) fn slack_us(held: &[Claimed], bench: &Bench<'_>) -> f64 {
    let head = held.first().map_or(0, |job| job.finish_by_us);
    head.saturating_sub(bench.now_us) as f64 / bench.pace.max(1e-3)
}

/// The tier whose most urgent job is the most urgent of all: the order of a worker that obeys hints.
pub(crate) fn most_urgent_hint(bench: &Bench<'_>) -> Option<usize> {
    bench.only.or_else(|| bench.queue.peek(None).map(|job| usize::from(job.hint)))
}
