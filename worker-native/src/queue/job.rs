//! What lies in the queue, and what comes out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use shared::reading::Input;
pub use shared::reading::Priority;

use crate::clock::now_ms;
use crate::engine::Answer;
use crate::routing::{Binding, DecisionRecord, Weighed};

/// A job as it is stored: the facts in JSON, the numbers beside them as little-endian floats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `<task>.<uuid>`, so that a job's keys can be told from its id alone.
    pub job_id: String,
    /// Follows the request through edge, queue and consumer.
    pub request_id: String,
    /// The task.
    pub task: String,
    /// Who measured, where told.
    pub sensor_id: Option<String>,
    /// When it was measured, in Unix seconds, where told.
    pub timestamp: Option<f64>,
    /// The tier the job counts under in the backlog.
    pub lane: String,
    /// The model that is to answer.
    pub model: String,
    /// Its version.
    pub model_version: u32,
    /// Another version was asked for and is not here.
    pub fallback: bool,
    /// The caller named the version: its run is no evidence for a rollout.
    #[serde(default)]
    pub pinned: bool,
    /// What of the decision a worker may change; a job of an older process is left as it is.
    #[serde(default, skip_serializing_if = "Binding::is_fixed")]
    pub binding: Binding,
    /// Why this model.
    pub decision: DecisionRecord,
    /// What was weighed; none of a job of an older process, or one that another process waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighed: Option<Weighed>,
    /// When the job was accepted, in Unix milliseconds.
    pub accepted_at: u64,
    /// When its answer stops being wanted, in Unix milliseconds of the process that accepted it: to be shown. What
    /// counts is [`Claimed::left`].
    pub deadline_at: Option<u64>,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// Whose it is, where told: tenants get equal shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Where to send the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// A caller waits for the result; nobody reads it later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaited: bool,
    /// The reading: numbers are stored beside the JSON, a text in it.
    #[serde(rename = "text", default = "no_features", with = "stored_text")]
    pub input: Input,
}

const fn no_features() -> Input {
    Input::Features(Vec::new())
}

mod stored_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use shared::reading::Input;

    pub(super) fn serialize<S: Serializer>(input: &Input, serializer: S) -> Result<S::Ok, S::Error> {
        match input {
            Input::Features(_) => None,
            Input::Text(text) => Some(text),
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Input, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map_or_else(super::no_features, Input::Text))
    }
}

impl Entry {
    /// A job for a model, accepted now: of no tenant, normal priority, without a deadline, and nobody waits for it.
    #[must_use]
    pub fn new(task: &str, lane: &str, (model, model_version): (&str, u32), input: Input) -> Self {
        Self {
            job_id: Self::new_id(task),
            request_id: String::new(),
            task: task.to_owned(),
            sensor_id: None,
            timestamp: None,
            lane: lane.to_owned(),
            model: model.to_owned(),
            model_version,
            fallback: false,
            pinned: false,
            binding: Binding::default(),
            decision: DecisionRecord::default(),
            accepted_at: now_ms(),
            deadline_at: None,
            priority: Priority::default(),
            tenant: None,
            callback: None,
            awaited: false,
            weighed: None,
            input,
        }
    }

    /// A fresh job id for a task: sortable by time.
    #[must_use]
    pub fn new_id(task: &str) -> String {
        format!("{task}.{}", uuid::Uuid::now_v7().simple())
    }

    /// The task a job id belongs to.
    #[must_use]
    pub fn task_of(job_id: &str) -> Option<&str> {
        job_id.split_once('.').map(|(task, _)| task)
    }

    /// The whole job as one run of bytes: JSON, which has no line feed, a line feed, and the numbers.
    pub(super) fn to_body(&self) -> Result<Vec<u8>, String> {
        let mut body = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        body.push(b'\n');
        if let Input::Features(features) = &self.input {
            body.extend(features.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(body)
    }

    /// What [`Entry::to_body`] made.
    pub(super) fn from_body(body: &[u8]) -> Result<Self, String> {
        let end = body.iter().position(|byte| *byte == b'\n').ok_or("it has no line feed")?;
        let (json, features) = body.split_at(end);
        Self::from_parts(json, features.get(1..).unwrap_or_default())
    }

    pub(super) fn from_parts(json: &[u8], features: &[u8]) -> Result<Self, String> {
        let mut entry: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let (values, rest) = features.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(format!("{} bytes are no whole number of floats", features.len()));
        }
        if let Input::Features(features) = &mut entry.input {
            features.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
        Ok(entry)
    }
}

/// One try of a job that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// Which start it was; 1 is the first.
    pub attempt: u32,
    /// When it ended, in Unix milliseconds.
    pub at: u64,
    /// Why it failed.
    pub error: String,
}

/// What a claim gives for settling, renewing and handing back; its inside is the backend's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The job's id, also where the entry itself cannot be read.
    pub job_id: String,
    /// The tier it counts under in the backlog; empty where that cannot be told.
    pub lane: String,
    /// Where it waits: class and tenant.
    pub(super) flow: String,
    /// Its place there: a stream's id, or a row's.
    pub(super) place: String,
    /// Its size in bytes, as counted.
    pub(super) bytes: u64,
    /// Where its result is wanted.
    pub(super) callback: Option<String>,
}

