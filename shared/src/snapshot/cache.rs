//! What one keeper (an edge isolate) remembers of the snapshots that passed by.
//!
//! Plain data and rules: which of two snapshots is newer, how old the picture of a task is, and
//! whose turn it is to refresh. The turn is a lease by time and not a flag: a request that dies at
//! the edge runs no destructor, and a flag it had set would stay set for ever.

use super::{Snapshot, TaskLoad};

/// Ages at which a snapshot stops being fresh, and usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Up to this age a decision needs no refresh, in milliseconds.
    pub fresh_ms: u64,
    /// Up to this age a decision may still be based on it, in milliseconds.
    pub usable_ms: u64,
}

/// How well a keeper sees a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sight<'a> {
    /// Fresh, with its age in milliseconds: decide.
    Fresh(&'a TaskLoad, u64),
    /// Old but usable, with its age in milliseconds: decide, and refresh behind the answer.
    Stale(&'a TaskLoad, u64),
    /// Nothing usable: leave the decision to the origin.
    Blind,
}

/// The snapshots a keeper holds, task by task.
#[derive(Debug)]
pub struct SnapshotCache {
    kept: Vec<Kept>,
    refresh_leased_at: Option<u64>,
}

#[derive(Debug)]
struct Kept {
    boot: u64,
    seq: u64,
    at: u64,
    received_ms: u64,
    /// Jobs sent since the picture was made.
    sent: u32,
    load: TaskLoad,
}

impl Kept {
    /// Does the kept picture of one boot hold against that of another?
    fn outranks(&self, other: &Snapshot, now_ms: u64) -> bool {
        let silent = now_ms.saturating_sub(self.received_ms) >= BOOT_SILENCE_MS;
        self.boot != other.boot && self.at >= other.at && !silent
    }
}

/// A boot not heard of for this long has lost its rank, in milliseconds: its clock may have been ahead of all others'.
const BOOT_SILENCE_MS: u64 = 10_000;
/// How long one refresh keeps others from starting, in milliseconds.
pub const REFRESH_LEASE_MS: u64 = 2_000;
/// More tasks than a deployment has are not remembered.
const MAX_KEPT: usize = 64;

impl SnapshotCache {
    /// An empty cache.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: Vec::new(), refresh_leased_at: None }
    }

    /// Takes in a snapshot received at `now_ms` of the keeper's clock; older pictures lose.
    ///
    /// Within a boot the higher sequence wins. Of two boots the later origin clock wins, so that a
    /// late answer of the process before a restart cannot bring its picture back.
    pub fn merge(&mut self, snapshot: &Snapshot, now_ms: u64) {
        for load in &snapshot.tasks {
            let fresh = || Kept {
                boot: snapshot.boot,
                seq: snapshot.seq,
                at: snapshot.at,
                received_ms: now_ms,
                sent: 0,
                load: load.clone(),
            };
            let room = self.kept.len() < MAX_KEPT;
            match self.kept.iter_mut().find(|kept| kept.load.task == load.task) {
                Some(kept) if kept.boot == snapshot.boot && kept.seq > snapshot.seq => {}
                // The same picture, confirmed again: the origin had nothing newer to say.
                Some(kept) if kept.boot == snapshot.boot && kept.seq == snapshot.seq => {
                    kept.received_ms = kept.received_ms.max(now_ms);
                }
                Some(kept) if kept.outranks(snapshot, now_ms) => {}
                Some(kept) => *kept = fresh(),
                None if room => self.kept.push(fresh()),
                None => {}
            }
        }
    }

    /// How well the keeper sees a task at `now_ms`, with the age in milliseconds.
    #[must_use]
    pub fn sight(&self, task: &str, now_ms: u64, freshness: Freshness) -> Sight<'_> {
        let Some(kept) = self.kept.iter().find(|kept| kept.load.task == task) else {
            return Sight::Blind;
        };
        let age = now_ms.saturating_sub(kept.received_ms);
        if age <= freshness.fresh_ms {
            Sight::Fresh(&kept.load, age)
        } else if age <= freshness.usable_ms {
            Sight::Stale(&kept.load, age)
        } else {
            Sight::Blind
        }
    }

    /// Counts a job of a task that the keeper sends on: what it knows of a queue that no picture shows yet.
    pub fn count_sent(&mut self, task: &str) {
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.load.task == task) {
            kept.sent = kept.sent.saturating_add(1);
        }
    }

    /// Jobs of a task sent since the picture in use came; see [`crate::policy::Moment::sent`].
    #[must_use]
    pub fn sent(&self, task: &str) -> u32 {
        self.kept.iter().find(|kept| kept.load.task == task).map_or(0, |kept| kept.sent)
    }

    /// The tasks seen so far, each with the age of its picture at `now_ms`, in milliseconds.
    pub fn ages(&self, now_ms: u64) -> impl Iterator<Item = (&str, u64)> {
        self.kept.iter().map(move |kept| (kept.load.task.as_str(), now_ms.saturating_sub(kept.received_ms)))
    }

    /// Is it the caller's turn to refresh? At most one caller hears yes in [`REFRESH_LEASE_MS`].
    pub fn lease_refresh(&mut self, now_ms: u64) -> bool {
        let free = self.refresh_leased_at.is_none_or(|at| now_ms.saturating_sub(at) >= REFRESH_LEASE_MS);
        if free {
            self.refresh_leased_at = Some(now_ms);
        }
        free
    }
}

