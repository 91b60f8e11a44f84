//! What nobody can beat: the best that a scheduler who knows the future could reach, from above.
//!
//! The fluid relaxation of routing.md 5: a job is work `s_m` (a full batch's share) that may be done
//! by any worker, in any pieces, between its arrival and its deadline. Its Lagrangian dual with one
//! price a slot of time is, for any prices `mu >= 0`, an upper bound:
//!
//! `UB(mu) = sum_t mu_t C_t + sum_j max(0, max_m (v_j a_m - s_m min_{t in j} mu_t))`
//!
//! No subgradient is needed. With `d_j(q)` the work that job `j` asks for at price `q`, and `P` a
//! set of slots, the least `UB` is `sum_j v_j max_m a_m - integral over q of max_P (sum of d_j(q) over the
//! jobs that lie inside P - C(P))`: one maximum closure for each price between two breakpoints, and
//! each is a scan over slots with a tree of suffix sums. The tests compare it with all sets of
//! slots, and with `UB` at random prices.

use super::workload::Arrivals;
use super::world::World;

/// Length of a slot, in microseconds. Longer slots make the bound looser, never wrong.
const SLOT_US: u64 = 1_000;

/// A job for the bound: first and last slot, and what kind it is.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u32,
    last: u32,
    kind: u32,
}

/// A kind of job: its value times each tier's accuracy.
type Kind = [f64; super::world::MAX_TIERS];

/// A problem of spans over slots.
#[derive(Debug)]
struct Problem {
    /// By last slot.
    spans: Vec<Span>,
    kinds: Vec<Kind>,
    /// Work of each tier.
    costs: Vec<f64>,
    /// Work that each slot holds.
    room: Vec<f64>,
}

/// The most effective accuracy that is possible over the scored arrivals, 0 to 1.
///
/// Jobs outside the scored window take no room: that only loosens the bound.
pub(crate) fn effective(world: &World, arrivals: &Arrivals) -> f64 {
    let problem = problem(world, arrivals, SLOT_US);
    let scored = arrivals.jobs.iter().filter(|job| (arrivals.from_us..arrivals.until_us).contains(&job.at_us));
    let value: f64 = scored.map(|job| world.classes[usize::from(job.class)].value).sum();
    problem.least() / value.max(f64::MIN_POSITIVE)
}

fn problem(world: &World, arrivals: &Arrivals, slot_us: u64) -> Problem {
    let epochs = world.accuracies.len() + 1;
    let epoch = |at_us: u64| world.accuracies.iter().filter(|(from, ..)| *from <= at_us).count();
    let mut kinds = vec![[0.0; super::world::MAX_TIERS]; world.classes.len() * epochs];
    let mut spans = Vec::with_capacity(arrivals.jobs.len());
    for job in arrivals.jobs.iter().filter(|job| (arrivals.from_us..arrivals.until_us).contains(&job.at_us)) {
        let class = &world.classes[usize::from(job.class)];
        let kind = usize::from(job.class) * epochs + epoch(job.at_us);
        for (tier, gain) in kinds[kind].iter_mut().enumerate().take(world.tiers.len()) {
            *gain = class.value * world.accuracy(tier, job.at_us);
        }
        let begin = job.at_us + world.net_in_us;
        let end = (job.at_us + class.deadline_us).saturating_sub(world.net_out_us);
        if end > begin {
            spans.push(Span { first: (begin / slot_us) as u32, last: (end / slot_us) as u32, kind: kind as u32 });
        }
    }
    spans.sort_by_key(|span| span.last);
    let slots = spans.last().map_or(0, |span| u64::from(span.last) + 1);
    Problem {
        spans,
        kinds,
        costs: world.tiers.iter().map(super::world::Tier::per_job_us).collect(),
        room: (0..slots).map(|slot| world.capacity_between(slot * slot_us, (slot + 1) * slot_us)).collect(),
    }
}

impl Problem {
    /// The least upper bound over all prices: the largest sum of values.
    fn least(&self) -> f64 {
        let free: f64 =
            self.spans.iter().map(|span| self.kinds[span.kind as usize].iter().copied().fold(0.0, f64::max)).sum();
        let prices = self.breakpoints();
        let mut below = 0.0;
        let mut least = free;
        for price in prices {
            let asked: Vec<f64> = self.kinds.iter().map(|kind| self.asked(kind, f64::midpoint(below, price))).collect();
            least -= (price - below) * self.closure(&asked);
            below = price;
        }
        least
    }

    /// Prices at which some kind changes what it asks for.
    fn breakpoints(&self) -> Vec<f64> {
        let mut prices = Vec::new();
        for kind in &self.kinds {
            for (m, cost) in self.costs.iter().enumerate() {
                prices.push(kind[m] / cost);
                for (n, other) in self.costs.iter().enumerate().filter(|(_, other)| *other < cost) {
                    prices.push((kind[m] - kind[n]) / (cost - other));
                }
            }
        }
        prices.retain(|price| *price > 0.0);
        prices.sort_by(f64::total_cmp);
        prices.dedup_by(|a, b| (*a - *b).abs() <= 1e-12 * b.abs());
        prices
    }

    /// Work that a job of a kind asks for at a price of work: that of its best tier, or none.
    fn asked(&self, kind: &Kind, price: f64) -> f64 {
        let mut best = (0.0, 0.0);
        for (gain, cost) in kind.iter().zip(&self.costs) {
            let left = gain - cost * price;
            if left > best.0 {
                best = (left, *cost);
            }
        }
        best.1
    }

