//! What became of one row, read from what the service answered.
//!
//! Pure: status and text in, an [`Answer`] out. It keeps the few facts the report is made of, never
//! a body. Reading is lenient (a missing fact stays empty), as the report must not lose a row to a
//! field it does not need; only a prediction or a job id is indispensable.

use serde::Serialize;
use serde_json::Value;

/// Longest text kept of an error.
const MAX_TEXT: usize = 300;

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// A prediction came back.
    Answered,
    /// The service said no, and why.
    Refused,
    /// No word from the service, or none that can be read.
    Failed,
}

impl Outcome {
    pub(super) const ALL: [Self; 3] = [Self::Answered, Self::Refused, Self::Failed];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// One row and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Answer {
    /// Which reading of the replay, from 1.
    pub(super) row: u64,
    /// The value of the group column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    pub(super) outcome: Outcome,
    /// The HTTP status of the reading's own request.
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job_id: Option<String>,
    /// `done`, `failed`, `expired`, `dead`, or `queued` where waiting ended first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job_state: Option<String>,
    pub(super) prediction: Option<String>,
    pub(super) label: Option<String>,
    /// The file's label where it is no class of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) label_unknown: Option<String>,
    pub(super) model: Option<String>,
    pub(super) model_version: Option<u64>,
    pub(super) tier: Option<String>,
    /// Why this model was chosen.
    pub(super) reason: Option<String>,
    /// `edge` or `native`.
    pub(super) decided_by: Option<String>,
    /// From the intended start to the answer of the reading's own request (jobs mode: the 202).
    pub(super) latency_ms: Option<f64>,
    /// From the intended start until the request left: waiting for a free place, or our own lateness.
    pub(super) start_delay_ms: Option<f64>,
    /// What the service says the prediction took it.
    pub(super) service_latency_ms: Option<f64>,
    pub(super) queue_depth: Option<u64>,
    /// A refusal's public code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    /// The first field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Answer {
    /// A row nothing is known of yet; counts as failed until something is.
    pub(super) fn new(row: u64, group: Option<String>) -> Self {
        Self {
            row,
            group,
            outcome: Outcome::Failed,
            status: None,
            job_id: None,
            job_state: None,
            prediction: None,
            label: None,
            label_unknown: None,
            model: None,
            model_version: None,
            tier: None,
            reason: None,
            decided_by: None,
            latency_ms: None,
            start_delay_ms: None,
            service_latency_ms: None,
            queue_depth: None,
            code: None,
            pointer: None,
            error: None,
        }
    }

    /// No word from the service: why.
    pub(super) fn fail(&mut self, error: &str) {
        self.outcome = Outcome::Failed;
        self.error = Some(shorten(error));
    }

    /// The service's answer to the reading; a job's acceptance leaves the outcome open (`job_id` is set).
    pub(super) fn read_response(&mut self, status: u16, body: &[u8], is_job: bool) {
        self.status = Some(status);
        let json = serde_json::from_slice::<Value>(body);
        if !(200..300).contains(&status) {
            self.refuse(status, json.as_ref().ok(), body);
            return;
        }
        let Ok(json) = json else {
            return self.fail(&format!("HTTP {status} whose body is no JSON: {}", String::from_utf8_lossy(body)));
        };
        self.read_facts(&json);
        if is_job {
            self.job_id = text(&json, &["/job_id"]);
            if self.job_id.is_none() {
                self.fail(&format!("HTTP {status} without a job_id: {}", String::from_utf8_lossy(body)));
            }
        } else {
            self.read_prediction(&json, body);
        }
    }

    /// A job's state. Says whether that is its last.
    pub(super) fn read_job(&mut self, body: &[u8]) -> bool {
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            self.fail(&format!("the job's state is no JSON: {}", String::from_utf8_lossy(body)));
            return true;
        };
        let Some(state) = text(&json, &["/state"]) else {
            self.fail(&format!("the job has no state: {}", String::from_utf8_lossy(body)));
            return true;
        };
        let result = json.get("result").unwrap_or(&Value::Null);
        self.read_facts(result);
        self.job_state = Some(state.clone());
        // An earlier try may have failed to read the state; that is history now.
        self.error = None;
        match state.as_str() {
            "done" => self.read_prediction(result, body),
            "failed" | "expired" | "dead" | "cancelled" => {
                self.outcome = Outcome::Refused;
                let error = result.get("error");
                let code = error.and_then(|error| text(error, &["/code"]));
                self.pointer = error.and_then(|error| text(error, &["/errors/0/pointer", "/pointer"]));
                self.error = error.and_then(|error| text(error, &["", "/detail", "/message"])).map(|e| shorten(&e));
                self.code = Some(code.unwrap_or_else(|| format!("job-{state}")));
            }
            _ => return false,
        }
        true
    }

    fn refuse(&mut self, status: u16, problem: Option<&Value>, body: &[u8]) {
        self.outcome = Outcome::Refused;
        let told = |places: &[&str]| problem.and_then(|problem| text(problem, places));
        self.code = Some(told(&["/code"]).unwrap_or_else(|| format!("http-{status}")));
        self.pointer = told(&["/errors/0/pointer"]);
        let detail = told(&["/errors/0/detail", "/detail", "/title"]);
        self.error = Some(shorten(&detail.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())));
    }

    fn read_prediction(&mut self, json: &Value, body: &[u8]) {
        self.prediction = text(json, &["/prediction"]);
        if self.prediction.is_some() {
            self.outcome = Outcome::Answered;
        } else {
            self.fail(&format!("an answer without a prediction: {}", String::from_utf8_lossy(body)));
        }
    }

    /// Takes what is there; a job's result overwrites what its acceptance said, as the later decision counts.
    fn read_facts(&mut self, json: &Value) {
        fn keep<T>(slot: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *slot = value;
            }
        }
        keep(&mut self.model, text(json, &["/model_used", "/model"]));
        keep(&mut self.model_version, json.get("model_version").and_then(whole));
        keep(&mut self.tier, text(json, &["/tier"]));
        keep(&mut self.reason, text(json, &["/reason", "/decision/reason"]));
        keep(&mut self.decided_by, text(json, &["/decided_by", "/decision/by"]));
        keep(&mut self.service_latency_ms, json.get("latency_ms").and_then(Value::as_f64));
        keep(&mut self.queue_depth, json.get("queue_depth").and_then(whole));
    }
}