#[cfg(test)]
impl Ticket {
    /// A ticket that no backend gave.
    pub(crate) fn for_test(job_id: &str, lane: &str) -> Self {
        let (job_id, lane) = (job_id.to_owned(), lane.to_owned());
        Self { job_id, lane, flow: String::new(), place: String::new(), bytes: 0, callback: None }
    }
}

/// A job that this consumer holds until it settles it or its lease ends.
#[derive(Debug)]
pub struct Claimed {
    /// For all that is done with it.
    pub ticket: Ticket,
    /// Which start this is; 1 is the first.
    pub attempt: u32,
    /// How long ago it was accepted.
    pub waited: Duration,
    /// What is left until its deadline, at the moment of the claim; zero where it has passed.
    pub left: Option<Duration>,
    /// Why earlier tries failed, as far as they could tell.
    pub failures: Vec<AttemptError>,
    /// The job, or why it cannot be read.
    pub entry: Result<Entry, String>,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Answered.
    Done,
    /// The model failed on it.
    Failed,
    /// Its deadline passed before it ended.
    Expired,
    /// Started too often without an end, or unreadable.
    Dead,
    /// Called off before it had a result.
    Cancelled,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Done, Self::Failed, Self::Expired, Self::Dead, Self::Cancelled];

    /// The outcome of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job's result as `/results` and `/v1/jobs/{id}` show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultRecord {
    /// The job.
    pub job_id: String,
    /// The request that handed it in.
    pub request_id: String,
    /// The task.
    pub task: String,
    /// Who measured.
    pub sensor_id: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// The model's answer, where there is one.
    #[serde(flatten)]
    pub answer: Option<Answer>,
    /// The model that answered or was to.
    pub model: String,
    /// Its version.
    pub model_version: u32,
    /// Another version was asked for and is not here.
    pub fallback: bool,
    /// The model's tier.
    pub tier: Option<String>,
    /// The tier chosen before a worker looked at the job again, or a cascade asked another; none where neither did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hinted_tier: Option<String>,
    /// Why this tier.
    pub reason: String,
    /// Which side decided.
    pub decided_by: String,
    /// The decision whole, and what was weighed.
    pub decision: DecisionRecord,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighed: Option<Weighed>,
    /// The chance that the tier had to be chosen, where the choice was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f32>,
    /// The caller named the version: no evidence in a rollout.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// From acceptance to the result, in milliseconds.
    pub latency_ms: f64,
    /// Unsettled jobs of the task when this one left the queue.
    pub queue_depth: u32,
    /// The model's accuracy as known at that time.
    pub model_accuracy: Option<f32>,
    /// How often it was started.
    pub attempts: u32,
    /// Unix milliseconds.
    pub accepted_at: u64,
    /// Unix milliseconds.
    pub finished_at: u64,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A job's state, and its result once it has one.
#[derive(Debug, Default)]
pub struct JobState {
    /// `queued`, `running`, `retrying`, `lost`, or the outcome's name.
    pub state: String,
    /// Which start it is at; 0 before the first.
    pub attempt: u32,
    /// Tries that came to nothing so far.
    pub failures: Vec<AttemptError>,
    /// How long ago it was accepted; none once it has ended.
    pub waited: Option<Duration>,
    /// The stored [`ResultRecord`], as its JSON was stored.
    pub result: Option<Box<RawValue>>,
    /// How its callback went, as noted last.
    pub callback: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_storage_bit_for_bit() {
        let input = Input::Features(vec![0.1, -0.0, f32::MIN_POSITIVE]);
        let binding = Binding { movable: true, min_accuracy: Some(0.9) };
        let entry = Entry { timestamp: Some(0.1), binding, ..Entry::new("pump-anomaly", "fast", ("m", 1), input) };
        let back = Entry::from_body(&entry.to_body().unwrap()).unwrap();
        assert_eq!(back, entry);
        assert!(matches!(&back.input, Input::Features(features) if features[1].to_bits() == (-0.0f32).to_bits()));
        let text = Entry { input: Input::Text("é \" \n".to_owned()), ..entry };
        let body = text.to_body().unwrap();
        assert_eq!(Entry::from_body(&body).unwrap(), text);
        assert_eq!(Entry::task_of(&text.job_id), Some("pump-anomaly"));
        assert!(Entry::from_body(&[body.as_slice(), &[0; 5]].concat()).is_err());
        assert!(Entry::from_body(b"{}\n").is_err());
        assert!(Entry::from_body(b"").is_err());
    }
}