    /// The largest excess of work over room in any set of slots.
    fn closure(&self, asked: &[f64]) -> f64 {
        let mut tree = SuffixTree::new(self.room.len());
        let (mut best, mut next) = (0.0, 0);
        for (slot, room) in self.room.iter().enumerate() {
            tree.open(slot, best);
            tree.add(slot, -room);
            while let Some(span) = self.spans.get(next).filter(|span| span.last as usize == slot) {
                tree.add(span.first as usize, asked[span.kind as usize]);
                next += 1;
            }
            best = f64::max(best, tree.most());
        }
        best
    }
}

/// Values of places, each plus all that was added at or behind it; their maximum is at hand.
#[derive(Debug)]
struct SuffixTree {
    leaves: usize,
    /// Of each node: what was added inside, and the largest value inside.
    nodes: Vec<(f64, f64)>,
}

impl SuffixTree {
    fn new(places: usize) -> Self {
        let leaves = places.max(1).next_power_of_two();
        Self { leaves, nodes: vec![(0.0, f64::NEG_INFINITY); 2 * leaves] }
    }

    /// A place gets its value.
    fn open(&mut self, place: usize, value: f64) {
        self.nodes[self.leaves + place].1 = value + self.nodes[self.leaves + place].0;
        self.mend(place);
    }

    /// Adds to all places up to this one.
    fn add(&mut self, place: usize, amount: f64) {
        let (sum, most) = &mut self.nodes[self.leaves + place];
        *sum += amount;
        *most += amount;
        self.mend(place);
    }

    fn mend(&mut self, place: usize) {
        let mut node = (self.leaves + place) / 2;
        while node > 0 {
            let ((left_sum, left), (right_sum, right)) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
            self.nodes[node] = (left_sum + right_sum, f64::max(left + right_sum, right));
            node /= 2;
        }
    }

    fn most(&self) -> f64 {
        self.nodes[1].1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bound of routing.md at given prices.
    fn at_prices(problem: &Problem, prices: &[f64]) -> f64 {
        let room: f64 = prices.iter().zip(&problem.room).map(|(price, room)| price * room).sum();
        let jobs = problem.spans.iter().map(|span| {
            let price = prices[span.first as usize..=span.last as usize].iter().copied().fold(f64::INFINITY, f64::min);
            let kind = &problem.kinds[span.kind as usize];
            kind.iter().zip(&problem.costs).map(|(gain, cost)| gain - cost * price).fold(0.0, f64::max)
        });
        room + jobs.sum::<f64>()
    }

    fn brute_closure(problem: &Problem, asked: &[f64]) -> f64 {
        (0..1_u32 << problem.room.len())
            .map(|set| {
                let inside = |slot: usize| set >> slot & 1 == 1;
                let room: f64 = problem.room.iter().enumerate().filter(|(slot, _)| inside(*slot)).map(|(_, r)| r).sum();
                let spans = problem.spans.iter().filter(|span| (span.first..=span.last).all(|s| inside(s as usize)));
                spans.map(|span| asked[span.kind as usize]).sum::<f64>() - room
            })
            .fold(0.0, f64::max)
    }

    prop_compose! {
        fn problems()(
            room in proptest::collection::vec(0.0..4.0, 1..9),
            spans in proptest::collection::vec((0_u32..9, 0_u32..9, 0_u32..2), 0..12),
            gains in proptest::collection::vec(0.1..1.0, 4),
        ) -> Problem {
            let last = room.len() as u32 - 1;
            let mut spans: Vec<Span> = spans
                .into_iter()
                .map(|(a, b, kind)| Span { first: a.min(b).min(last), last: a.max(b).min(last), kind })
                .collect();
            spans.sort_by_key(|span| span.last);
            let kinds = vec![[gains[0], gains[0] + gains[1], 0.0, 0.0], [gains[2], gains[2] + gains[3], 0.0, 0.0]];
            Problem { spans, kinds, costs: vec![1.0, 3.0], room }
        }
    }

    proptest! {
        #[test]
        fn the_scan_finds_the_largest_excess_of_all_sets(problem in problems(), price in 0.0..1.0) {
            let asked: Vec<f64> = problem.kinds.iter().map(|kind| problem.asked(kind, price)).collect();
            prop_assert!((problem.closure(&asked) - brute_closure(&problem, &asked)).abs() < 1e-9);
        }

        #[test]
        fn no_prices_give_less(problem in problems(), prices in proptest::collection::vec(0.0..1.0, 9)) {
            let least = problem.least();
            prop_assert!(least <= at_prices(&problem, &prices) + 1e-9);
            prop_assert!(least <= at_prices(&problem, &[0.0; 9]) + 1e-9);
            prop_assert!(least >= -1e-9);
        }
    }

    #[test]
    fn a_job_alone_gets_the_dear_tier_and_a_crowd_does_not() {
        let spans = |n| vec![Span { first: 0, last: 0, kind: 0 }; n];
        let problem = |n| Problem {
            spans: spans(n),
            kinds: vec![[0.9, 0.97, 0.0, 0.0]],
            costs: vec![1.0, 5.0],
            room: vec![10.0],
        };
        assert!((problem(1).least() - 0.97).abs() < 1e-12);
        // Six jobs, ten units: all fast takes six, the four left upgrade one job.
        assert!((problem(6).least() - (6.0 * 0.9 + 0.07)).abs() < 1e-9);
        // Twenty jobs: ten are served.
        assert!((problem(20).least() - 9.0).abs() < 1e-9);
    }
}
