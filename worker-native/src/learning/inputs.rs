//! Whether readings still look like the training data, field by field: a sample of them, over a bounded window.
//!
//! Of each field the population stability index against the training profile's 1st, 50th and 99th percentile (of a
//! category: its frequencies), and how far the mean has moved, in standard deviations. Where a model has no profile the
//! first readings take its place. Owns the figures; who acts on them is the operator. It says nothing of whether answers
//! are right: labels do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Serialize;
use shared::reading::Input;

use crate::engine::{Usual, UsualField};

/// A reading is looked at if so many milliseconds have passed since the last: 100 a second, whatever the load.
const EVERY_MS: u64 = 10;
/// Readings of half the window; the older half goes as a whole.
const HALF: u32 = 500;
/// Numbers looked at of a field that is an array, evenly spread.
const POSITIONS: usize = 16;
/// Numbers from which the usual is learned where no profile says it.
const FIRST: usize = 500;
/// Fewer numbers in the window tell nothing.
const LEAST: u32 = 100;
/// An index from here on is taken for drift, as is the custom; from 0.1 it is worth a look.
pub const DRIFTED: f64 = 0.25;
/// Share of a value that training never saw.
const RARE: f64 = 1e-4;

/// How far one field is from what is usual.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldDrift {
    /// The field's name.
    pub field: String,
    /// What it is compared with: `training`, `first_readings`, or `none` yet.
    pub reference: &'static str,
    /// Numbers in the window.
    pub values: u32,
    /// The population stability index; none with too few numbers.
    pub psi: Option<f64>,
    /// The mean less the usual mean, in standard deviations; none for a category.
    pub mean_shift: Option<f64>,
    /// Is the index at [`DRIFTED`] or above?
    pub drifted: bool,
}

/// What a field is compared with.
#[derive(Debug, Clone)]
enum Reference {
    Number {
        mean: f64,
        std: f64,
        edges: Vec<f64>,
        shares: Vec<f64>,
    },
    Category {
        shares: Vec<f64>,
    },
    /// The first numbers, until there are enough.
    Learning {
        values: Vec<f64>,
        categories: Option<usize>,
    },
}

#[derive(Debug, Clone, Default)]
struct Half {
    counts: Vec<u32>,
    values: u32,
    sum: f64,
}

#[derive(Debug)]
struct Field {
    name: String,
    length: usize,
    from_training: bool,
    reference: Reference,
    halves: [Half; 2],
}

#[derive(Debug)]
struct TaskInputs {
    next_ms: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    readings: u32,
    fields: Vec<Field>,
}

/// What was seen of each task's readings.
#[derive(Debug, Default)]
pub struct Inputs {
    tasks: RwLock<HashMap<String, Arc<TaskInputs>>>,
}

impl Inputs {
    /// Looks at a reading, if it is time to; `fields` says what is usual, once for a task.
    pub fn saw(&self, task: &str, input: &Input, now_ms: u64, fields: impl FnOnce() -> Vec<UsualField>) {
        let Input::Features(features) = input else { return };
        let known = self.tasks.read().unwrap_or_else(PoisonError::into_inner).get(task).map(Arc::clone);
        let known = known.unwrap_or_else(|| {
            let fields = fields().into_iter().map(Field::new).collect();
            let window = Mutex::new(Window { readings: 0, fields });
            let fresh = Arc::new(TaskInputs { next_ms: AtomicU64::new(0), window });
            let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tasks.entry(task.to_owned()).or_insert(fresh))
        });
        let next = known.next_ms.load(Ordering::Relaxed);
        if now_ms < next {
            return;
        }
        // Of several at once one goes on.
        let taken = known.next_ms.compare_exchange(next, now_ms + EVERY_MS, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_ok() {
            known.window.lock().unwrap_or_else(PoisonError::into_inner).add(features);
        }
    }

    /// How far each field of a task is from what is usual; none of a task that had no reading.
    #[must_use]
    pub fn view(&self, task: &str) -> Vec<FieldDrift> {
        let known = self.tasks.read().unwrap_or_else(PoisonError::into_inner).get(task).map(Arc::clone);
        let Some(known) = known else { return vec![] };
        let window = known.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.fields.iter().map(Field::view).collect()
    }
}

