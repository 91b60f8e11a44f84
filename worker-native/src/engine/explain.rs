//! Which fields of a reading stand out: far from what the model was trained on, or heavy in its error.
//!
//! The distance is in standard deviations of the training data and is only told outside of its
//! 1st to 99th percentile: inside, a field is as usual. A model may also say itself how much each
//! number weighed (an output named `contributions`), e.g. an autoencoder's error by field.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::schema::{Field, FieldKind};

/// Most fields told of one reading.
const MOST: usize = 3;
/// A field whose share of the whole is smaller is not worth a word.
const LEAST_SHARE: f32 = 0.1;

/// What the training data looked like, field by field: `<version>/profile.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Profile {
    /// One entry a field, in the order of the task's fields.
    pub fields: Vec<FieldProfile>,
}

/// One field of the training data, over all its positions and rows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct FieldProfile {
    /// The field's name.
    pub name: String,
    /// The mean; none for a category.
    pub mean: Option<f32>,
    /// The standard deviation.
    pub std: Option<f32>,
    /// The 1st percentile.
    pub p01: Option<f32>,
    /// The median.
    #[serde(default)]
    pub p50: Option<f32>,
    /// The 99th percentile.
    pub p99: Option<f32>,
    /// Of a category: how often each value came.
    #[serde(default)]
    pub frequencies: BTreeMap<String, f32>,
}

/// A field as readings have it, and what it looked like in training.
#[derive(Debug, Clone, PartialEq)]
pub struct UsualField {
    /// The field's name.
    pub name: String,
    /// How many numbers it holds.
    pub length: usize,
    /// What is usual of them.
    pub usual: Usual,
}

/// What a field looked like in training.
#[derive(Debug, Clone, PartialEq)]
pub enum Usual {
    /// A number.
    Number {
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
        /// Its 1st, 50th and 99th percentile.
        quantiles: [f64; 3],
    },
    /// A category: how often each value came, by index.
    Category(Vec<f64>),
    /// Nothing is known.
    Unknown {
        /// How many values it has, of a category.
        categories: Option<usize>,
    },
}

/// What each field looked like in training, as far as the profile says.
pub(super) fn usual(fields: &[Field], profile: Option<&Profile>) -> Vec<UsualField> {
    let known = |i: usize, field: &Field| {
        let known = profile.and_then(|profile| profile.fields.get(i))?;
        if field.kind == FieldKind::Category {
            let share = |value: &String| known.frequencies.get(value).copied().unwrap_or_default().into();
            return (!known.frequencies.is_empty()).then(|| Usual::Category(field.values.iter().map(share).collect()));
        }
        let quantiles = [known.p01?.into(), known.p50?.into(), known.p99?.into()];
        Some(Usual::Number { mean: known.mean?.into(), std: known.std?.into(), quantiles })
    };
    let all = fields.iter().enumerate().map(|(i, field)| {
        let categories = (field.kind == FieldKind::Category).then_some(field.values.len());
        let usual = known(i, field).unwrap_or(Usual::Unknown { categories });
        UsualField { name: field.name.clone(), length: field.length, usual }
    });
    all.collect()
}

/// A field that stands out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    /// The field's name.
    pub field: String,
    /// The value that stands out; of an array, its most unusual one.
    pub value: f32,
    /// 1st and 99th percentile of the training data, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual: Option<[f32; 2]>,
    /// Standard deviations from the training mean, signed, where the value is outside the usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f32>,
    /// Share of the model's own explanation, 0..=1, where the model gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contribution: Option<f32>,
}

impl Profile {
    /// Reads a version's profile; none where there is no file.
    ///
    /// # Errors
    /// A message when the file is there and cannot be used.
    pub(super) fn read(path: &Path, fields: &[Field]) -> Result<Option<Self>, String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let profile: Self = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let names = |of: &mut dyn Iterator<Item = &str>| of.map(str::to_owned).collect::<Vec<_>>();
        let (have, want) = (
            names(&mut profile.fields.iter().map(|field| field.name.as_str())),
            names(&mut fields.iter().map(|field| field.name.as_str())),
        );
        if have == want {
            Ok(Some(profile))
        } else {
            Err(format!("{}: its fields are {}, the task's are {}", path.display(), have.join(", "), want.join(", ")))
        }
    }
}

