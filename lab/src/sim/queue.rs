//! The queue of a simulated task: one lane a tier and class, read in order of deadline.
//!
//! Owns order and counts. Jobs of a class arrive in order of their deadlines, so each lane is
//! sorted and the most urgent job of all is at the head of some lane.

use std::collections::VecDeque;

use super::world::{MAX_CLASSES, MAX_TIERS};

/// A job as a worker sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Claimed {
    /// Which job: its place among the arrivals.
    pub(crate) job: u32,
    /// The tier the edge chose.
    pub(crate) hint: u8,
    /// Its class.
    pub(crate) class: u8,
    /// What a right answer in time is worth.
    pub(crate) value: f32,
    /// The last moment at which a worker may finish it, in microseconds.
    pub(crate) finish_by_us: u64,
    /// When it arrived at the edge, in microseconds.
    pub(crate) arrived_us: u64,
}

/// What waits.
#[derive(Debug)]
pub(crate) struct Queue {
    lanes: Vec<VecDeque<Claimed>>,
    classes: usize,
    waiting: [u32; MAX_TIERS],
}

impl Queue {
    /// An empty queue for so many tiers and classes.
    pub(crate) fn new(tiers: usize, classes: usize) -> Self {
        let (tiers, classes) = (tiers.min(MAX_TIERS), classes.min(MAX_CLASSES));
        Self {
            lanes: (0..tiers * classes).map(|_| VecDeque::with_capacity(1_024)).collect(),
            classes,
            waiting: [0; MAX_TIERS],
        }
    }

    /// Jobs that wait, by hinted tier.
    pub(crate) const fn waiting(&self) -> &[u32; MAX_TIERS] {
        &self.waiting
    }

    /// Jobs that wait for a tier, or for any.
    pub(crate) fn len(&self, only: Option<usize>) -> usize {
        match only {
            Some(tier) => self.waiting[tier] as usize,
            None => self.waiting.iter().map(|waiting| *waiting as usize).sum(),
        }
    }

    /// A new job.
    pub(crate) fn push(&mut self, job: Claimed) {
        let lane = self.lane(&job);
        self.lanes[lane].push_back(job);
        self.waiting[usize::from(job.hint)] += 1;
    }

    /// A job that was claimed and not run. Those of one lane must come back last claimed first.
    pub(crate) fn put_back(&mut self, job: Claimed) {
        let lane = self.lane(&job);
        self.lanes[lane].push_front(job);
        self.waiting[usize::from(job.hint)] += 1;
    }

    /// Takes the most urgent job of a tier, or of any.
    pub(crate) fn pop(&mut self, only: Option<usize>) -> Option<Claimed> {
        let lane = self.most_urgent(only)?;
        self.pop_lane(lane)
    }

    /// Takes the most urgent job of a lane.
    pub(crate) fn pop_lane(&mut self, lane: usize) -> Option<Claimed> {
        let job = self.lanes.get_mut(lane)?.pop_front()?;
        self.waiting[usize::from(job.hint)] -= 1;
        Some(job)
    }

    /// The most urgent job of a tier, or of any.
    pub(crate) fn peek(&self, only: Option<usize>) -> Option<&Claimed> {
        self.most_urgent(only).and_then(|lane| self.lanes[lane].front())
    }

    /// The lanes of a tier, or all; each in order of deadline.
    pub(crate) fn lanes(&self, only: Option<usize>) -> &[VecDeque<Claimed>] {
        match only {
            Some(tier) => &self.lanes[tier * self.classes..(tier + 1) * self.classes],
            None => &self.lanes,
        }
    }

    /// The longest that any job has waited, in microseconds.
    pub(crate) fn oldest_us(&self, now_us: u64) -> u64 {
        let heads = self.lanes.iter().filter_map(VecDeque::front);
        heads.map(|job| now_us.saturating_sub(job.arrived_us)).max().unwrap_or(0)
    }

    fn lane(&self, job: &Claimed) -> usize {
        usize::from(job.hint) * self.classes + usize::from(job.class)
    }

    /// The lane whose head is the most urgent of a tier, or of any.
    pub(crate) fn most_urgent(&self, only: Option<usize>) -> Option<usize> {
        let first = only.map_or(0, |tier| tier * self.classes);
        let heads = self.lanes(only).iter().enumerate().filter_map(|(i, lane)| Some((lane.front()?.finish_by_us, i)));
        heads.min().map(|(_, i)| first + i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(job: u32, hint: u8, class: u8, finish_by_us: u64) -> Claimed {
        Claimed { job, hint, class, value: 1.0, finish_by_us, arrived_us: 0 }
    }

    #[test]
    fn the_most_urgent_comes_first_and_what_is_put_back_comes_again() {
        let mut queue = Queue::new(2, 2);
        for (i, (hint, class, by)) in [(0, 0, 50), (1, 1, 20), (1, 0, 30), (0, 0, 60)].into_iter().enumerate() {
            queue.push(job(i as u32, hint, class, by));
        }
        assert_eq!(queue.len(None), 4);
        assert_eq!(queue.peek(None).map(|job| job.job), Some(1));
        let claimed = [queue.pop(None).unwrap(), queue.pop(None).unwrap()];
        assert_eq!(claimed.map(|job| job.job), [1, 2]);
        assert_eq!(queue.len(Some(1)), 0);
        for job in claimed.into_iter().rev() {
            queue.put_back(job);
        }
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop(None)).map(|job| job.job).collect();
        assert_eq!(order, [1, 2, 0, 3]);
        assert!(queue.pop(Some(0)).is_none());
    }
}
