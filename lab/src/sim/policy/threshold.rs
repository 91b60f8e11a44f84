//! Thresholds on the length of the queue: read from a snapshot at the edge, or fresh by the worker.

use super::batching::{most_urgent_hint, serve};
use super::{Batches, Bench, Choice, EdgeJob, Picture, Policy};
use crate::sim::queue::Claimed;
use crate::sim::world::World;

/// The dearest tier while no more jobs than this wait, as the snapshot tells; workers obey.
#[derive(Debug)]
pub(crate) struct AtEdge {
    /// Jobs.
    pub(crate) threshold: usize,
}

impl Policy for AtEdge {
    fn edge(&mut self, _job: EdgeJob, picture: Picture<'_>, world: &World) -> Choice {
        let waiting: u32 = picture.seen.map_or(0, |seen| seen.waiting.iter().sum());
        let dear = waiting as usize <= self.threshold;
        Choice::sure(if dear { world.tiers.len() - 1 } else { 0 })
    }

    fn claim(&mut self, bench: &Bench<'_>, _held: usize) -> usize {
        most_urgent_hint(bench).map_or(1, |tier| bench.world.tiers[tier].cap)
    }

    fn pick(&mut self, bench: &Bench<'_>, held: &[Claimed]) -> Option<usize> {
        bench.queue.most_urgent(held.first().map(|job| usize::from(job.hint)).or(bench.only))
    }

    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        let tier = held.first().map_or(0, |job| usize::from(job.hint));
        serve(tier, held, bench, out);
    }
}

/// The same rule by each worker when it is free, on the queue as it is.
#[derive(Debug)]
pub(crate) struct AtWorker {
    /// Jobs.
    pub(crate) threshold: usize,
}

impl Policy for AtWorker {
    fn edge(&mut self, _job: EdgeJob, _picture: Picture<'_>, _world: &World) -> Choice {
        Choice::sure(0)
    }

    fn claim(&mut self, bench: &Bench<'_>, _held: usize) -> usize {
        bench.world.tiers.iter().map(|tier| tier.cap).max().unwrap_or(1)
    }

    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        let waiting = held.len() + bench.queue.len(None);
        let dear = waiting <= self.threshold;
        serve(if dear { bench.world.tiers.len() - 1 } else { 0 }, held, bench, out);
    }
}
