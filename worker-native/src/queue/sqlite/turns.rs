//! Whose turn it is among waiting jobs: classes by age, tenants in turns. Pure: knows ids and times, no file.
//!
//! Classes are ranked by the age of their oldest job, less a handicap. Within a class each tenant has a virtual time,
//! which grows by one for each of its jobs that is given out; the least is next (start-time fair queueing). Who comes
//! back after a pause begins at the virtual time of the job served last: a pause earns nothing and costs nothing.
//! Everything here is made anew from the jobs when the file is opened, so that a restart lets all begin level.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// High, normal, low.
pub(super) const CLASSES: usize = 3;
/// One claim in so many starts with the lowest class that waits.
const SHARE: u32 = 20;

/// Tenants remembered without a waiting job, in each class: their names come from callers.
const MAX_RESTING: usize = 10_000;

/// A tenant's first waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The job's row: lower is earlier.
    pub(super) id: i64,
    /// When it was accepted.
    pub(super) accepted: i64,
}

#[derive(Debug)]
struct Flow {
    virtual_time: u64,
    head: Head,
}

/// The tenants of one class.
#[derive(Debug, Default)]
struct Class {
    /// Of the job served last.
    virtual_time: u64,
    flows: BTreeMap<Arc<str>, Flow>,
    turns: BTreeSet<(u64, Arc<str>)>,
    oldest: BTreeSet<(i64, Arc<str>)>,
    /// Tenants without a waiting job that are ahead of the class, until it has caught up with them.
    resting: BTreeMap<Arc<str>, u64>,
    resting_by_time: BTreeSet<(u64, Arc<str>)>,
}

/// Which jobs go next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) class: usize,
    /// Empty: the jobs that have none.
    pub(super) tenant: Arc<str>,
    /// So many, before it is another tenant's turn.
    pub(super) at_most: u64,
    /// Those accepted by then, before it is another class's turn; the first goes in any case.
    pub(super) until: i64,
}

/// The waiting jobs of a task.
#[derive(Debug, Default)]
pub(super) struct Turns {
    classes: [Class; CLASSES],
    claims: u32,
}

impl Turns {
    /// Does any job wait?
    pub(super) fn any(&self) -> bool {
        self.classes.iter().any(|class| !class.flows.is_empty())
    }

    /// A job waits now.
    pub(super) fn add(&mut self, class: usize, tenant: &str, job: Head) {
        if let Some(class) = self.classes.get_mut(class) {
            class.add(tenant, job);
        }
    }

    /// A waiting job went without its turn. Was it its tenant's first? Then [`Turns::reset`] is to tell the next.
    pub(super) fn is_head(&self, class: usize, tenant: &str, id: i64) -> bool {
        self.classes.get(class).and_then(|class| class.flows.get(tenant)).is_some_and(|flow| flow.head.id == id)
    }

    /// A tenant's first waiting job is another one, or it has none any more.
    pub(super) fn reset(&mut self, class: usize, tenant: &str, head: Option<Head>) {
        if let Some(class) = self.classes.get_mut(class) {
            class.serve(tenant, 0, head);
        }
    }

    /// Counts a claim. Is it one that starts with the lowest class?
    pub(super) fn begins_low(&mut self) -> bool {
        self.claims = (self.claims + 1) % SHARE;
        self.claims == 0
    }

    /// Whose turn it is; `step` is a normal job's handicap in milliseconds, a low one's is five times that.
    pub(super) fn next(&self, step: i64, lowest_first: bool) -> Option<Turn> {
        let ranks: Vec<(i64, usize)> = self.ranks(step).collect();
        if lowest_first {
            let (_, class) = ranks.into_iter().max_by_key(|(_, class)| *class)?;
            return self.turn_in(class, i64::MAX);
        }
        let (_, class) = ranks.iter().copied().min()?;
        let rival = ranks.into_iter().filter(|(_, other)| *other != class).min();
        // Of the same rank the more urgent class goes first.
        let until = rival
            .map_or(i64::MAX, |(rank, other)| rank.saturating_sub(handicap(class, step) + i64::from(other < class)));
        self.turn_in(class, until)
    }