impl Window {
    fn add(&mut self, features: &[f32]) {
        let mut at = 0;
        for field in &mut self.fields {
            let values = features.get(at..at + field.length).unwrap_or_default();
            at += field.length;
            let step = values.len().div_ceil(POSITIONS).max(1);
            values.iter().step_by(step).for_each(|value| field.add(f64::from(*value)));
        }
        self.readings += 1;
        if self.readings >= HALF {
            self.readings = 0;
            for field in &mut self.fields {
                let full = std::mem::take(&mut field.halves[0]);
                field.halves[1] = full;
            }
        }
    }
}

impl Field {
    fn new(UsualField { name, length, usual }: UsualField) -> Self {
        let from_training = !matches!(usual, Usual::Unknown { .. });
        let reference = match usual {
            Usual::Number { mean, std, quantiles } => Reference::number(mean, std, quantiles),
            Usual::Category(shares) => Reference::Category { shares },
            Usual::Unknown { categories } => Reference::Learning { values: vec![], categories },
        };
        Self { name, length, from_training, reference, halves: Default::default() }
    }

    fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let bin = match &mut self.reference {
            Reference::Number { edges, .. } => edges.iter().filter(|edge| value >= **edge).count(),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the index of a category")]
            Reference::Category { .. } => value.max(0.0) as usize,
            Reference::Learning { values, categories } => {
                values.push(value);
                if values.len() >= FIRST {
                    self.reference = Reference::learned(values, *categories);
                }
                return;
            }
        };
        let bins = self.reference.shares().len();
        let [now, _] = &mut self.halves;
        now.counts.resize(bins, 0);
        if let Some(count) = now.counts.get_mut(bin) {
            *count += 1;
        }
        now.values += 1;
        now.sum += value;
    }

    fn view(&self) -> FieldDrift {
        let [now, before] = &self.halves;
        let values = now.values + before.values;
        let shares = self.reference.shares();
        let enough = values >= LEAST;
        let count = |bin: usize| [now, before].iter().filter_map(|half| half.counts.get(bin)).sum::<u32>();
        let psi = (enough && shares.len() > 1).then(|| index(shares, count));
        let mean_shift = match &self.reference {
            Reference::Number { mean, std, .. } if enough && *std > 0.0 => {
                Some(((now.sum + before.sum) / f64::from(values) - mean) / std)
            }
            _ => None,
        };
        let reference = match (&self.reference, self.from_training) {
            (Reference::Learning { .. }, _) => "none",
            (_, true) => "training",
            (_, false) => "first_readings",
        };
        let drifted = psi.is_some_and(|psi| psi >= DRIFTED);
        FieldDrift { field: self.name.clone(), reference, values, psi, mean_shift, drifted }
    }
}

impl Reference {
    /// Without different percentiles only the mean is compared.
    fn number(mean: f64, std: f64, quantiles: [f64; 3]) -> Self {
        let apart = quantiles.is_sorted_by(|one, two| one < two);
        let (edges, shares) = if apart { (quantiles.to_vec(), vec![0.01, 0.49, 0.49, 0.01]) } else { (vec![], vec![]) };
        Self::Number { mean, std, edges, shares }
    }

    fn learned(values: &mut [f64], categories: Option<usize>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "some hundred numbers")]
        let total = values.len() as f64;
        if let Some(categories) = categories {
            let mut shares = vec![0.0; categories];
            for value in values.iter() {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the index of a category")]
                let bin = value.max(0.0) as usize;
                if let Some(share) = shares.get_mut(bin) {
                    *share += 1.0 / total;
                }
            }
            return Self::Category { shares };
        }
        values.sort_unstable_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / total;
        let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / total).sqrt();
        let at = |percent: usize| values.get((values.len() - 1) * percent / 100).copied().unwrap_or_default();
        Self::number(mean, std, [at(1), at(50), at(99)])
    }

    fn shares(&self) -> &[f64] {
        match self {
            Self::Number { shares, .. } | Self::Category { shares } => shares,
            Self::Learning { .. } => &[],
        }
    }
}