impl Default for SnapshotCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::TierLoad;

    const FRESHNESS: Freshness = Freshness { fresh_ms: 1_000, usable_ms: 10_000 };

    fn snapshot(boot: u64, seq: u64, at: u64, depth: u32) -> Snapshot {
        let tiers = vec![TierLoad { tier: "fast".to_owned(), depth, ..TierLoad::default() }];
        Snapshot { boot, seq, at, tasks: vec![TaskLoad { task: "pump".to_owned(), tiers, plan: None }] }
    }

    fn depth(cache: &SnapshotCache) -> Option<u32> {
        match cache.sight("pump", 0, FRESHNESS) {
            Sight::Fresh(load, _) | Sight::Stale(load, _) => Some(load.depth()),
            Sight::Blind => None,
        }
    }

    #[test]
    fn the_newest_picture_wins_in_any_order_of_arrival() {
        let mut cache = SnapshotCache::new();
        assert_eq!(depth(&cache), None);
        cache.merge(&snapshot(1, 5, 100, 5), 0);
        cache.merge(&snapshot(1, 4, 99, 4), 0);
        assert_eq!(depth(&cache), Some(5));
        cache.merge(&snapshot(2, 1, 200, 20), 0);
        cache.merge(&snapshot(1, 9, 150, 9), 0);
        assert_eq!(depth(&cache), Some(20));
    }

    #[test]
    fn a_boot_whose_clock_was_ahead_does_not_blind_the_keeper_for_ever() {
        let mut cache = SnapshotCache::new();
        cache.merge(&snapshot(1, 1, 900_000, 1), 0);
        cache.merge(&snapshot(2, 1, 5_000, 2), 9_999);
        assert_eq!(depth(&cache), Some(1));
        cache.merge(&snapshot(2, 2, 5_001, 2), 10_000);
        assert_eq!(depth(&cache), Some(2));
    }

    #[test]
    fn sight_fades_with_age() {
        let mut cache = SnapshotCache::new();
        cache.merge(&snapshot(1, 1, 1, 1), 1_000);
        let see = |now| cache.sight("pump", now, FRESHNESS);
        assert!(matches!(see(2_000), Sight::Fresh(_, 1_000)));
        assert!(matches!(see(2_001), Sight::Stale(_, 1_001)));
        assert!(matches!(see(11_001), Sight::Blind));
        assert!(matches!(see(0), Sight::Fresh(_, 0)), "a clock that went back is no age");
        assert!(matches!(cache.sight("other", 1_000, FRESHNESS), Sight::Blind));
    }

    #[test]
    fn a_confirmed_picture_is_young_again() {
        let mut cache = SnapshotCache::new();
        cache.merge(&snapshot(1, 1, 1, 1), 0);
        cache.merge(&snapshot(1, 1, 1, 1), 5_000);
        assert!(matches!(cache.sight("pump", 5_500, FRESHNESS), Sight::Fresh(_, 500)));
        assert_eq!(cache.ages(5_500).collect::<Vec<_>>(), [("pump", 500)]);
    }

    #[test]
    fn what_was_sent_counts_until_the_next_picture() {
        let mut cache = SnapshotCache::new();
        cache.count_sent("pump");
        assert_eq!(cache.sent("pump"), 0, "of a task that was never seen nothing is known");
        cache.merge(&snapshot(1, 1, 1, 1), 0);
        cache.count_sent("pump");
        cache.merge(&snapshot(1, 1, 1, 1), 5);
        assert_eq!(cache.sent("pump"), 1);
        cache.merge(&snapshot(1, 2, 2, 1), 6);
        assert_eq!(cache.sent("pump"), 0);
    }

    #[test]
    fn one_refresh_a_lease() {
        let mut cache = SnapshotCache::new();
        assert!(cache.lease_refresh(0));
        assert!(!cache.lease_refresh(1_999));
        assert!(cache.lease_refresh(2_000));
    }
}
