//! Which version answered a request, for the label that comes later: this process's part, bounded in number and in time.
//!
//! Owns what an answer is called, whichever of its ids names it; that a label counts once is the queue's store's to say
//! (`crate::learning`), which other processes see as well. What is new here is written there behind the answers. An own
//! ring rather than a cache: it must tell "labelled already" from "not known", forget in order of age, and take its time
//! from outside.

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
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The task's name.
    pub task: Arc<str>,
    /// The model's name.
    pub model: Arc<str>,
    /// Version and arm.
    pub assignment: Assignment,
    /// The class, or `normal` / `anomaly`; none where the answer is no such word.
    pub prediction: Option<Arc<str>>,
    /// The chance that the tier had to be chosen, where the choice was drawn.
    pub propensity: Option<f32>,
    /// What answered before it and was in doubt; none where nothing did.
    pub first: Option<Box<First>>,
}

/// The first answer to a request that another tier answered after it.
///
/// A label teaches of this one: which readings came to the other tier was chosen by this answer's confidence, so that
/// labels of those say nothing of that tier's accuracy on all readings.
#[derive(Debug, Clone, PartialEq)]
pub struct First {
    /// The model's name.
    pub model: Arc<str>,
    /// Version and arm.
    pub assignment: Assignment,
    /// The class it said; none where its run failed.
    pub prediction: Option<Arc<str>>,
    /// The chance that its tier had to be chosen, where the choice was drawn.
    pub propensity: Option<f32>,
}

impl Answered {
    /// Whose accuracy a label of this answer teaches: model, version, and with which propensity.
    #[must_use]
    pub fn teaches(&self) -> (&str, u32, Option<f32>) {
        match &self.first {
            Some(first) => (&first.model, first.assignment.version, first.propensity),
            None => (&self.model, self.assignment.version, self.propensity),
        }
    }
}

/// An answer that may be labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What answered.
    pub answered: Answered,
    /// What the answer is called everywhere: its job id, or its request id and the moment of the answer.
    pub name: String,
    /// When the answer was given, in Unix milliseconds.
    pub at: u64,
    /// Is it a job's?
    pub is_job: bool,
}

/// What an answer is called everywhere. A request id that comes again must not make the newer answer look labelled.
#[must_use]
pub fn name_of(request_id: &str, job_id: Option<&str>, at: u64) -> String {
    job_id.map_or_else(|| format!("{request_id}@{at}"), str::to_owned)
}

/// What the ledger knows of an id.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Here is the answer.
    Answered(Known),
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

impl Slot {
    fn known(&self) -> Option<Known> {
        let [request_id, job_id] = self.ids.each_ref().map(Option::as_deref);
        let name = name_of(request_id.unwrap_or_default(), job_id, self.at);
        Some(Known { answered: self.answered.clone()?, name, at: self.at, is_job: job_id.is_some() })
    }
}

/// Answers that are not yet where other processes find them.
#[derive(Debug, Default)]
pub struct Unwritten {
    /// Request id, job id and answer; the newest of what is new.
    pub answers: Vec<(Arc<str>, Option<Arc<str>>, Known)>,
    /// New ones that are left out, since there are too many.
    pub skipped: u64,
    // The number of the first slot that is newer than all of these.
    until: u64,
}

#[derive(Debug, Default)]
struct Ring {
    slots: VecDeque<Slot>,
    // The number of the first slot; numbers only grow.
    first: u64,
    // The number of the first slot that nobody has asked to write.
    unwritten: u64,
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
        let short = |prediction: &Arc<str>| prediction.len() <= MAX_PREDICTION;
        answered.prediction = answered.prediction.filter(short);
        if let Some(first) = &mut answered.first {
            first.prediction = first.prediction.take().filter(short);
        }
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

    /// The answer under a request id or job id.
    #[must_use]
    pub fn find(&self, id: &str, now_ms: u64) -> Found {
        let mut ring = self.ring();
        self.forget(&mut ring, now_ms);
        match ring.slot(id) {
            None => Found::Unknown,
            Some(slot) => slot.known().map_or(Found::Labelled, Found::Answered),
        }
    }

    /// Notes that the answer under an id is labelled.
    pub fn labelled(&self, id: &str) {
        if let Some(slot) = self.ring().slot(id) {
            slot.answered = None;
        }
    }

    /// The newest answers that were not written yet, `most` at the most; those before them are given up.
    #[must_use]
    pub fn unwritten(&self, most: usize) -> Unwritten {
        let ring = self.ring();
        let until = ring.first + ring.slots.len() as u64;
        let new = usize::try_from(until.saturating_sub(ring.unwritten)).unwrap_or(usize::MAX);
        let taken = new.min(most).min(ring.slots.len());
        let slots = ring.slots.iter().skip(ring.slots.len() - taken);
        let answers = slots.filter_map(|slot| {
            let [request_id, job_id] = slot.ids.clone();
            Some((request_id?, job_id, slot.known()?))
        });
        Unwritten { answers: answers.collect(), skipped: (new - taken) as u64, until }
    }

