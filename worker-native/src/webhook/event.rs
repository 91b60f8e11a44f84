//! What a callback says: one JSON object with `type`, `timestamp` and `data`.
//!
//! Owns its form and its largest size. What a result holds is `queue::ResultRecord`'s; it is sent as it was stored.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::queue::Callback;

/// Largest body, in bytes; a larger result is told by its path.
pub(super) const MAX_BODY: usize = 20_000;

/// What is read of a stored result.
#[derive(Debug, Default, Deserialize)]
struct Facts<'a> {
    #[serde(borrow, default)]
    outcome: Cow<'a, str>,
    #[serde(default)]
    finished_at: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Whole(&'a RawValue),
    /// Where the result is, or, without a location, was.
    Reference {
        job_id: &'a str,
        outcome: Option<&'a str>,
        location: Option<String>,
    },
}

/// The body of a callback; `now` in Unix milliseconds dates a job whose result has no date.
///
/// The same at every try, as long as the result is kept.
///
/// # Errors
/// When it cannot be written; none is known.
pub(super) fn body(callback: &Callback, now: u64) -> Result<Vec<u8>, serde_json::Error> {
    let result = callback.result.as_deref();
    let facts: Facts<'_> = result.and_then(|json| serde_json::from_str(json.get()).ok()).unwrap_or_default();
    let age = u64::try_from(callback.age.as_millis()).unwrap_or(u64::MAX);
    let timestamp = rfc3339(facts.finished_at.unwrap_or_else(|| now.saturating_sub(age)));
    let is_word = !facts.outcome.is_empty() && facts.outcome.bytes().all(|byte| byte.is_ascii_lowercase());
    let outcome = is_word.then_some(&*facts.outcome);
    let kind = format!("job.{}", if result.is_some() { outcome.unwrap_or("ended") } else { "forgotten" });
    let location = result.map(|_| format!("/v1/jobs/{}", callback.job_id));
    let reference = Data::Reference { job_id: &callback.job_id, outcome, location };
    let mut event = Event { kind, timestamp, data: reference };
    if let Some(result) = result {
        let short = std::mem::replace(&mut event.data, Data::Whole(result));
        let whole = serde_json::to_vec(&event)?;
        if whole.len() < MAX_BODY {
            return Ok(whole);
        }
        event.data = short;
    }
    serde_json::to_vec(&event)
}

/// Unix milliseconds as RFC 3339, in UTC.
fn rfc3339(millis: u64) -> String {
    let moment = i64::try_from(millis).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn told(result: Option<&str>) -> Value {
        let callback = Callback {
            job_id: "pump.1".to_owned(),
            ended_at: 0,
            url: String::new(),
            attempt: 1,
            age: Duration::from_secs(1),
            result: result.map(|json| RawValue::from_string(json.to_owned()).unwrap()),
        };
        let body = body(&callback, 1_700_000_001_000).unwrap();
        assert!(body.len() < MAX_BODY, "{} bytes", body.len());
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_result_is_sent_as_it_is_stored() {
        let result = r#"{"job_id":"pump.1","outcome":"done","score":0.10,"finished_at":1700000000123}"#;
        let event = told(Some(result));
        assert_eq!((&event["type"], &event["timestamp"]), (&json!("job.done"), &json!("2023-11-14T22:13:20.123Z")));
        assert_eq!(event["data"], serde_json::from_str::<Value>(result).unwrap());
        assert_eq!(told(Some(r#"{"outcome":"dead","finished_at":0}"#))["type"], "job.dead");
    }

    #[test]
    fn a_large_result_is_told_by_its_path() {
        let large = json!({"outcome": "failed", "finished_at": 0, "error": "x".repeat(MAX_BODY)}).to_string();
        let event = told(Some(&large));
        assert_eq!(event["type"], "job.failed");
        assert_eq!(event["data"], json!({"job_id": "pump.1", "outcome": "failed", "location": "/v1/jobs/pump.1"}));
    }

    #[test]
    fn a_result_that_is_gone_or_strange_is_told_so() {
        let event = told(None);
        assert_eq!(
            (&event["type"], &event["timestamp"]),
            (&json!("job.forgotten"), &json!("2023-11-14T22:13:20.000Z"))
        );
        assert_eq!(event["data"], json!({"job_id": "pump.1", "outcome": null, "location": null}));
        assert_eq!(told(Some("[1]"))["type"], "job.ended");
        assert_eq!(told(Some(r#"{"outcome":"A b"}"#))["type"], "job.ended");
        assert_eq!(told(Some(r#"{"finished_at":18446744073709551615}"#))["timestamp"], "1970-01-01T00:00:00.000Z");
    }
}
