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
    if drop_lost(tier, spec.cap, held, bench, out) {
        return;
    }
    let rows = spec.fits(slack_us(held, bench)).max(1).min(held.len()).min(spec.cap);
    out.run(tier, 0..rows);
}

/// Drops what a tier cannot save: where more than `crowd` wait, what a full batch would make late. Was there any?
pub(crate) fn drop_lost(tier: usize, crowd: usize, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) -> bool {
    let spec = bench.world.tiers[tier];
    let waiting = held.len() + bench.queue.len(bench.only);
    drop_hopeless(held, bench, spec.batch_us(if waiting > crowd { spec.cap } else { 1 }), out)
}

/// Drops the jobs that cannot wait for `us` more microseconds of work at this worker's pace. Were there any?
pub(crate) fn drop_hopeless(held: &[Claimed], bench: &Bench<'_>, us: f64, out: &mut Batches) -> bool {
    let until = bench.now_us + (us * bench.pace * safe(bench)) as u64;
    // Most urgent first: the hopeless are at the head.
    let hopeless = held.iter().take_while(|job| job.finish_by_us < until).count();
    out.expired.extend((0..hopeless).map(|place| place as u16));
    hopeless > 0
}

/// How long the most urgent job can wait, in microseconds of the profile: less for a slow worker, and with a margin.
pub(crate) fn slack_us(held: &[Claimed], bench: &Bench<'_>) -> f64 {
    let head = held.first().map_or(0, |job| job.finish_by_us);
    head.saturating_sub(bench.now_us) as f64 / bench.pace.max(1e-3) / safe(bench)
}

/// Durations are taken two standard deviations longer: a batch that is late by a hair is the dearest way to lose jobs.
fn safe(bench: &Bench<'_>) -> f64 {
    1.0 + 2.0 * bench.world.noise
}

/// The tier whose most urgent job is the most urgent of all: the order of a worker that obeys hints.
pub(crate) fn most_urgent_hint(bench: &Bench<'_>) -> Option<usize> {
    bench.only.or_else(|| bench.queue.peek(None).map(|job| usize::from(job.hint)))
}

/// The hinted tier that a worker serves next which obeys hints and has patience: a full run of the dearest tier that
/// has one, while nobody cheaper becomes late by it; else the cheapest tier that anybody waits for.
///
/// Runs of a few jobs are mostly overhead, so a dear tier waits for a full one as long as its head allows.
pub(crate) fn patient_hint(bench: &Bench<'_>) -> Option<usize> {
    if bench.only.is_some() {
        return bench.only;
    }
    let tiers = &bench.world.tiers;
    let slack = |tier: usize| {
        let head = bench.queue.peek(Some(tier)).map_or(u64::MAX, |job| job.finish_by_us);
        head.saturating_sub(bench.now_us) as f64 / bench.pace
    };
    let cheapest_head = (0..tiers.len()).find(|tier| bench.queue.len(Some(*tier)) > 0)?;
    let noise = 1.0 + 2.0 * bench.world.noise;
    for tier in (1..tiers.len()).rev().filter(|tier| bench.queue.len(Some(*tier)) > 0) {
        let waiting = bench.queue.len(Some(tier));
        let run = tiers[tier].batch_us(waiting.min(tiers[tier].cap)) * noise;
        let cheaper: f64 = (0..tier).map(|tier| tiers[tier].many_us(bench.queue.len(Some(tier)))).sum();
        let others = (0..tier).map(slack).fold(f64::INFINITY, f64::min);
        let kept = run + cheaper / bench.alive.max(1) as f64 + tiers[0].batch_us(tiers[0].cap) <= others;
        let full = waiting >= tiers[tier].cap;
        let pressed = slack(tier) <= 1.5 * tiers[tier].batch_us(tiers[tier].cap) * noise;
        if kept && (full || pressed || cheapest_head == tier) {
            return Some(tier);
        }
    }
    Some(cheapest_head)
}
