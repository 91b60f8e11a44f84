//! What a row of a model's output means: class or anomaly, how sure, and in words.

use std::collections::BTreeMap;

use serde::Serialize;

use super::repository::Output;

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
    pub(super) output: Output,
    pub(super) classes: Vec<String>,
    pub(super) normal: Vec<String>,
}

/// A model's answer to one reading.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The class, or `normal` / `anomaly`.
    pub prediction: String,
    /// Is it a class or a score that means trouble?
    pub is_anomaly: bool,
    /// Probability of trouble, 0..=1.
    pub anomaly_score: f32,
    /// Probability of the prediction itself, 0..=1.
    pub confidence: f32,
    /// Probability of each class; classifications only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<BTreeMap<String, f32>>,
    /// The model's raw score; anomaly tasks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The same in a sentence.
    pub explanation: String,
}

impl Card {
    /// Columns the output must have for one reading.
    pub(super) const fn columns(&self) -> usize {
        match self.output {
            Output::Probabilities { .. } => self.classes.len(),
            Output::Score { .. } => 1,
        }
    }

    /// Reads one row.
    ///
    /// # Errors
    /// A message when the row is not what the model's card promises: wrong width, not finite.
    pub(super) fn read(&self, row: &[f32]) -> Result<Answer, String> {
        if row.len() != self.columns() || row.iter().any(|value| !value.is_finite()) {
            return Err(format!("the model's output {row:?} is not {} finite numbers", self.columns()));
        }
        match self.output {
            Output::Probabilities { .. } => Ok(self.class_of(row)),
            Output::Score { threshold, slope, .. } => {
                let score = row.first().copied().unwrap_or_default();
                Ok(anomaly_of(score, threshold, slope))
            }
        }
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
            anomaly_score: anomaly_score.clamp(0.0, 1.0),
            confidence: best.1,
            probabilities: Some(self.classes.iter().cloned().zip(row.iter().copied()).collect()),
            score: None,
            prediction,
        }
    }
}

fn anomaly_of(score: f32, threshold: f32, slope: f32) -> Answer {
    let probability = 1.0 / (1.0 + (-slope * (score - threshold)).exp());
    let is_anomaly = score > threshold;
    let (prediction, side) = if is_anomaly { ("anomaly", "above") } else { ("normal", "not above") };
    Answer {
        prediction: prediction.to_owned(),
        is_anomaly,
        anomaly_score: probability,
        confidence: if is_anomaly { probability } else { 1.0 - probability },
        probabilities: None,
        score: Some(score),
        explanation: format!("score {score:.4} is {side} the threshold {threshold:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(output: Output) -> Card {
        Card {
            task: "t".to_owned(),
            model: "m".to_owned(),
            version: 1,
            tier: None,
            training_accuracy: None,
            output,
            classes: vec!["73".to_owned(), "80".to_owned(), "100".to_owned()],
            normal: vec!["100".to_owned()],
        }
    }

    #[test]
    fn probabilities_become_a_class() {
        let reading = reading(Output::Probabilities { name: "p".to_owned() });
        let answer = reading.read(&[0.25, 0.625, 0.125]).unwrap();
        assert_eq!((answer.prediction.as_str(), answer.is_anomaly), ("80", true));
        assert_eq!((answer.anomaly_score, answer.confidence), (0.875, 0.625));
        assert!(reading.read(&[0.5, 0.5]).is_err());
        assert!(reading.read(&[f32::NAN, 0.5, 0.5]).is_err());
    }

    #[test]
    fn a_score_is_anomalous_above_its_threshold_only() {
        let reading = reading(Output::Score { name: "s".to_owned(), threshold: 0.5, slope: 4.0 });
        let at = reading.read(&[0.5]).unwrap();
        assert_eq!((at.prediction.as_str(), at.anomaly_score), ("normal", 0.5));
        let above = reading.read(&[1.5]).unwrap();
        assert_eq!(above.prediction, "anomaly");
        assert!(above.anomaly_score > 0.98 && above.confidence == above.anomaly_score);
        assert!(reading.read(&[-90.0]).unwrap().confidence > 0.99);
    }
}
