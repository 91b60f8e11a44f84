//! What a model must show before it serves, and the timing that chooses its batches.
//!
//! A batched reading must give what it gives alone, at 1, 2, 3 and the largest batch. Samples are
//! made of the task's own ranges, without randomness.

pub(super) mod tensors;

use std::time::{Duration, Instant};

use shared::schema::{FieldKind, TaskSchema};

use super::backend::{Rows, Runner};
use super::batcher::run_rows;
use super::repository::{Forecast, Kind};

/// Doubling the batch must save this share of a row's time, or the batch is large enough.
const WORTH: f64 = 0.9;
/// A batch that takes longer keeps others waiting longer than it saves.
const LONGEST_BATCH: Duration = Duration::from_millis(50);

/// Readings to try a model with.
#[derive(Debug)]
pub(super) enum Samples {
    Features { width: usize, values: Vec<f32> },
    Texts(Vec<String>),
}

impl Timing {
    /// Is it faster for one reading and for a row of the largest batch?
    pub(super) fn beats(&self, other: &Self) -> bool {
        let per_row = |timing: &Self| timing.largest.as_secs_f64() / index_f64(timing.max_batch.max(1));
        self.single < other.single && per_row(self) < per_row(other)
    }
}

impl Samples {
    /// Numbers of one row; none for texts.
    pub(super) const fn width(&self) -> Option<usize> {
        match self {
            Self::Features { width, .. } => Some(*width),
            Self::Texts(_) => None,
        }
    }

    /// Samples for `count` rows of a task; none for a task whose models take any tensors.
    pub(super) fn of(kind: &Kind, count: usize) -> Option<Self> {
        let (width, row): (usize, &dyn Fn(usize) -> Vec<f32>) = match kind {
            Kind::Tensor => return None,
            Kind::Reading(schema) if schema.text_field().is_some() => {
                let texts = (0..count).map(|i| format!("warming up with text number {i}, it's good; or bad?"));
                return Some(Self::Texts(texts.collect()));
            }
            Kind::Reading(schema) => (schema.width(), &|i| sample(schema, i)),
            Kind::Forecast(forecast) => (forecast.window, &|i| series(forecast, i)),
            Kind::Generation(generation) => {
                let (window, letters) = (generation.window, generation.alphabet.len());
                (window, &move |i| (0..window).map(|step| index((i * 31 + step * 7) % letters)).collect())
            }
        };
        Some(Self::Features { width, values: (0..count).flat_map(row).collect() })
    }

    /// The first rows.
    pub(super) fn head(&self, rows: usize) -> Rows<'_> {
        match self {
            Self::Features { width, values } => {
                Rows::Features { rows, values: values.get(..rows * width).unwrap_or(values) }
            }
            Self::Texts(texts) => Rows::Texts(texts.get(..rows).unwrap_or(texts)),
        }
    }
}

/// What the timing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    /// Most rows in one run.
    pub(super) max_batch: usize,
    /// One reading alone.
    pub(super) single: Duration,
    /// The largest batch.
    pub(super) largest: Duration,
}

/// Runs batches of 1, 2, 3 and the largest size, and compares; then times.
///
/// # Errors
/// A message about the model, for the operator.
pub(super) fn warm_up(
    runner: &mut dyn Runner,
    samples: &Samples,
    cap: usize,
    fixed: Option<usize>,
) -> Result<Timing, String> {
    let mut out = Vec::new();
    let alone = check(runner, samples, 1, None, &mut out)?;
    for rows in [2, 3].into_iter().filter(|rows| *rows <= cap) {
        check(runner, samples, rows, Some(&alone), &mut out)?;
    }
    let timing = time(runner, samples, cap, fixed, &mut out)?;
    if timing.max_batch > 3 {
        check(runner, samples, timing.max_batch, Some(&alone), &mut out)?;
    }
    Ok(timing)
}

/// Runs a batch; its first row must be what it is alone.
fn check(
    runner: &mut dyn Runner,
    samples: &Samples,
    rows: usize,
    alone: Option<&[f32]>,
    out: &mut Vec<f32>,
) -> Result<Vec<f32>, String> {
    let columns =
        run_rows(runner, samples.head(rows), out).map_err(|error| format!("a batch of {rows} fails: {error}"))?;
    let first = out.get(..columns).unwrap_or_default().to_vec();
    if let Some(bad) = first.iter().find(|value| !value.is_finite()) {
        return Err(format!("it answers {bad} to a reading within the accepted ranges"));
    }
    let same = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * a.abs().max(1.0);
    match alone {
        Some(alone) if alone.len() != first.len() || !alone.iter().zip(&first).all(same) => Err(format!(
            "a reading in a batch of {rows} gives another answer than alone; its output's first axis is not the batch's \
             (an exporter's Reshape with a fixed shape? `infer-router models optimize` repairs what it knows)"
        )),
        _ => Ok(first),
    }
}

