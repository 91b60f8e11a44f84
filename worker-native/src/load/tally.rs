//! Counts what became of the rows: outcomes, latencies, hits.
//!
//! Pure: answers in, a [`Summary`] out. The invariant every test here leans on: each answer is
//! counted once, so `rows = answered + refused + failed`. Keeps counts and eight bytes a row for
//! exact percentiles, never an answer.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::{Answer, Outcome};
use super::labels::canonical;
use super::to_f64;

/// The running counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    outcomes: [u64; 3],
    statuses: BTreeMap<String, u64>,
    states: BTreeMap<String, u64>,
    reasons: BTreeMap<String, u64>,
    deciders: BTreeMap<String, u64>,
    faults: BTreeMap<FaultKey, (u64, String)>,
    models: BTreeMap<ModelKey, Hits>,
    tiers: BTreeMap<String, Hits>,
    hits: Hits,
    /// Of 2xx, of other statuses, of requests without an answer.
    latencies_ms: [Vec<f64>; 3],
    start_delays_ms: Vec<f64>,
    service_latencies_ms: Vec<f64>,
    /// Backlogs that decisions were based on, in jobs.
    depths: Vec<f64>,
    /// Whether the run has labels, so that a row without one is worth a word.
    wants_labels: bool,
    labels_absent: u64,
    labels_unknown: BTreeMap<String, u64>,
}

type FaultKey = (Outcome, String, Option<String>);
type ModelKey = (String, Option<u64>, Option<String>);

/// Answered rows, and how many met their label.
#[derive(Debug, Clone, Default)]
struct Hits {
    rows: u64,
    /// How often each truth (first) got each prediction (second).
    pairs: BTreeMap<(String, String), u64>,
}

/// All that a report tells.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) rows: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) by_status: BTreeMap<String, u64>,
    pub(super) by_job_state: BTreeMap<String, u64>,
    pub(super) by_reason: BTreeMap<String, u64>,
    pub(super) by_decider: BTreeMap<String, u64>,
    pub(super) by_model: Vec<Share>,
    pub(super) by_tier: Vec<Share>,
    /// Refusals and failures, most frequent first.
    pub(super) faults: Vec<FaultCount>,
    /// From the intended start to a 2xx (jobs mode: the acceptance).
    pub(super) latency_ms: Option<Spread>,
    /// From the intended start to any other status.
    pub(super) refused_latency_ms: Option<Spread>,
    /// From the intended start until a request without an answer was given up.
    pub(super) failed_latency_ms: Option<Spread>,
    /// From the intended start until the request left.
    pub(super) start_delay_ms: Option<Spread>,
    /// What the service says each prediction took.
    pub(super) service_latency_ms: Option<Spread>,
    pub(super) queue_depth: Option<Spread>,
    pub(super) accuracy: Option<Accuracy>,
    /// Rows whose label is empty or not in the other file.
    pub(super) labels_absent: u64,
    /// Labels that mean no class of the task.
    pub(super) labels_unknown: BTreeMap<String, u64>,
}

/// What one model or tier answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Share {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u64>,
    pub(super) tier: Option<String>,
    pub(super) rows: u64,
    pub(super) accuracy: Option<Accuracy>,
}

/// Predictions against labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Accuracy {
    /// Answered rows with a label.
    pub(super) labelled: u64,
    pub(super) correct: u64,
    pub(super) accuracy: f64,
    /// Mean over the labels' classes of the share found: does not reward naming the frequent class.
    pub(super) balanced: f64,
    /// Classes met, labels and predictions, sorted.
    pub(super) classes: Vec<String>,
    /// A row per label, a column per prediction, in the order of `classes`.
    pub(super) confusion: Vec<Vec<u64>>,
}

/// One way rows were refused or failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct FaultCount {
    pub(super) outcome: Outcome,
    /// The problem's code, or the failure's text.
    pub(super) reason: String,
    pub(super) pointer: Option<String>,
    pub(super) count: u64,
    /// Of all rows, 0..=1.
    pub(super) share: f64,
    /// The first such row and its words.
    pub(super) example: String,
}