    /// Notes that these are written, or given up.
    pub fn written(&self, these: &Unwritten) {
        let mut ring = self.ring();
        ring.unwritten = ring.unwritten.max(these.until);
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
    fn slot(&mut self, id: &str) -> Option<&mut Slot> {
        let number = self.by_id.get(id)?;
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }

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
        Answered {
            task: "t".into(),
            model: "m".into(),
            assignment,
            prediction: Some("normal".into()),
            propensity: None,
            first: None,
        }
    }

    fn found(ledger: &Ledger, id: &str, now_ms: u64) -> Option<Answered> {
        match ledger.find(id, now_ms) {
            Found::Answered(known) => Some(known.answered),
            Found::Labelled | Found::Unknown => None,
        }
    }

    #[test]
    fn an_answer_is_labelled_whichever_id_names_it() {
        let ledger = Ledger::new(10, 1_000);
        ledger.remember("r", Some("j"), answered(2), 0);
        let known = Known { answered: answered(2), name: "j".to_owned(), at: 0, is_job: true };
        assert_eq!(ledger.find("j", 1), Found::Answered(known.clone()));
        assert_eq!(ledger.find("r", 1), Found::Answered(known), "it is called the same");
        ledger.labelled("r");
        assert_eq!((ledger.find("r", 1), ledger.find("j", 1)), (Found::Labelled, Found::Labelled));
        assert_eq!(ledger.find("other", 1), Found::Unknown);
        ledger.labelled("other");
    }

    #[test]
    fn one_request_id_is_another_answer_at_another_time() {
        let ledger = Ledger::default();
        let names = [1, 2].map(|now| {
            ledger.remember("r", None, answered(2), now);
            match ledger.find("r", now) {
                Found::Answered(known) => known.name,
                other => panic!("{other:?}"),
            }
        });
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn what_is_new_is_given_to_be_written_until_it_is() {
        let ledger = Ledger::new(5, 1_000);
        for index in 0..4_u32 {
            ledger.remember(&format!("r{index}"), Some("j").filter(|_| index == 3), answered(index), 0);
        }
        let ids = |these: &Unwritten| these.answers.iter().map(|(id, ..)| id.to_string()).collect::<Vec<_>>();
        let these = ledger.unwritten(3);
        assert_eq!((ids(&these), these.skipped), (vec!["r1".to_owned(), "r2".to_owned(), "r3".to_owned()], 1));
        assert_eq!((these.answers[1].1.clone(), these.answers[2].1.as_deref()), (None, Some("j")));
        assert_eq!(ids(&ledger.unwritten(3)), ids(&these), "not written: again");
        ledger.written(&these);
        assert!(ledger.unwritten(3).answers.is_empty());
        // What is labelled needs no writing; what the ring has lost cannot be.
        for index in 10..20_u32 {
            ledger.remember(&format!("r{index}"), None, answered(index), 0);
        }
        ledger.labelled("r19");
        let these = ledger.unwritten(100);
        assert_eq!((ids(&these).len(), these.skipped), (4, 5));
        ledger.written(&these);
        assert_eq!(ledger.unwritten(100).skipped, 0);
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
        assert_eq!(found(&ledger, "r1", 5), None);
        assert_eq!(found(&ledger, "j2", 5), Some(answered(2)));
        assert_eq!(found(&ledger, "r3", 1_002), Some(answered(3)));
        assert_eq!(found(&ledger, "r4", 1_004), None, "an hour is over at the hour");
        assert_eq!(kept(&ledger), (0, 0));
        // A clock that steps back forgets nothing and breaks nothing.
        ledger.remember("r9", None, answered(9), 0);
        assert_eq!(found(&ledger, "r9", 0), Some(answered(9)));
    }

    #[test]
    fn an_id_that_comes_again_means_the_newer_answer() {
        let ledger = Ledger::new(2, 1_000);
        ledger.remember("r", None, answered(1), 0);
        ledger.remember("r", None, answered(2), 0);
        ledger.remember("s", None, answered(3), 0);
        assert_eq!(found(&ledger, "r", 0), Some(answered(2)));
    }

    #[test]
    fn a_long_prediction_is_not_kept() {
        let ledger = Ledger::default();
        let long = Answered { prediction: Some("x".repeat(300).into()), ..answered(1) };
        ledger.remember("r", None, long, 0);
        assert_eq!(found(&ledger, "r", 0), Some(Answered { prediction: None, ..answered(1) }));
    }
}
