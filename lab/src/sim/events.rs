//! What is still to happen, in order of time.
//!
//! Owns the heap. Arrivals are not in it: they are sorted already, and the engine merges them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A worker has finished a batch; of a life it may not have any more.
    Done { worker: u8, life: u32 },
    /// A worker that waited for more jobs looks again.
    Wake { worker: u8 },
    /// The planner's turn.
    Tick,
    /// The change of that number in the world.
    Change(u16),
    /// A dead worker is known to be dead, and its jobs come back.
    Missed { worker: u8 },
}

/// The events to come. Those of one moment come in the order in which they were put in.
#[derive(Debug)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    put: u64,
}

impl Agenda {
    /// With room enough that a run allocates nothing.
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(1_024), put: 0 }
    }

    /// Something will happen at a moment, in microseconds.
    pub(crate) fn put(&mut self, at_us: u64, event: Event) {
        self.heap.push(Reverse((at_us, self.put, event)));
        self.put += 1;
    }

    /// When the next event is.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_us, ..))| *at_us)
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse((at_us, _, event))| (at_us, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_put() {
        let mut agenda = Agenda::new();
        agenda.put(5, Event::Tick);
        agenda.put(3, Event::Wake { worker: 1 });
        agenda.put(3, Event::Wake { worker: 0 });
        assert_eq!(agenda.next_at(), Some(3));
        assert_eq!(agenda.pop(), Some((3, Event::Wake { worker: 1 })));
        assert_eq!(agenda.pop(), Some((3, Event::Wake { worker: 0 })));
        assert_eq!(agenda.pop(), Some((5, Event::Tick)));
        assert_eq!(agenda.pop(), None);
    }
}
