//! What a row of a model's output means: class, anomaly or number, how sure, and in words.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shared::reading::Input;
use shared::schema::{ANOMALY_LABELS, Field};

use super::explain::{self, Profile, UsualField, Weighed};
use super::repository::Meaning;

/// Everything needed to read one model version's output.
#[derive(Debug, Clone)]
pub struct Card {
    /// The task.
    pub task: String,
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// The tier the model serves.
    pub tier: Option<String>,
    /// Accuracy on held-out data, from the training report.
    pub training_accuracy: Option<f32>,
    /// SHA-256 of the model's file, in hex.
    pub sha256: String,
    pub(super) output: Option<Meaning>,
    pub(super) classes: Vec<String>,
    pub(super) normal: Vec<String>,
    pub(super) unit: String,
    pub(super) fields: Arc<[Field]>,
    pub(super) profile: Option<Arc<Profile>>,
    /// Numbers of one row before the contributions.
    pub(super) columns: usize,
}

/// What a model says: a name, or a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prediction {
    /// A class, or `normal` / `anomaly`.
    Class(String),
    /// A regression's number.
    Value(f32),
}

impl std::fmt::Display for Prediction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Class(class) => f.write_str(class),
            Self::Value(value) => write!(f, "{value}"),
        }
    }
}

/// A model's answer to one reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The class, `normal` / `anomaly`, or the number.
    pub prediction: Prediction,
    /// Is it a class or a score that means trouble? Never of a number.
    pub is_anomaly: bool,
    /// Probability of trouble, 0..=1; none for a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly_score: Option<f32>,
    /// Probability of the prediction itself, 0..=1; none for a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
    /// Probability of each class; classifications only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<BTreeMap<String, f32>>,
    /// The model's raw score; anomaly tasks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The same in a sentence.
    pub explanation: String,
    /// The fields that stand out, the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Weighed>,
}

impl Card {
    /// Class names in the order of the probabilities; `normal` and `anomaly` for an anomaly task, none for a number.
    #[must_use]
    pub fn class_names(&self) -> Vec<&str> {
        match self.output {
            Some(Meaning::Score { .. }) => ANOMALY_LABELS.to_vec(),
            _ => self.classes.iter().map(String::as_str).collect(),
        }
    }

    /// What each field looked like in training, as far as the version's profile says.
    #[must_use]
    pub fn usual_fields(&self) -> Vec<UsualField> {
        explain::usual(&self.fields, self.profile.as_deref())
    }

    /// Probabilities in the order of [`Card::class_names`].
    #[must_use]
    pub fn probabilities(&self, answer: &Answer) -> Vec<f32> {
        match (&answer.probabilities, answer.anomaly_score) {
            (Some(by_class), _) => {
                self.classes.iter().map(|class| by_class.get(class).copied().unwrap_or_default()).collect()
            }
            (None, Some(anomaly)) => vec![1.0 - anomaly, anomaly],
            (None, None) => vec![],
        }
    }

    /// Reads one row of the model's output for a reading.
    ///
    /// # Errors
    /// A message when the row is not what the model's card promises: wrong width, not finite.
    pub fn read(&self, row: &[f32], input: &Input) -> Result<Answer, String> {
        let (own, contributions) = row.split_at_checked(self.columns).unwrap_or((&[], &[]));
        if own.is_empty() || own.iter().any(|value| !value.is_finite()) {
            return Err(format!("the model's output {own:?} is not {} finite numbers", self.columns));
        }
        let first = own.first().copied().unwrap_or_default();
        let mut answer = match &self.output {
            Some(Meaning::Probabilities { .. }) => self.class_of(own),
            Some(Meaning::Score { threshold, slope, .. }) => anomaly_of(first, *threshold, *slope),
            Some(Meaning::Value { .. } | Meaning::Next { .. }) => self.number_of(first),
            Some(Meaning::Logits { .. }) | None => return Err("this model answers no readings".to_owned()),
        };
        // What a usual reading's small error is made of tells nothing.
        let contributions = if answer.is_anomaly { contributions } else { &[] };
        if let Input::Features(features) = input {
            answer.fields = explain::weigh(&self.fields, features, self.profile.as_deref(), contributions);
            if let Some(words) = explain::sentence(&answer.fields) {
                answer.explanation = format!("{}; {words}", answer.explanation);
            }
        }
        Ok(answer)
    }

