//! Which version answered a request, for the label that comes later: bounded in number and in time.
//!
//! Owns that a label counts once for each answer, whichever of its ids names it. An own ring
//! rather than a cache: it must tell "labelled already" from "not known", forget in order of age,
//! and take its time from outside.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Assignment;

/// Answers kept unless told otherwise.
pub const CAPACITY: usize = 100_000;
/// How long they are kept, in milliseconds.
pub const KEEP_MS: u64 = 3_600_000;
/// Longest prediction kept, in bytes; a longer one can be labelled by `correct` only.
const MAX_PREDICTION: usize = 256;

/// What answered a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The task's name.
    pub task: Arc<str>,
    /// The model's name.
    pub model: Arc<str>,
    /// Version and arm.
    pub assignment: Assignment,
    /// The class, or `normal` / `anomaly`; none where the answer is no such word.
    pub prediction: Option<Arc<str>>,
}

/// What the ledger knows of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Here is the answer; it is labelled from now on.
    Answered(Answered),
    /// It was labelled before.
    Labelled,
    /// Never heard of, or forgotten.
    Unknown,
}

#[derive(Debug)]
struct Slot {
    at: u64,
    ids: [Option<Arc<str>>; 2],
    // None once it is labelled.
    answered: Option<Answered>,
}

#[derive(Debug, Default)]
struct Ring {
    slots: VecDeque<Slot>,
    // The number of the first slot; numbers only grow.
    first: u64,
    by_id: HashMap<Arc<str>, u64>,
}

/// The newest answers by request id and job id.
#[derive(Debug)]
pub struct Ledger {
    capacity: usize,
    keep_ms: u64,
    ring: Mutex<Ring>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new(CAPACITY, KEEP_MS)
    }
}

impl Ledger {
    /// A ledger of at most `capacity` answers, each for at most `keep_ms` milliseconds; it grows as it fills.
    #[must_use]
    pub fn new(capacity: usize, keep_ms: u64) -> Self {
        Self { capacity: capacity.max(1), keep_ms, ring: Mutex::default() }
    }

    /// Keeps an answer under its request id, and under its job id where it has one.
    ///
    /// An id that comes again means the newer answer. An element of a batch needs an id of its own (`<request id>:<index>`).
    pub fn remember(&self, request_id: &str, job_id: Option<&str>, mut answered: Answered, now_ms: u64) {
        answered.prediction = answered.prediction.filter(|prediction| prediction.len() <= MAX_PREDICTION);
        let mut ring = self.ring();
        self.forget(&mut ring, now_ms);
        while ring.slots.len() >= self.capacity {
            ring.drop_first();
        }
        let number = ring.first + ring.slots.len() as u64;
        let ids = [Some(request_id), job_id.filter(|job_id| *job_id != request_id)].map(|id| id.map(Arc::from));
        for id in ids.iter().flatten() {
            ring.by_id.insert(Arc::clone(id), number);
        }
        ring.slots.push_back(Slot { at: now_ms, ids, answered: Some(answered) });
    }

    /// The answer under a request id or job id, once, if it passes a check; a label that does not fit leaves it to be labelled.
    ///
    /// # Errors
    /// The check's.
    pub fn take_if<E>(
        &self,
        id: &str,
        now_ms: u64,
        check: impl FnOnce(&Answered) -> Result<(), E>,
    ) -> Result<Found, E> {
        let mut ring = self.ring();
        self.forget(&mut ring, now_ms);
        let Some(number) = ring.by_id.get(id).copied() else { return Ok(Found::Unknown) };
        let index = usize::try_from(number.saturating_sub(ring.first)).unwrap_or(usize::MAX);
        let Some(slot) = ring.slots.get_mut(index) else { return Ok(Found::Unknown) };
        let Some(answered) = &slot.answered else { return Ok(Found::Labelled) };
        check(answered)?;
        Ok(slot.answered.take().map_or(Found::Labelled, Found::Answered))
    }

    fn forget(&self, ring: &mut Ring, now_ms: u64) {
        while ring.slots.front().is_some_and(|slot| now_ms.saturating_sub(slot.at) >= self.keep_ms) {
            ring.drop_first();
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // No step between two changes can panic, so the two parts fit together.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn drop_first(&mut self) {
        let Some(slot) = self.slots.pop_front() else { return };
        for id in slot.ids.iter().flatten() {
            // An id that came again belongs to the newer answer.
            if self.by_id.get(id) == Some(&self.first) {
                self.by_id.remove(id);
            }
        }
        self.first += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(version: u32) -> Answered {
        let assignment = Assignment { version, arm: "canary".into(), slot: Some(1), epoch: 1 };
        Answered { task: "t".into(), model: "m".into(), assignment, prediction: Some("normal".into()) }
    }

    fn take(ledger: &Ledger, id: &str, now_ms: u64) -> Found {
        ledger.take_if(id, now_ms, |_| Ok::<_, std::convert::Infallible>(())).unwrap()
    }

    #[test]
    fn an_answer_is_labelled_once_whichever_id_names_it() {
        let ledger = Ledger::new(10, 1_000);
        ledger.remember("r", Some("j"), answered(2), 0);
        assert_eq!(take(&ledger, "j", 1), Found::Answered(answered(2)));
        assert_eq!((take(&ledger, "r", 1), take(&ledger, "j", 1)), (Found::Labelled, Found::Labelled));
        assert_eq!(take(&ledger, "other", 1), Found::Unknown);
    }

    #[test]
    fn a_label_that_does_not_fit_leaves_the_answer() {
        let ledger = Ledger::default();
        ledger.remember("r", None, answered(2), 0);
        assert_eq!(ledger.take_if("r", 1, |_| Err("no")), Err("no"));
        assert_eq!(take(&ledger, "r", 1), Found::Answered(answered(2)));
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_age() {
        let ledger = Ledger::new(3, 1_000);
        for index in 0..5_u32 {
            ledger.remember(&format!("r{index}"), Some(&format!("j{index}")), answered(index), u64::from(index));
        }
        let kept = |ledger: &Ledger| {
            let ring = ledger.ring();
            (ring.slots.len(), ring.by_id.len())
        };
        assert_eq!(kept(&ledger), (3, 6));
        assert_eq!(take(&ledger, "r1", 5), Found::Unknown);
        assert_eq!(take(&ledger, "j2", 5), Found::Answered(answered(2)));
        assert_eq!(take(&ledger, "r3", 1_002), Found::Answered(answered(3)));
        assert_eq!(take(&ledger, "r4", 1_004), Found::Unknown, "an hour is over at the hour");
        assert_eq!(kept(&ledger), (0, 0));
        // A clock that steps back forgets nothing and breaks nothing.
        ledger.remember("r9", None, answered(9), 0);
        assert_eq!(take(&ledger, "r9", 0), Found::Answered(answered(9)));
    }

    #[test]
    fn an_id_that_comes_again_means_the_newer_answer() {
        let ledger = Ledger::new(2, 1_000);
        ledger.remember("r", None, answered(1), 0);
        ledger.remember("r", None, answered(2), 0);
        ledger.remember("s", None, answered(3), 0);
        assert_eq!(take(&ledger, "r", 0), Found::Answered(answered(2)));
    }

    #[test]
    fn a_long_prediction_is_not_kept() {
        let ledger = Ledger::default();
        let long = Answered { prediction: Some("x".repeat(300).into()), ..answered(1) };
        ledger.remember("r", None, long, 0);
        assert_eq!(take(&ledger, "r", 0), Found::Answered(Answered { prediction: None, ..answered(1) }));
    }
}