/// The first of these places that holds a text, a number or a truth value, as text.
fn text(json: &Value, places: &[&str]) -> Option<String> {
    places.iter().find_map(|place| match json.pointer(place)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    })
}

/// A count, whether written as `3`, `3.0` or `"3"`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and the range is checked"
)]
fn whole(value: &Value) -> Option<u64> {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or_else(text).or_else(|| value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64))
}

fn shorten(text: &str) -> String {
    let mut kept: String = text.chars().take(MAX_TEXT).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer::new(7, None)
    }

    #[test]
    fn a_prediction_is_answered_with_the_facts_of_its_decision() {
        let mut answer = answer();
        let body = br#"{"prediction":"leak","model_used":"logreg","model_version":1,"tier":"fast","latency_ms":0.4,
            "queue_depth":3,"decision":{"by":"edge","reason":"queue_deep"}}"#;
        answer.read_response(200, body, false);
        assert_eq!(answer.outcome, Outcome::Answered);
        assert_eq!(answer.prediction.as_deref(), Some("leak"));
        assert_eq!((answer.model.as_deref(), answer.model_version), (Some("logreg"), Some(1)));
        assert_eq!((answer.reason.as_deref(), answer.decided_by.as_deref()), (Some("queue_deep"), Some("edge")));
        assert_eq!((answer.service_latency_ms, answer.queue_depth), (Some(0.4), Some(3)));
    }

    #[test]
    fn a_problem_is_refused_with_its_code_and_first_field() {
        let mut answer = answer();
        let body = br##"{"type":"urn:x","status":422,"code":"invalid-reading","detail":"2 faults",
            "errors":[{"pointer":"#/sensor_data/PS1","code":"wrong_length","detail":"`PS1` has 59 values"}]}"##;
        answer.read_response(422, body, true);
        assert_eq!(answer.outcome, Outcome::Refused);
        assert_eq!(answer.code.as_deref(), Some("invalid-reading"));
        assert_eq!(answer.pointer.as_deref(), Some("#/sensor_data/PS1"));
        assert_eq!(answer.error.as_deref(), Some("`PS1` has 59 values"));
        let mut proxy = self::answer();
        proxy.read_response(502, b"<html>bad gateway", true);
        assert_eq!((proxy.code.as_deref(), proxy.error.as_deref()), (Some("http-502"), Some("<html>bad gateway")));
    }

    #[test]
    fn a_job_is_open_until_its_last_state() {
        let mut answer = answer();
        answer.read_response(202, br#"{"job_id":"j1","tier":"accurate","decision":{"reason":"idle"}}"#, true);
        assert_eq!(answer.job_id.as_deref(), Some("j1"));
        assert!(!answer.read_job(br#"{"job_id":"j1","state":"queued"}"#));
        assert_eq!(answer.outcome, Outcome::Failed, "nobody has answered yet");
        let done = br#"{"state":"done","result":{"prediction":"none","model":"logreg","tier":"fast","reason":"late",
            "decided_by":"native","latency_ms":12.5,"queue_depth":4,"model_version":2}}"#;
        assert!(answer.read_job(done));
        assert_eq!(answer.outcome, Outcome::Answered);
        assert_eq!((answer.tier.as_deref(), answer.reason.as_deref()), (Some("fast"), Some("late")));
        assert_eq!((answer.status, answer.job_state.as_deref()), (Some(202), Some("done")));
    }

    #[test]
    fn a_job_that_ended_otherwise_is_refused_with_its_end() {
        let mut answer = answer();
        assert!(answer.read_job(br#"{"state":"expired","result":{"error":"the deadline passed"}}"#));
        assert_eq!(answer.outcome, Outcome::Refused);
        assert_eq!(answer.code.as_deref(), Some("job-expired"));
        assert_eq!(answer.error.as_deref(), Some("the deadline passed"));
        assert!(answer.read_job(br#"{"state":"dead","result":{"error":{"code":"model-failed","detail":"boom"}}}"#));
        assert_eq!((answer.code.as_deref(), answer.error.as_deref()), (Some("model-failed"), Some("boom")));
    }

    #[test]
    fn answers_that_cannot_be_read_are_failed_not_lost() {
        for (status, body, is_job) in [(200, "ok", false), (200, "{}", false), (202, "{}", true), (200, "[]", true)] {
            let mut answer = answer();
            answer.read_response(status, body.as_bytes(), is_job);
            assert_eq!(answer.outcome, Outcome::Failed, "{body}");
            assert!(answer.error.is_some());
        }
    }
}
