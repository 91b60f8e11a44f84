//! Random rows to run models on, the same in every run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use shared::schema::{Field, FieldKind, TaskSchema};
use worker_native::engine::repository::{Kind, Repository};

/// Rows that inputs rotate through.
pub(crate) const COUNT: usize = 16_384;

/// Many rows of a model's input, row after row.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) width: usize,
    pub(crate) values: Vec<f32>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere from one seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, deviation 1 (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

impl Rows {
    /// Rows like the readings that lie in a task's folder: each one's numbers moved by up to half a percent.
    ///
    /// Numbers anywhere in their range would all be odd at once, which a pump never is, and an answer
    /// that explains each of them is long.
    ///
    /// # Errors
    /// When there are none, or the task takes no readings.
    pub(crate) fn like_samples(task: &Path, seed: u64) -> anyhow::Result<Self> {
        let (schema, file) = (schema(task)?, task.join("sample.csv"));
        let mut reader = csv::Reader::from_path(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let samples: Vec<BTreeMap<String, String>> = reader.deserialize().collect::<Result<_, _>>()?;
        anyhow::ensure!(!samples.is_empty(), "{} is empty", file.display());
        let mut random = Random::new(seed);
        let mut values = Vec::with_capacity(COUNT * schema.width());
        for sample in samples.iter().cycle().take(COUNT) {
            for field in &schema.fields {
                let text = sample.get(&field.name).with_context(|| format!("{}: no {}", file.display(), field.name))?;
                values.push(moved(field, text, random.unit() - 0.5)?);
            }
        }
        Ok(Self { width: schema.width(), values })
    }

    /// Rows of independent normal numbers.
    pub(crate) fn normal(width: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self { width, values: (0..COUNT * width).map(|_| rounded(random.normal())).collect() }
    }

    /// One row; they come round again.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        self.batch(index % COUNT, 1)
    }

    /// Rows side by side; `first + rows` may not pass the last one.
    pub(crate) fn batch(&self, first: usize, rows: usize) -> &[f32] {
        &self.values[first * self.width..(first + rows) * self.width]
    }

    /// A row's numbers as JSON has them.
    pub(crate) fn json(&self, index: usize) -> String {
        self.row(index).iter().map(f32::to_string).collect::<Vec<_>>().join(",")
    }
}

/// A field's value, moved by a hundredth of itself times `by`; a category stays, as its index.
fn moved(field: &Field, text: &str, by: f64) -> anyhow::Result<f32> {
    if field.kind == FieldKind::Category {
        let index = field.values.iter().position(|value| value == text);
        return Ok(index.with_context(|| format!("{} is no {}", text, field.name))? as f32);
    }
    let value: f64 = text.parse().with_context(|| format!("{}: {text}", field.name))?;
    let (min, max) = (field.min.unwrap_or(f64::MIN), field.max.unwrap_or(f64::MAX));
    Ok(rounded((value * (1.0 + by / 100.0)).clamp(min, max)))
}

/// As many digits as a sensor has.
fn rounded(value: f64) -> f32 {
    ((value * 1e3).round() / 1e3) as f32
}

/// Reads the task that a folder describes.
fn schema(folder: &Path) -> anyhow::Result<TaskSchema> {
    let (models, name) = (folder.parent().unwrap_or(folder), folder.file_name().unwrap_or_default());
    let repository = Repository::read(models);
    let task = repository.tasks.into_iter().find(|task| *task.name == *name.to_string_lossy());
    match task.map(|task| task.kind) {
        Some(Kind::Reading(schema)) => Ok(schema),
        Some(Kind::Forecast(_) | Kind::Generation(_) | Kind::Tensor) | None => {
            anyhow::bail!("{} is no task that takes readings", folder.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_many_rows_that_the_task_accepts() {
        let task = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/pump-anomaly");
        let rows = Rows::like_samples(&task, 1).unwrap();
        assert_eq!((rows.width, rows.values.len()), (7, COUNT * 7));
        // The file has 600 readings: the 601st row is the first one again, moved.
        assert_ne!(rows.row(0), rows.row(600));
        assert!((rows.row(0)[0] / rows.row(600)[0] - 1.0).abs() <= 0.011);
        assert!(Rows::like_samples(&task.join("../hydraulic-leak"), 1).is_err());
    }

    #[test]
    fn rows_are_many_different_and_always_the_same() {
        let (one, two) = (Rows::normal(7, 1), Rows::normal(7, 1));
        assert_eq!(one.values, two.values);
        assert_ne!(one.row(0), one.row(1));
        assert_eq!(one.row(COUNT), one.row(0));
        assert_eq!(one.batch(COUNT - 256, 256).len(), 256 * 7);
        let mean = one.values.iter().sum::<f32>() / one.values.len() as f32;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!(serde_json::from_str::<Vec<f32>>(&format!("[{}]", one.json(3))).is_ok_and(|row| row == one.row(3)));
    }
}