/// Percentiles by nearest rank: each is a value that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) count: usize,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new(wants_labels: bool) -> Self {
        Self { wants_labels, ..Self::default() }
    }

    /// Counts one row's answer.
    pub(super) fn add(&mut self, answer: &Answer) {
        let outcome = answer.outcome as usize;
        self.outcomes[outcome] += 1;
        let status = answer.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        *self.statuses.entry(status).or_default() += 1;
        // A job accepted and then lost was accepted as fast as others; only its outcome differs.
        let series = match answer.status {
            Some(200..300) => Outcome::Answered,
            Some(_) => Outcome::Refused,
            None => Outcome::Failed,
        };
        self.latencies_ms[series as usize].extend(answer.latency_ms);
        self.start_delays_ms.extend(answer.start_delay_ms);
        match (&answer.label, &answer.label_unknown) {
            (None, Some(text)) => *self.labels_unknown.entry(text.clone()).or_default() += 1,
            (None, None) if self.wants_labels => self.labels_absent += 1,
            _ => {}
        }
        if let Some(state) = &answer.job_state {
            *self.states.entry(state.clone()).or_default() += 1;
        }
        match answer.outcome {
            Outcome::Answered => self.add_answered(answer),
            Outcome::Refused | Outcome::Failed => self.add_fault(answer),
        }
    }

    /// Rows that ended in this way so far.
    pub(super) const fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    fn add_answered(&mut self, answer: &Answer) {
        let named = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        *self.reasons.entry(named(&answer.reason)).or_default() += 1;
        *self.deciders.entry(named(&answer.decided_by)).or_default() += 1;
        self.service_latencies_ms.extend(answer.service_latency_ms);
        self.depths.extend(answer.queue_depth.map(to_f64));
        let key = (named(&answer.model), answer.model_version, answer.tier.clone());
        self.hits.add(answer);
        self.models.entry(key).or_default().add(answer);
        self.tiers.entry(answer.tier.clone().unwrap_or_else(|| "none".to_owned())).or_default().add(answer);
    }

    fn add_fault(&mut self, answer: &Answer) {
        let error = answer.error.clone().unwrap_or_default();
        let (reason, words) = match (&answer.code, answer.outcome) {
            (Some(code), Outcome::Refused) => (code.clone(), error),
            _ => (without_numbers(&error), error),
        };
        let key = (answer.outcome, reason, answer.pointer.as_deref().map(without_index));
        let (count, _) = self.faults.entry(key).or_insert_with(|| (0, format!("row {}: {words}", answer.row)));
        *count += 1;
    }

    /// The counts in the form they are told.
    pub(super) fn summary(&self) -> Summary {
        let [answered, refused, failed] = self.outcomes;
        let rows = answered + refused + failed;
        let [success_ms, refused_ms, failed_ms] = &self.latencies_ms;
        let mut faults: Vec<FaultCount> = self
            .faults
            .iter()
            .map(|((outcome, reason, pointer), (count, example))| FaultCount {
                outcome: *outcome,
                reason: reason.clone(),
                pointer: pointer.clone(),
                count: *count,
                share: ratio(*count, rows),
                example: example.clone(),
            })
            .collect();
        faults.sort_by_key(|fault| (fault.outcome, std::cmp::Reverse(fault.count)));
        let share = |model: Option<&ModelKey>, tier: Option<String>, hits: &Hits| Share {
            model: model.map(|(name, ..)| name.clone()),
            version: model.and_then(|(_, version, _)| *version),
            tier,
            rows: hits.rows,
            accuracy: hits.accuracy(),
        };
        Summary {
            rows,
            answered,
            refused,
            failed,
            by_status: self.statuses.clone(),
            by_job_state: self.states.clone(),
            by_reason: self.reasons.clone(),
            by_decider: self.deciders.clone(),
            by_model: self.models.iter().map(|(key, hits)| share(Some(key), key.2.clone(), hits)).collect(),
            by_tier: self.tiers.iter().map(|(tier, hits)| share(None, Some(tier.clone()), hits)).collect(),
            faults,
            latency_ms: Spread::of(success_ms),
            refused_latency_ms: Spread::of(refused_ms),
            failed_latency_ms: Spread::of(failed_ms),
            start_delay_ms: Spread::of(&self.start_delays_ms),
            service_latency_ms: Spread::of(&self.service_latencies_ms),
            queue_depth: Spread::of(&self.depths),
            accuracy: self.hits.accuracy(),
            labels_absent: self.labels_absent,
            labels_unknown: self.labels_unknown.clone(),
        }
    }
}

impl Hits {
    fn add(&mut self, answer: &Answer) {
        self.rows += 1;
        if let (Some(label), Some(prediction)) = (&answer.label, &answer.prediction) {
            *self.pairs.entry((canonical(label), canonical(prediction))).or_default() += 1;
        }
    }

    fn accuracy(&self) -> Option<Accuracy> {
        let labelled: u64 = self.pairs.values().sum();
        if labelled == 0 {
            return None;
        }
        let mut classes: Vec<String> = self.pairs.keys().flat_map(|(label, told)| [label, told]).cloned().collect();
        classes.sort_by(|a, b| match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a.total_cmp(&b),
            _ => a.cmp(b),
        });
        classes.dedup();
        let cell = |label: &String, told: &String| self.pairs.get(&(label.clone(), told.clone())).copied().unwrap_or(0);
        let confusion: Vec<Vec<u64>> =
            classes.iter().map(|label| classes.iter().map(|told| cell(label, told)).collect()).collect();
        let correct: u64 = classes.iter().map(|class| cell(class, class)).sum();
        let recalls: Vec<f64> = classes
            .iter()
            .zip(&confusion)
            .filter_map(|(class, row)| {
                let of_class: u64 = row.iter().sum();
                (of_class > 0).then(|| ratio(cell(class, class), of_class))
            })
            .collect();
        Some(Accuracy {
            labelled,
            correct,
            accuracy: ratio(correct, labelled),
            balanced: recalls.iter().sum::<f64>() / to_f64(recalls.len()),
            classes,
            confusion,
        })
    }
}

impl Spread {
    /// `None` where nothing was measured.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        // Nearest rank in whole numbers: 0.99 * 100 as floats is just over 99.
        let rank = |percent: usize| sorted.get((count * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            count,
            p50: rank(50)?,
            p95: rank(95)?,
            p99: rank(99)?,
            max: rank(100)?,
            mean: sorted.iter().sum::<f64>() / to_f64(count),
        })
    }
}

/// A pointer without the index into an array, or a field of 60 numbers would be 60 reasons.
fn without_index(pointer: &str) -> String {
    match pointer.rsplit_once('/') {
        Some((field, index)) if !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()) => field.to_owned(),
        _ => pointer.to_owned(),
    }
}

/// Failures of one kind differ by line or port only.
fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            c => out.push(c),
        }
    }
    out
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { to_f64(part) / to_f64(whole) }
}

#[cfg(test)]
mod tests;