/// Doubles the batch for as long as that makes a row cheaper.
fn time(
    runner: &mut dyn Runner,
    samples: &Samples,
    cap: usize,
    fixed: Option<usize>,
    out: &mut Vec<f32>,
) -> Result<Timing, String> {
    let mut best_of = |rows: usize| -> Result<Duration, String> {
        let mut best = Duration::MAX;
        // The first run of a size also allocates, and others use this machine too.
        for _ in 0..4 {
            let started = Instant::now();
            run_rows(runner, samples.head(rows), out).map_err(|error| format!("a batch of {rows} fails: {error}"))?;
            best = best.min(started.elapsed());
        }
        Ok(best)
    };
    let single = best_of(1)?;
    let mut timing = Timing { max_batch: 1, single, largest: single };
    if let Some(rows) = fixed {
        return Ok(Timing { max_batch: rows, largest: best_of(rows)?, ..timing });
    }
    let per_row = |took: Duration, rows: usize| took.as_secs_f64() / index_f64(rows);
    let mut chosen = per_row(single, 1);
    let mut rows = 2;
    // Two sizes without gain end it: one may have been disturbed.
    let mut idle = 0;
    while rows <= cap && idle < 2 {
        let took = best_of(rows)?;
        if took > LONGEST_BATCH {
            break;
        }
        if per_row(took, rows) <= chosen * WORTH {
            chosen = per_row(took, rows);
            timing = Timing { max_batch: rows, largest: took, ..timing };
            idle = 0;
        } else {
            idle += 1;
        }
        rows = if rows == cap { cap + 1 } else { (rows * 2).min(cap) };
    }
    Ok(timing)
}

/// A reading within the accepted ranges, another one for each `i`.
fn sample(schema: &TaskSchema, i: usize) -> Vec<f32> {
    let mut features = Vec::with_capacity(schema.width());
    for (f, field) in schema.fields.iter().enumerate() {
        for step in 0..field.length {
            features.push(match field.kind {
                FieldKind::Category | FieldKind::Text => 0.0,
                FieldKind::Number => within(field.min, field.max, i * 31 + f * 7 + step),
            });
        }
    }
    features
}

fn series(forecast: &Forecast, i: usize) -> Vec<f32> {
    (0..forecast.window).map(|step| within(forecast.min, forecast.max, i * 31 + step)).collect()
}

/// Scattered over the range by the golden ratio, without randomness.
fn within(min: Option<f64>, max: Option<f64>, seed: usize) -> f32 {
    let min = min.unwrap_or(0.0);
    let max = max.unwrap_or(min + 1.0).max(min);
    let share = (index_f64(seed) * 0.618_033_988_749).fract();
    #[expect(clippy::cast_possible_truncation, reason = "the schema's ranges fit float32")]
    let value = (max - min).mul_add(share, min) as f32;
    value
}

#[expect(clippy::cast_precision_loss, reason = "small counters")]
const fn index_f64(index: usize) -> f64 {
    index as f64
}

#[expect(clippy::cast_precision_loss, reason = "token ids are small")]
const fn index(id: usize) -> f32 {
    id as f32
}

#[cfg(test)]
mod tests {
    use super::super::backend::RunError;
    use super::super::tensor::Tensor;
    use super::*;

    /// Answers the sum of each row; with `flat` it mixes the rows of a batch up.
    struct Sum {
        flat: bool,
    }

    impl Runner for Sum {
        fn run_rows(&mut self, rows: Rows<'_>, out: &mut Vec<f32>) -> Result<(), RunError> {
            let Rows::Features { rows, values } = rows else { return Err(RunError::Failed("text".to_owned())) };
            let mut sums: Vec<f32> = values.chunks(values.len() / rows).map(|row| row.iter().sum()).collect();
            if self.flat {
                sums.rotate_left(1);
            }
            out.extend(sums);
            Ok(())
        }

        fn run_tensors(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
            Ok(vec![])
        }
    }

    fn kind() -> Kind {
        let text = "window = 3\nmin_history = 1\nmax_steps = 1\ndefault_steps = 1\nmin = 10.0\nmax = 20.0";
        Kind::Forecast(toml::from_str(text).unwrap())
    }

    #[test]
    fn samples_differ_and_stay_within_the_ranges() {
        let Some(Samples::Features { width, values }) = Samples::of(&kind(), 5) else { panic!("numbers are wanted") };
        assert_eq!((width, values.len()), (3, 15));
        assert!(values.iter().all(|value| (10.0..=20.0).contains(value)));
        assert_ne!(values[0..3], values[3..6]);
    }

    #[test]
    fn a_model_that_mixes_rows_up_is_refused() {
        let samples = Samples::of(&kind(), 8).unwrap();
        let good = warm_up(&mut Sum { flat: false }, &samples, 8, None).unwrap();
        assert!((1..=8).contains(&good.max_batch), "{good:?}");
        let fault = warm_up(&mut Sum { flat: true }, &samples, 8, None).unwrap_err();
        assert!(fault.contains("another answer than alone"), "{fault}");
    }
}