    fn class_of(&self, row: &[f32]) -> Answer {
        let mut best = (self.classes.first(), f32::MIN);
        let mut anomaly_score = 0.0;
        for (class, probability) in self.classes.iter().zip(row) {
            if *probability > best.1 {
                best = (Some(class), *probability);
            }
            if !self.normal.contains(class) {
                anomaly_score += probability;
            }
        }
        let prediction = best.0.cloned().unwrap_or_default();
        let is_anomaly = !self.normal.contains(&prediction);
        let meaning = if is_anomaly { "not a normal one" } else { "a normal one" };
        Answer {
            explanation: format!("class {prediction} ({meaning}) with probability {:.3}", best.1),
            is_anomaly,
            anomaly_score: Some(anomaly_score.clamp(0.0, 1.0)),
            confidence: Some(best.1),
            probabilities: Some(self.classes.iter().cloned().zip(row.iter().copied()).collect()),
            score: None,
            prediction: Prediction::Class(prediction),
            fields: vec![],
        }
    }

    fn number_of(&self, value: f32) -> Answer {
        let unit = if matches!(self.unit.as_str(), "" | "1") { String::new() } else { format!(" {}", self.unit) };
        Answer {
            prediction: Prediction::Value(value),
            is_anomaly: false,
            anomaly_score: None,
            confidence: None,
            probabilities: None,
            score: None,
            explanation: format!("{value:.4}{unit}"),
            fields: vec![],
        }
    }
}

fn anomaly_of(score: f32, threshold: f32, slope: f32) -> Answer {
    let probability = 1.0 / (1.0 + (-slope * (score - threshold)).exp());
    let is_anomaly = score > threshold;
    let [normal, anomaly] = ANOMALY_LABELS;
    let (prediction, side) = if is_anomaly { (anomaly, "above") } else { (normal, "not above") };
    Answer {
        prediction: Prediction::Class(prediction.to_owned()),
        is_anomaly,
        anomaly_score: Some(probability),
        confidence: Some(if is_anomaly { probability } else { 1.0 - probability }),
        probabilities: None,
        score: Some(score),
        explanation: format!("score {score:.4} is {side} the threshold {threshold:.4}"),
        fields: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(output: Meaning, columns: usize) -> Card {
        Card {
            task: "t".to_owned(),
            model: "m".to_owned(),
            version: 1,
            tier: None,
            training_accuracy: None,
            sha256: String::new(),
            output: Some(output),
            classes: vec!["73".to_owned(), "80".to_owned(), "100".to_owned()],
            normal: vec!["100".to_owned()],
            unit: "bar".to_owned(),
            fields: Arc::from([]),
            profile: None,
            columns,
        }
    }

    fn read(card: &Card, row: &[f32]) -> Result<Answer, String> {
        card.read(row, &Input::Features(vec![]))
    }

    #[test]
    fn probabilities_become_a_class() {
        let card = card(Meaning::Probabilities { name: "p".to_owned(), contributions: None }, 3);
        let answer = read(&card, &[0.25, 0.625, 0.125]).unwrap();
        assert_eq!((answer.prediction.to_string().as_str(), answer.is_anomaly), ("80", true));
        assert_eq!((answer.anomaly_score, answer.confidence), (Some(0.875), Some(0.625)));
        assert_eq!(card.probabilities(&answer), [0.25, 0.625, 0.125]);
        assert!(read(&card, &[0.5, 0.5]).is_err());
        assert!(read(&card, &[f32::NAN, 0.5, 0.5]).is_err());
    }

    #[test]
    fn a_score_is_anomalous_above_its_threshold_only() {
        let output = Meaning::Score { name: "s".to_owned(), threshold: 0.5, slope: 4.0, contributions: None };
        let card = card(output, 1);
        let at = read(&card, &[0.5]).unwrap();
        assert_eq!((at.prediction.to_string().as_str(), at.anomaly_score), ("normal", Some(0.5)));
        assert_eq!(card.class_names(), ["normal", "anomaly"]);
        assert_eq!(card.probabilities(&at), [0.5, 0.5]);
        let above = read(&card, &[1.5]).unwrap();
        assert_eq!(above.prediction.to_string(), "anomaly");
        assert!(above.anomaly_score > Some(0.98) && above.confidence == above.anomaly_score);
        assert!(read(&card, &[-90.0]).unwrap().confidence > Some(0.99));
    }

    #[test]
    fn a_number_is_answered_as_a_number() {
        let answer = read(&card(Meaning::Value { name: "v".to_owned() }, 1), &[90.5]).unwrap();
        assert_eq!(serde_json::to_value(&answer).unwrap()["prediction"], 90.5);
        assert_eq!((answer.explanation.as_str(), answer.is_anomaly), ("90.5000 bar", false));
    }
}
