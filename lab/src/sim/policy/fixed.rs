//! One tier for all: the two ends of what accuracy and speed can be had.

use super::batching::{drop_lost, serve, slack_us};
use super::{Batches, Bench, Choice, EdgeJob, Picture, Policy};
use crate::sim::queue::Claimed;
use crate::sim::world::World;

/// Always this tier.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// Which.
    pub(crate) tier: usize,
}

impl Policy for Fixed {
    fn edge(&mut self, _job: EdgeJob, _picture: Picture<'_>, _world: &World) -> Choice {
        Choice::sure(self.tier)
    }

    fn claim(&mut self, bench: &Bench<'_>, _held: usize) -> usize {
        bench.world.tiers[self.tier].cap
    }

    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        serve(self.tier, held, bench, out);
    }
}

/// How a rule reads the slack of the most urgent job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dequeue {
    /// SuperServe's buckets; a tuple whose batch is not full is run as it is.
    SlackFit,
    /// The same, but with fewer jobs than the tuple wants, the most accurate tier that serves them all in time.
    SlackFitFilled,
    /// The most accurate tier that one job allows, then the largest batch.
    MaxAcc,
    /// The largest batch that the fastest tier allows, then the most accurate tier for it.
    MaxBatch,
}

/// SuperServe's rules: decided when a worker is free, from the slack of the most urgent job, fresh.
#[derive(Debug)]
pub(crate) struct SlackFit {
    fit: Dequeue,
    /// Where more wait, what a full batch of the fastest tier would make late is dropped. The paper drops nothing and
    /// falls apart in overload; dropping early costs it jobs at low load, because it lives from the last of the slack.
    crowd: usize,
    /// Upper edge (microseconds), tier, batch of each bucket.
    buckets: Vec<(f64, usize, usize)>,
}

/// SuperServe's number of buckets.
const BUCKETS: usize = 32;

impl SlackFit {
    /// The rule's table for a system.
    pub(crate) fn new(fit: Dequeue, world: &World, crowd: usize) -> Self {
        let least = world.tiers.first().map_or(0.0, |tier| tier.batch_us(1));
        let most = world.tiers.iter().map(|tier| tier.batch_us(tier.cap)).fold(least, f64::max);
        let mut buckets: Vec<(f64, usize, usize)> = Vec::with_capacity(BUCKETS + 1);
        let mut below = f64::NEG_INFINITY;
        for k in 0..=BUCKETS {
            let edge = least + (most - least) * k as f64 / BUCKETS as f64;
            let tuples = world.tiers.iter().enumerate().flat_map(|(m, tier)| (1..=tier.cap).map(move |b| (m, b, tier)));
            let inside =
                tuples.filter(|(_, b, tier)| (below..=edge).contains(&tier.batch_us(*b)) && tier.batch_us(*b) > below);
            // The largest batch; of two, the more accurate.
            let best = inside.map(|(m, b, _)| (b, m)).max();
            let (b, m) = best.unwrap_or_else(|| buckets.last().map_or((1, 0), |(_, m, b)| (*b, *m)));
            buckets.push((edge, m, b));
            below = edge;
        }
        Self { fit, crowd, buckets }
    }

    fn choose(&self, slack: f64, waiting: usize, world: &World) -> (usize, usize) {
        let tiers = &world.tiers;
        let dearest_for = |rows: usize| tiers.iter().rposition(|tier| rows <= tier.cap && tier.batch_us(rows) < slack);
        match self.fit {
            Dequeue::SlackFit | Dequeue::SlackFitFilled => {
                let Some((_, m, b)) = self.buckets.iter().rev().find(|(edge, ..)| *edge < slack) else {
                    return (0, tiers[0].cap.min(waiting));
                };
                if waiting < *b && self.fit == Dequeue::SlackFitFilled {
                    return (dearest_for(waiting).unwrap_or(*m), waiting);
                }
                (*m, (*b).min(waiting))
            }
            Dequeue::MaxAcc => {
                let m = dearest_for(1).unwrap_or(0);
                (m, tiers[m].fits(slack).clamp(1, waiting))
            }
            Dequeue::MaxBatch => {
                let b = tiers[0].fits(slack).clamp(1, waiting);
                (dearest_for(b).unwrap_or(0), b)
            }
        }
    }
}

impl Policy for SlackFit {
    fn edge(&mut self, _job: EdgeJob, _picture: Picture<'_>, _world: &World) -> Choice {
        Choice::sure(0)
    }

    fn claim(&mut self, bench: &Bench<'_>, _held: usize) -> usize {
        bench.world.tiers.iter().map(|tier| tier.cap).max().unwrap_or(1)
    }

    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        if drop_lost(0, self.crowd, held, bench, out) {
            return;
        }
        let (tier, rows) = self.choose(slack_us(held, bench), held.len(), bench.world);
        out.run(tier, 0..rows.min(bench.world.tiers[tier].cap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slackfit_takes_the_bucket_below_the_slack() {
        let world = World::reference();
        let rule = SlackFit::new(Dequeue::SlackFit, &world, 8);
        // 100 ms: the last bucket, the accurate tier's full batch of 44 ms.
        assert_eq!(rule.choose(100_000.0, 8, &world), (1, 8));
        assert_eq!(rule.choose(100_000.0, 3, &world), (1, 3));
        // 8 ms: the fast tier's full batch of 7.4 ms; no accurate one is that short.
        assert_eq!(rule.choose(8_500.0, 8, &world), (0, 8));
        assert_eq!(rule.choose(1_000.0, 8, &world), (0, 8));
        let filled = SlackFit::new(Dequeue::SlackFitFilled, &world, 8);
        assert_eq!(filled.choose(12_000.0, 1, &world), (1, 1));
        assert_eq!(SlackFit::new(Dequeue::MaxAcc, &world, 8).choose(20_000.0, 8, &world), (1, 3));
        assert_eq!(SlackFit::new(Dequeue::MaxBatch, &world, 8).choose(20_000.0, 8, &world), (0, 8));
        assert_eq!(SlackFit::new(Dequeue::MaxBatch, &world, 8).choose(50_000.0, 8, &world), (1, 8));
    }
}
