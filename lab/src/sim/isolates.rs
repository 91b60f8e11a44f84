//! What the edge's isolates know: the newest snapshot each has got, and what it has sent since.

use super::policy::Seen;
use super::rng::{of_job, salt};
use super::watch::Watch;
use super::world::{MAX_TIERS, World};

/// What one isolate remembers.
#[derive(Debug, Clone, Copy, Default)]
struct Isolate {
    seq: Option<u64>,
    sent: [u32; MAX_TIERS],
}

/// All isolates' memories.
#[derive(Debug)]
pub(crate) struct Isolates(Vec<Isolate>);

impl Isolates {
    /// Isolates that have got and sent nothing.
    pub(crate) fn new(world: &World) -> Self {
        Self(vec![Isolate::default(); world.delivery.isolates.max(1) as usize])
    }

    /// An isolate's newest snapshot is this one: what it sent before is in it.
    pub(crate) fn got(&mut self, isolate: u32, seq: Option<u64>) {
        let memory = &mut self.0[isolate as usize];
        if memory.seq != seq {
            *memory = Isolate { seq, ..Isolate::default() };
        }
    }

    /// What an isolate has sent since its newest snapshot, by tier.
    pub(crate) fn sent(&self, isolate: u32) -> &[u32; MAX_TIERS] {
        &self.0[isolate as usize].sent
    }

    /// An isolate sends a job.
    pub(crate) fn send(&mut self, isolate: u32, tier: usize) {
        self.0[isolate as usize].sent[tier] += 1;
    }
}

/// The newest snapshot that an isolate has at a moment.
pub(crate) fn newest<'a>(world: &World, watch: &'a Watch, seed: u64, at_us: u64, isolate: u32) -> Option<&'a Seen> {
    let delivery = &world.delivery;
    let newest = at_us.checked_sub(delivery.age_us)? / delivery.period_us + 1;
    let got = |seq: &u64| {
        delivery.lost <= 0.0 || of_job(seed ^ u64::from(isolate) << 40, *seq as u32, salt::LOST) >= delivery.lost
    };
    let mut candidates = (newest.saturating_sub(16).max(1)..=newest).rev();
    candidates.find(got).and_then(|seq| watch.seen(seq))
}