/// The fields that stand out, the most telling first.
pub(super) fn weigh(
    fields: &[Field],
    features: &[f32],
    profile: Option<&Profile>,
    contributions: &[f32],
) -> Vec<Weighed> {
    let total: f32 = contributions.iter().map(|share| share.abs()).sum();
    let mut weighed = Vec::new();
    let mut at = 0;
    for (i, field) in fields.iter().enumerate() {
        let range = at..at + field.length;
        at = range.end;
        let Some(values) = features.get(range.clone()) else { break };
        let known = profile.and_then(|profile| profile.fields.get(i)).filter(|_| field.kind == FieldKind::Number);
        let unusual = known.and_then(|known| most_unusual(values, known));
        let contribution = contributions
            .get(range)
            .filter(|_| total > 0.0)
            .map(|shares| shares.iter().map(|share| share.abs()).sum::<f32>() / total)
            .filter(|share| *share >= LEAST_SHARE);
        if unusual.is_none() && contribution.is_none() {
            continue;
        }
        weighed.push(Weighed {
            field: field.name.clone(),
            value: unusual.map_or_else(|| values.first().copied().unwrap_or_default(), |(value, _)| value),
            usual: known.and_then(|known| Some([known.p01?, known.p99?])),
            deviation: unusual.map(|(_, deviation)| deviation),
            contribution,
        });
    }
    let weight = |field: &Weighed| (field.contribution.unwrap_or(0.0), field.deviation.map_or(0.0, f32::abs));
    weighed.sort_by(|a, b| weight(b).partial_cmp(&weight(a)).unwrap_or(std::cmp::Ordering::Equal));
    weighed.truncate(MOST);
    weighed
}

/// The value farthest outside the usual range, with its distance from the mean in standard deviations.
fn most_unusual(values: &[f32], known: &FieldProfile) -> Option<(f32, f32)> {
    let (mean, std, low, high) = (known.mean?, known.std?, known.p01?, known.p99?);
    values
        .iter()
        .filter(|value| **value < low || **value > high)
        .map(|value| (*value, (value - mean) / std.max(f32::MIN_POSITIVE)))
        .filter(|(_, deviation)| deviation.is_finite())
        .max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))
}

/// The fields in words; none where nothing stands out.
pub(super) fn sentence(fields: &[Weighed]) -> Option<String> {
    let told: Vec<String> = fields
        .iter()
        .map(|field| {
            let mut words = Vec::new();
            if let (Some(deviation), Some([low, high])) = (field.deviation, field.usual) {
                let side = if deviation > 0.0 { "above" } else { "below" };
                words.push(format!("{:.1} deviations {side} its mean, usual is {low} to {high}", deviation.abs()));
            }
            if let Some(share) = field.contribution {
                words.push(format!("{:.0} % of the model's error", share * 100.0));
            }
            format!("{} = {} ({})", field.field, field.value, words.join("; "))
        })
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<Field> {
        let text = r#"[{"name":"temperature","type":"number"},{"name":"cycle","type":"number","length":3},
            {"name":"state","type":"category","values":["on","off"]}]"#;
        serde_json::from_str(text).unwrap()
    }

    fn profile() -> Profile {
        let text = r#"{"samples":9,"fields":[
            {"name":"temperature","mean":50,"std":5,"p01":40,"p99":60,"p50":50},
            {"name":"cycle","mean":0,"std":1,"p01":-2,"p99":2},
            {"name":"state","mean":null,"std":null,"p01":null,"p99":null}]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_usual_reading_has_nothing_to_tell() {
        assert_eq!(weigh(&fields(), &[55.0, 0.0, 1.0, -1.0, 1.0], Some(&profile()), &[]), []);
        assert_eq!(weigh(&fields(), &[999.0, 0.0, 1.0, -1.0, 1.0], None, &[]), []);
        assert_eq!(sentence(&[]), None);
    }

    #[test]
    fn what_is_far_from_training_is_told_with_its_distance() {
        let told = weigh(&fields(), &[70.0, 0.0, -9.0, 3.0, 1.0], Some(&profile()), &[]);
        assert_eq!(told.iter().map(|field| field.field.as_str()).collect::<Vec<_>>(), ["cycle", "temperature"]);
        assert_eq!((told[0].value, told[0].deviation), (-9.0, Some(-9.0)));
        assert_eq!((told[1].deviation, told[1].usual), (Some(4.0), Some([40.0, 60.0])));
        let words = sentence(&told).unwrap();
        assert!(words.starts_with("cycle = -9 (9.0 deviations below its mean, usual is -2 to 2)"), "{words}");
    }

    #[test]
    fn what_carries_the_error_comes_first() {
        let told = weigh(&fields(), &[70.0, 0.0, 1.0, -1.0, 1.0], Some(&profile()), &[0.1, 0.3, 0.3, 0.3, 0.0]);
        assert_eq!(told[0].field, "cycle");
        assert!((told[0].contribution.unwrap() - 0.9).abs() < 1e-6);
        assert_eq!((told[1].field.as_str(), told[1].deviation), ("temperature", Some(4.0)));
        assert!(sentence(&told).unwrap().contains("90 % of the model's error"));
    }
}
