//! From jobs with tiers to runs: in which order, and whether all are in time.

use super::{Batch, Batches, Place};
use crate::policy::profile::{MAX_TIERS, Profile, TierModel};

/// Would every job be in time, run tier by tier from the cheapest up? And how long would all runs take?
pub(super) fn check(places: &[Place], tiers: &[TierModel], sigmas: f32) -> (bool, f32) {
    let mut jobs = [0_u32; MAX_TIERS];
    for place in places {
        if let Some(jobs) = jobs.get_mut(usize::from(place.tier)) {
            *jobs += 1;
        }
    }
    let mut starts = [0.0; MAX_TIERS];
    let mut total = 0.0;
    for ((start, jobs), tier) in starts.iter_mut().zip(jobs).zip(tiers) {
        *start = total;
        total += tier.profile.batch_us(jobs);
    }
    // Jobs of each tier that are placed, and how many places its run still has: counted down, as to divide is slow here.
    let mut placed = [(0_u32, 0_u32); MAX_TIERS];
    let mut in_time = true;
    for place in places {
        let at = usize::from(place.tier);
        let (Some((seen, room)), Some(tier)) = (placed.get_mut(at), tiers.get(at)) else { continue };
        // Sorted by slack: the first of a run is its most urgent.
        if *room == 0 {
            *room = tier.profile.cap();
            let jobs = jobs.get(at).copied().unwrap_or(0);
            let start = starts.get(at).copied().unwrap_or(0.0);
            let done = start + tier.profile.batch_us((*seen + *room).min(jobs)) + sigmas * tier.profile.sd();
            in_time &= done <= place.slack_us;
        }
        *seen += 1;
        *room -= 1;
    }
    (in_time, total)
}

/// Turns the places into runs: the cheapest tier first, within a tier the most urgent first, what cannot be saved last.
pub(super) fn pack(tiers: &[TierModel], sigmas: f32, out: &mut Batches) {
    let Batches { jobs, runs, places, .. } = out;
    let pinned = places.iter().any(|place| !place.movable);
    let dear_first = pinned && !check(places, tiers, sigmas).0 && dear_is_urgent(places);
    let mut now = 0.0;
    for step in 0..tiers.len() {
        let tier = if dear_first { tiers.len() - 1 - step } else { step };
        now = pack_tier(tiers, tier, now, places, (jobs, runs));
    }
    // What is late whatever is done: after all others, as it stands.
    for (tier, model) in tiers.iter().enumerate() {
        let left = |place: &&Place| place.job != TAKEN && usize::from(place.tier) == tier;
        let first = jobs.len();
        jobs.extend(places.iter().filter(left).map(|place| place.job));
        let mut start = first;
        while start < jobs.len() {
            let len = u32::try_from(jobs.len() - start).unwrap_or(u32::MAX).min(model.profile.cap());
            now += model.profile.batch_us(len);
            push(runs, tier, start, len, now);
            start += usize::try_from(len).unwrap_or(usize::MAX);
        }
    }
}

/// Marks a place whose job is in a run.
const TAKEN: u32 = u32::MAX;

/// Is a dear job more urgent than every cheap one?
fn dear_is_urgent(places: &[Place]) -> bool {
    let lowest = places.iter().map(|place| place.tier).min();
    places.first().is_some_and(|first| Some(first.tier) != lowest)
}

/// Packs one tier's jobs from `now` on; returns when they are done. Skips those that cannot be in time beside the rest.
fn pack_tier(
    tiers: &[TierModel],
    tier: usize,
    now: f32,
    places: &mut [Place],
    (jobs, runs): (&mut Vec<u32>, &mut Vec<Batch>),
) -> f32 {
    let Some(profile) = tiers.get(tier).map(|tier| tier.profile) else { return now };
    let mut now = now;
    let of_tier = |place: &Place| usize::from(place.tier) == tier;
    let mut left = places.iter().filter(|place| of_tier(place)).count();
    let mut rest = places;
    // Each turn takes the most urgent that are left: into a run, or, the first alone, out of it.
    while let Some(first) = rest.iter().position(of_tier) {
        let Some((head, tail)) = rest.get_mut(first..).and_then(<[Place]>::split_first_mut) else { break };
        let whole = u32::try_from(left).unwrap_or(u32::MAX).min(profile.cap());
        let len = in_time(&profile, now, whole, head.slack_us);
        let taken = usize::try_from(len).unwrap_or(0);
        let next = tail.iter().filter(|place| of_tier(place)).nth(taken.saturating_sub(1));
        let after = u32::try_from(left - taken.min(left)).unwrap_or(u32::MAX).min(profile.cap());
        let next_in_time =
            next.is_none_or(|next| now + profile.batch_us(len) + profile.batch_us(after) <= next.slack_us);
        // Half a run or more is worth saving its first; less only where it makes nobody late.
        if len > 0 && (len >= whole.div_ceil(2) || next_in_time) {
            let start = jobs.len();
            jobs.push(std::mem::replace(&mut head.job, TAKEN));
            for place in tail.iter_mut().filter(|place| of_tier(place)).take(taken - 1) {
                jobs.push(std::mem::replace(&mut place.job, TAKEN));
            }
            now += profile.batch_us(len);
            push(runs, tier, start, len, now);
            left -= taken;
            let past = tail.iter().position(|place| of_tier(place) && place.job != TAKEN).unwrap_or(tail.len());
            rest = tail.get_mut(past..).unwrap_or_default();
        } else {
            left -= 1;
            rest = tail;
        }
    }
    now
}

/// The largest run up to `whole` that is done within the slack.
fn in_time(profile: &Profile, now: f32, whole: u32, slack_us: f32) -> u32 {
    if now + profile.batch_us(whole) <= slack_us {
        return whole;
    }
    let (mut fits, mut over) = (0, whole);
    while fits + 1 < over {
        let middle = fits + (over - fits) / 2;
        if now + profile.batch_us(middle) <= slack_us { fits = middle } else { over = middle }
    }
    fits
}

fn push(runs: &mut Vec<Batch>, tier: usize, first: usize, len: u32, done_us: f32) {
    if let (Ok(tier), Ok(first)) = (u8::try_from(tier), u32::try_from(first)) {
        runs.push(Batch { tier, first, len, done_us });
    }
}
