//! Which tiers are worth using, and which two of them a budget of time buys.
//!
//! Most-Accurate-First over the upper convex hull of cost and accuracy: a tier under the line
//! between two others is beaten by a mix of them, so at most two neighbours on the hull get weight.

use super::math::{count, number, smaller, within};
use super::profile::{MAX_TIERS, TierModel, ranked};

/// The tiers on the hull, cheapest first, with what a reading costs there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hull {
    tiers: [usize; MAX_TIERS],
    costs: [f32; MAX_TIERS],
    len: usize,
}

impl Hull {
    /// The hull of tiers; where accuracies are not known a dearer tier is taken to be better by `rank_gap`.
    pub(super) fn of_models(tiers: &[TierModel], rank_gap: f32) -> Self {
        let mut known = [None; MAX_TIERS];
        let mut cost = [0.0; MAX_TIERS];
        for ((tier, known), cost) in tiers.iter().zip(&mut known).zip(&mut cost) {
            *known = tier.accuracy;
            *cost = tier.profile.server_us();
        }
        let n = tiers.len().min(MAX_TIERS);
        Self::of(&cost, &ranked(known.get(..n).unwrap_or_default(), rank_gap), n)
    }

    /// The hull of the first `n` tiers; costs and accuracies must be finite.
    pub(super) fn of(costs: &[f32; MAX_TIERS], accuracies: &[f32; MAX_TIERS], n: usize) -> Self {
        let mut hull = Self { tiers: [0; MAX_TIERS], costs: [0.0; MAX_TIERS], len: 0 };
        let points =
            || costs.iter().zip(accuracies).take(n).enumerate().map(|(tier, (cost, right))| (tier, *cost, *right));
        let cheapest = points().reduce(|best, point| {
            let better = point.1 < best.1 || (point.1 <= best.1 && point.2 > best.2);
            if better { point } else { best }
        });
        let mut at = cheapest;
        while let Some((tier, cost, right)) = at {
            hull.push(tier, cost);
            let slope = |point: &(usize, f32, f32)| (point.2 - right) / (point.1 - cost);
            at = points()
                .filter(|point| point.1 > cost && point.2 > right)
                .reduce(|best, point| if slope(&point) > slope(&best) { point } else { best });
        }
        hull
    }

    fn push(&mut self, tier: usize, cost: f32) {
        if let (Some(place), Some(price)) = (self.tiers.get_mut(self.len), self.costs.get_mut(self.len)) {
            (*place, *price) = (tier, cost);
            self.len += 1;
        }
    }

    /// The dearest tier on it: the most accurate of all.
    pub(super) fn dearest(&self) -> usize {
        self.len.checked_sub(1).and_then(|last| self.tiers.get(last)).copied().unwrap_or(0)
    }

    /// The highest level there is: one step a neighbouring pair.
    pub(super) fn top(&self) -> f32 {
        number(u32::try_from(self.len.saturating_sub(1)).unwrap_or(0))
    }

    /// The level that a budget of time a reading buys: the step's number plus the share of its dearer tier.
    pub(super) fn level(&self, budget_us: f32) -> f32 {
        let mut level = 0.0;
        for pair in self.costs.get(..self.len).unwrap_or_default().windows(2) {
            let [cheap, dear] = pair else { break };
            level += within((budget_us - cheap) / (dear - cheap), 0.0, 1.0);
        }
        level
    }

    /// The pair of tiers at a level, and the share of the dearer one; both the same where the hull is one tier.
    pub(super) fn pair(&self, level: f32) -> (usize, usize, f32) {
        let steps = self.len.saturating_sub(1);
        if steps == 0 {
            return (self.tiers[0], self.tiers[0], 0.0);
        }
        let level = within(level, 0.0, self.top());
        let step = usize::try_from(count(level)).unwrap_or(0).min(steps - 1);
        let share = within(level - number(u32::try_from(step).unwrap_or(0)), 0.0, 1.0);
        let tier = |at: usize| self.tiers.get(at).copied().unwrap_or(0);
        (tier(step), tier(step + 1), share)
    }

    /// The level at which a pair and a share of an earlier plan stand on this hull.
    pub(super) fn level_of(&self, lower: usize, upper: usize, share: f32) -> f32 {
        let cost_of = |tier: usize| {
            let at = self.tiers.get(..self.len).unwrap_or_default().iter().position(|kept| *kept == tier);
            at.and_then(|at| u32::try_from(at).ok()).map(number)
        };
        match (cost_of(lower), cost_of(upper)) {
            (Some(low), Some(high)) => low + (high - low) * within(share, 0.0, 1.0),
            (Some(low), None) => smaller(low + within(share, 0.0, 1.0), self.top()),
            (None, Some(high)) => high * within(share, 0.0, 1.0),
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hull(points: &[(f32, f32)]) -> Hull {
        let (mut costs, mut accuracies) = ([0.0; MAX_TIERS], [0.0; MAX_TIERS]);
        for (i, (cost, accuracy)) in points.iter().enumerate() {
            (costs[i], accuracies[i]) = (*cost, *accuracy);
        }
        Hull::of(&costs, &accuracies, points.len())
    }

    #[test]
    fn a_tier_that_a_mix_beats_is_left_out() {
        let hull = hull(&[(1.0, 0.8), (4.0, 0.82), (5.0, 0.95), (9.0, 0.97)]);
        assert_eq!((hull.pair(0.5), hull.pair(1.25), hull.top()), ((0, 2, 0.5), (2, 3, 0.25), 2.0));
        assert_eq!((hull.level(3.0), hull.level(0.1), hull.level(8.0), hull.level(f32::NAN)), (0.5, 0.0, 1.75, 0.0));
        assert_eq!(hull.level_of(0, 2, 0.5), 0.5);
    }

    #[test]
    fn a_dear_tier_that_is_no_better_is_never_used() {
        let hull = hull(&[(1.0, 0.9), (5.0, 0.7)]);
        assert_eq!((hull.top(), hull.pair(1.0)), (0.0, (0, 0, 0.0)));
        assert_eq!(self::hull(&[]).pair(0.3), (0, 0, 0.0));
    }
}