    /// A tenant's jobs were given out; `next` is its first one now.
    pub(super) fn served(&mut self, class: usize, tenant: &str, jobs: u64, next: Option<Head>) {
        if let Some(class) = self.classes.get_mut(class) {
            class.serve(tenant, jobs, next);
        }
    }

    /// Each waiting class with the rank of its oldest job; the least goes first.
    fn ranks(&self, step: i64) -> impl Iterator<Item = (i64, usize)> {
        self.classes.iter().enumerate().filter_map(move |(number, class)| {
            let (accepted, _) = class.oldest.first()?;
            Some((accepted.saturating_add(handicap(number, step)), number))
        })
    }

    fn turn_in(&self, number: usize, until: i64) -> Option<Turn> {
        let class = self.classes.get(number)?;
        let mut turns = class.turns.iter();
        let (time, tenant) = turns.next()?;
        let at_most = turns.next().map_or(u64::MAX, |(other, name)| other - time + u64::from(tenant < name));
        // While the class's oldest job is another tenant's, what this one gives out does not change the rank.
        let owns_rank = class.oldest.first().is_some_and(|(_, owner)| owner == tenant);
        let until = if owns_rank { until } else { i64::MAX };
        Some(Turn { class: number, tenant: Arc::clone(tenant), at_most: at_most.max(1), until })
    }
}

fn handicap(class: usize, step: i64) -> i64 {
    match class {
        0 => 0,
        1 => step,
        _ => step.saturating_mul(5),
    }
}

impl Class {
    fn add(&mut self, tenant: &str, job: Head) {
        if let Some((name, flow)) = self.flows.get_key_value(tenant) {
            if job.id < flow.head.id {
                let (name, virtual_time) = (Arc::clone(name), flow.virtual_time);
                self.take_out(&name);
                self.put(name, Flow { virtual_time, head: job });
            }
            return;
        }
        let (name, ahead) = match self.resting.remove_entry(tenant) {
            Some((name, time)) => {
                self.resting_by_time.remove(&(time, Arc::clone(&name)));
                (name, time)
            }
            None => (Arc::from(tenant), 0),
        };
        let virtual_time = ahead.max(self.virtual_time);
        self.put(name, Flow { virtual_time, head: job });
    }

    fn serve(&mut self, tenant: &str, jobs: u64, next: Option<Head>) {
        let Some((name, flow)) = self.take_out(tenant) else { return };
        if jobs > 0 {
            self.virtual_time = self.virtual_time.max(flow.virtual_time + jobs - 1);
        }
        let virtual_time = flow.virtual_time + jobs;
        if let Some(head) = next {
            self.put(name, Flow { virtual_time, head });
        } else if virtual_time > self.virtual_time {
            self.resting_by_time.insert((virtual_time, Arc::clone(&name)));
            self.resting.insert(name, virtual_time);
        }
        if self.flows.is_empty() {
            // Nobody waits: all begin level again.
            self.virtual_time = self.virtual_time.max(virtual_time);
        }
        while let Some((time, name)) = self.resting_by_time.first() {
            if *time > self.virtual_time && self.resting.len() <= MAX_RESTING {
                break;
            }
            self.resting.remove(name);
            self.resting_by_time.pop_first();
        }
    }

    fn put(&mut self, name: Arc<str>, flow: Flow) {
        self.turns.insert((flow.virtual_time, Arc::clone(&name)));
        self.oldest.insert((flow.head.accepted, Arc::clone(&name)));
        self.flows.insert(name, flow);
    }

    fn take_out(&mut self, tenant: &str) -> Option<(Arc<str>, Flow)> {
        let (name, flow) = self.flows.remove_entry(tenant)?;
        self.turns.remove(&(flow.virtual_time, Arc::clone(&name)));
        self.oldest.remove(&(flow.head.accepted, Arc::clone(&name)));
        Some((name, flow))
    }
}

#[cfg(test)]
mod tests;