/// The population stability index: the sum over bins of (seen - usual) ln(seen / usual). Half a number is added to each
/// bin, so that an empty one is no infinity.
fn index(shares: &[f64], count: impl Fn(usize) -> u32) -> f64 {
    let bins = f64::from(u32::try_from(shares.len()).unwrap_or(u32::MAX));
    let total: u32 = (0..shares.len()).map(&count).sum();
    let seen = |bin: usize| (f64::from(count(bin)) + 0.5) / (f64::from(total) + 0.5 * bins);
    let part = |(bin, usual): (usize, &f64)| (seen(bin) - usual.max(RARE)) * (seen(bin) / usual.max(RARE)).ln();
    shares.iter().enumerate().map(part).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(usual: Usual) -> Vec<UsualField> {
        vec![UsualField { name: "x".to_owned(), length: 1, usual }]
    }

    /// What is usual: evenly from 0 to 100.
    fn even() -> Usual {
        Usual::Number { mean: 50.0, std: 28.9, quantiles: [1.0, 50.0, 99.0] }
    }

    #[expect(clippy::cast_precision_loss, reason = "small")]
    fn view(usual: &Usual, readings: u64, value: impl Fn(f32) -> f32) -> FieldDrift {
        let inputs = Inputs::default();
        for i in 0..readings {
            // 37 and 100 have no common factor: each of 0.5, 1.5, … comes equally often.
            let even = ((i * 37) % 100) as f32 + 0.5;
            inputs.saw("t", &Input::Features(vec![value(even)]), i * EVERY_MS, || number(usual.clone()));
        }
        inputs.view("t").remove(0)
    }

    #[test]
    fn readings_as_in_training_are_no_drift_and_others_are() {
        let usual = view(&even(), 1_000, |x| x);
        assert!(usual.psi.unwrap() < 0.01 && usual.mean_shift.unwrap().abs() < 0.01 && !usual.drifted, "{usual:?}");
        let moved = view(&even(), 1_000, |x| x + 50.0);
        assert!(moved.drifted && (moved.mean_shift.unwrap() - 1.73).abs() < 0.01, "{moved:?}");
        assert_eq!((moved.reference, view(&even(), 50, |x| x).psi), ("training", None));
    }

    #[test]
    fn only_the_newest_count() {
        let inputs = Inputs::default();
        for i in 0..3_000_u64 {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let x = ((i * 37) % 100) as f32 + if i < 2_000 { 90.0 } else { 0.5 };
            inputs.saw("t", &Input::Features(vec![x]), i * EVERY_MS, || number(even()));
        }
        let view = inputs.view("t").remove(0);
        assert!(!view.drifted && view.values <= 2 * HALF, "{view:?}");
    }

    #[test]
    fn without_a_profile_the_first_readings_are_the_usual() {
        let unknown = Usual::Unknown { categories: None };
        assert_eq!(view(&unknown, 100, |x| x).reference, "none");
        let steady = view(&unknown, 1_500, |x| x);
        assert!(steady.reference == "first_readings" && steady.psi.unwrap() < 0.05, "{steady:?}");
    }

    #[test]
    fn categories_are_compared_by_their_frequencies() {
        let usual = Usual::Category(vec![0.9, 0.1]);
        assert!(!view(&usual, 500, |x| if x < 90.0 { 0.0 } else { 1.0 }).drifted);
        assert!(view(&usual, 500, |x| if x < 50.0 { 0.0 } else { 1.0 }).drifted);
        // A value that cannot be is no panic.
        assert!(view(&usual, 500, |_| 1e9).psi.is_some());
    }

    #[test]
    fn no_more_than_so_many_are_looked_at() {
        let inputs = Inputs::default();
        for _ in 0..1_000 {
            inputs.saw("t", &Input::Features(vec![1.0]), 5, || number(even()));
        }
        assert_eq!(inputs.view("t")[0].values, 1);
        inputs.saw("t", &Input::Text("x".to_owned()), 500, Vec::new);
        inputs.saw("t", &Input::Features(vec![]), 500, Vec::new);
        assert_eq!(inputs.view("t")[0].values, 1, "what does not fit is left out");
    }
}
