use serde_json::json;

use super::*;

fn result(decision: bool) -> Box<RawValue> {
    let mut result = json!({
        "job_id": "t.1", "request_id": "r", "task": "t", "outcome": "done", "prediction": "normal", "model": "m",
        "model_version": 3, "latency_ms": 12.0, "attempts": 1, "accepted_at": 5,
        "weighed": {"policy": "slack-split", "policy_version": 2, "deadline_ms": 10, "tiers": [{"tier": "fast"}]},
    });
    if decision {
        result["decision"] = json!({"by": "edge", "tier": "fast", "reason": "split_cheap", "depth": 3,
            "accuracy": null, "snapshot_age_ms": 7, "share": 0.25});
    }
    RawValue::from_string(result.to_string()).unwrap()
}

#[test]
fn a_result_tells_of_its_decision() {
    let case = Case::of_result(&result(true)).unwrap();
    assert_eq!((case.job_id.as_deref(), case.request_id.as_str(), case.at), (Some("t.1"), "r", 5));
    assert_eq!((case.decision.share, case.decision.snapshot_age_ms), (Some(0.25), Some(7)));
    assert_eq!(case.weighed.as_ref().unwrap().deadline_ms, Some(10));
    assert_eq!(case.is_on_time(), Some(false), "12 ms of 10");
    let back: Case = serde_json::from_str(&serde_json::to_string(&case).unwrap()).unwrap();
    assert_eq!(back, case);
}

#[test]
fn a_result_from_before_results_told_is_no_case() {
    assert!(Case::of_result(&result(false)).is_none());
    assert!(Case::of_result(&RawValue::from_string("{}".to_owned()).unwrap()).is_none());
}

#[test]
fn what_was_called_off_was_neither_late_nor_in_time() {
    let case = Case::of_result(&result(true)).unwrap();
    let end = |outcome: &str| End { outcome: outcome.to_owned(), latency_ms: 1.0, ..End::default() };
    let on_time = |outcome| case.clone().ended(end(outcome)).is_on_time();
    let cases = [("done", Some(true)), ("cancelled", None), ("expired", Some(false)), (REFUSED, Some(false))];
    for (outcome, expected) in cases {
        assert_eq!(on_time(outcome), expected, "{outcome}");
    }
}
