use serde_json::json;
use tokio_util::task::TaskTracker;

use super::*;
use crate::rollout::plan::{Canary, Limits, RolloutConfig};
use crate::rollout::{Assignment, ModelVersions};

fn read(body: &Value) -> Result<Option<Label>, ApiError> {
    parse(body.to_string().as_bytes())
}

fn catalog() -> Catalog {
    let schema = |name: &str, kind: &str, classes: &[&str]| {
        json!({"models": [], "schema": {
            "name": name, "kind": kind, "tiers": ["fast"], "classes": classes, "fields": [{"name": "x", "type": "number"}],
        }})
    };
    let tasks = [schema("valve", "classification", &["73", "100"]), schema("pump", "anomaly", &[])];
    serde_json::from_value(json!({"etag": "e", "default_task": null, "tasks": tasks})).unwrap()
}

fn rollouts() -> Arc<Rollout> {
    let model =
        ModelVersions { task: "valve".to_owned(), model: "m".to_owned(), versions: vec![1, 2], default_version: 1 };
    let canary = Canary { version: 2, percent: 50.0, limits: Limits::default() };
    let config = RolloutConfig { canary: Some(canary), ..RolloutConfig::default() };
    Arc::new(Rollout::new(&model, &config, &TaskTracker::new()))
}

fn remember(ledger: &Ledger, id: &str, task: &str, assignment: Assignment, prediction: &str) {
    let prediction = Some(prediction.into()).filter(|_| !prediction.is_empty());
    ledger.remember(id, None, Answered { task: task.into(), model: "m".into(), assignment, prediction }, 0);
}

/// What a label sent for the answer `r` comes to.
fn counted(ledger: &Ledger, rollout: &Arc<Rollout>, body: &Value) -> Result<Counted, ApiError> {
    count(read(body).unwrap().unwrap(), &catalog(), ledger, |task, _| (task == "valve").then(|| Arc::clone(rollout)), 1)
}

#[test]
fn a_statement_is_no_label() {
    for body in [json!({"model": "fast", "accuracy": 0.5}), json!({}), json!([1]), json!({"label": "73"})] {
        assert_eq!(read(&body).unwrap(), None, "{body}");
    }
    assert_eq!(parse(b"no JSON").unwrap(), None);
}

#[test]
fn every_fault_is_told_with_its_member() {
    for (body, pointers) in [
        (json!({"request_id": "r"}), vec!["#/label"]),
        (json!({"request_id": "r", "label": "a", "correct": true}), vec!["#/correct"]),
        (json!({"request_id": "r", "job_id": "j", "correct": true}), vec!["#/job_id"]),
        (json!({"request_id": 5, "correct": "yes", "task": "t"}), vec!["#/task", "#/request_id", "#/correct"]),
        (json!({"job_id": "a b", "label": null}), vec!["#/job_id", "#/label"]),
        (json!({"job_id": null, "label": ["x"]}), vec!["#/request_id", "#/label"]),
    ] {
        let error = read(&body).unwrap_err();
        let found: Vec<&str> = error.faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!((error.code, found), (ErrorCode::InvalidReading, pointers), "{body}");
    }
}

#[test]
fn a_label_is_held_against_the_prediction_and_counts_once() {
    let (ledger, rollouts) = (Ledger::default(), rollouts());
    let rollout = &rollouts;
    for (id, label, correct) in [("r1", json!("73"), true), ("r2", json!(100), false)] {
        remember(&ledger, id, "valve", rollout.pinned(1), "73");
        let result = counted(&ledger, &rollouts, &json!({"request_id": id, "label": label})).unwrap();
        assert_eq!((result.counted, result.correct), (true, Some(correct)));
        let by = result.answered_by.unwrap();
        assert_eq!((by.model.as_str(), by.model_version, by.arm.as_str()), ("m", 1, "default"));
        let again = counted(&ledger, &rollouts, &json!({"request_id": id, "label": label})).unwrap();
        assert_eq!((again.counted, again.correct, again.answered_by), (false, None, None));
    }
    let counts = &rollout.view().versions[&1];
    assert_eq!((counts.labels, counts.correct), (2, 1));
}

#[test]
fn a_label_that_cannot_be_right_is_a_fault_and_can_be_sent_again() {
    let (ledger, rollouts) = (Ledger::default(), rollouts());
    let pinned = rollouts.pinned(1);
    remember(&ledger, "r", "valve", pinned.clone(), "73");
    let error = counted(&ledger, &rollouts, &json!({"request_id": "r", "label": "74"})).unwrap_err();
    assert!(error.faults[0].detail.contains("73, 100"), "{error:?}");
    assert!(counted(&ledger, &rollouts, &json!({"request_id": "r", "label": "100"})).unwrap().counted);

    remember(&ledger, "p", "pump", pinned.clone(), "anomaly");
    assert!(counted(&ledger, &rollouts, &json!({"request_id": "p", "label": "73"})).is_err());
    assert_eq!(counted(&ledger, &rollouts, &json!({"job_id": "p", "label": "normal"})).unwrap().correct, Some(false));

    remember(&ledger, "g", "pump", pinned, "");
    let error = counted(&ledger, &rollouts, &json!({"request_id": "g", "label": "normal"})).unwrap_err();
    assert!(error.faults[0].detail.contains("`correct`"), "{error:?}");
    assert!(counted(&ledger, &rollouts, &json!({"request_id": "g", "correct": true})).unwrap().counted);
}

#[test]
fn an_answer_nobody_knows_is_not_found() {
    let error = counted(&Ledger::default(), &rollouts(), &json!({"request_id": "r", "correct": true})).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[test]
fn labels_take_a_bad_canary_out_of_traffic() {
    let (ledger, rollouts) = (Ledger::default(), rollouts());
    let rollout = &rollouts;
    let last = (0..2_000).find_map(|index| {
        let id = format!("r{index}");
        let assignment = rollout.assign(&id);
        let truth = if assignment.version == 2 { "100" } else { "73" };
        remember(&ledger, &id, "valve", assignment, "73");
        let result = counted(&ledger, &rollouts, &json!({"request_id": id, "label": truth})).unwrap();
        result.answered_by.filter(|by| by.rolled_back)
    });
    assert_eq!(last.map(|by| (by.arm, by.model_version)), Some(("canary".to_owned(), 2)));
    assert_eq!(rollout.assign("any").version, 1);
}
