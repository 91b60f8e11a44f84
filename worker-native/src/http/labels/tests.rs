use serde_json::json;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::{Config, Source};
use crate::rollout::ledger::{Found, Ledger};
use crate::rollout::plan::{Canary, Limits, RolloutConfig};
use crate::rollout::{Assignment, First, ModelVersions};

fn read(body: &Value) -> Result<Option<Label>, ApiError> {
    parse(body.to_string().as_bytes())
}

fn catalog() -> Catalog {
    let schema = |name: &str, kind: &str, classes: &[&str]| {
        json!({"models": [], "schema": {
            "name": name, "kind": kind, "tiers": ["fast"], "classes": classes, "fields": [{"name": "x", "type": "number"}],
        }})
    };
    let leak = schema("leak", "classification", &["a", "b", "c"]);
    let tasks = [schema("valve", "classification", &["73", "100"]), schema("pump", "anomaly", &[]), leak];
    serde_json::from_value(json!({"etag": "e", "default_task": null, "tasks": tasks})).unwrap()
}

fn rollouts() -> Arc<Rollout> {
    let model =
        ModelVersions { task: "valve".to_owned(), model: "m".to_owned(), versions: vec![1, 2], default_version: 1 };
    let canary = Canary { version: 2, percent: 50.0, limits: Limits::default() };
    let config = RolloutConfig { canary: Some(canary), ..RolloutConfig::default() };
    Arc::new(Rollout::new(&model, &config, &TaskTracker::new()))
}

/// A process's part in labels, with the queue in a file.
struct Bench {
    ledger: Ledger,
    learning: Learning,
    queue: Arc<dyn Queue>,
    rollout: Arc<Rollout>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("queue.sqlite").display().to_string();
        let env = [("QUEUE_FILE".to_owned(), file)].into();
        let config = Config::read(Source::new(env, None).unwrap()).unwrap();
        let (queue, learning) = (crate::queue::open(&config.queue).unwrap(), Learning::new(&config.learning));
        Self { ledger: Ledger::default(), learning, queue, rollout: rollouts(), _folder: folder }
    }

    /// What a label comes to, of an answer that is known.
    async fn counted(&self, body: &Value) -> Result<Counted, ApiError> {
        let label = read(body).unwrap().unwrap();
        let known = match self.ledger.find(label.id(), 1) {
            Found::Answered(known) => known,
            other => panic!("{other:?}"),
        };
        let store = Store { learning: &self.learning, queue: &*self.queue };
        let rollout_of = |task: &str, _: &str| (task == "valve").then(|| Arc::clone(&self.rollout));
        let trained = |_: &str, _: &str, _| Some(0.9);
        count(label, &known, &catalog(), store, (rollout_of, trained), 1).await
    }
}

fn remember(ledger: &Ledger, id: &str, task: &str, assignment: Assignment, prediction: &str) {
    let prediction = Some(prediction.into()).filter(|_| !prediction.is_empty());
    ledger.remember(
        id,
        None,
        Answered { task: task.into(), model: "m".into(), assignment, prediction, propensity: None, first: None },
        0,
    );
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

#[tokio::test]
async fn a_label_is_held_against_the_prediction_and_counts_once() {
    let bench = Bench::new();
    for (id, label, correct) in [("r1", json!("73"), true), ("r2", json!(100), false)] {
        remember(&bench.ledger, id, "valve", bench.rollout.pinned(1), "73");
        let result = bench.counted(&json!({"request_id": id, "label": label})).await.unwrap();
        assert_eq!((result.counted, result.correct), (true, Some(correct)));
        let by = result.answered_by.unwrap();
        assert_eq!((by.model.as_str(), by.model_version, by.arm.as_str()), ("m", 1, "default"));
        let again = bench.counted(&json!({"request_id": id, "label": label})).await.unwrap();
        assert_eq!((again.counted, again.correct, again.answered_by), (false, None, None));
    }
    let counts = &bench.rollout.view().versions[&1];
    assert_eq!((counts.labels, counts.correct), (2, 1));
    let seen = bench.learning.belief("valve", "m", 1).unwrap();
    assert_eq!((seen.belief.labels(), seen.belief.correct()), (2, 1));
    // One right and one wrong, with a training report of 0.9 that counts as 20.
    let accuracy = bench.learning.accuracy(("valve", "m", 1), Some(0.9), 1).unwrap();
    assert!((accuracy - 19.0 / 22.0).abs() < 1e-4, "{accuracy}");
    assert_eq!(bench.learning.accuracy(("valve", "m", 2), Some(0.9), 1), Some(0.9));
    assert_eq!(bench.learning.accuracy(("valve", "m", 2), None, 1), None);
}

#[tokio::test]
async fn a_label_of_an_answer_that_was_asked_again_teaches_of_the_first_one() {
    let bench = Bench::new();
    let first = |prediction: Option<&str>| First {
        model: "cheap".into(),
        assignment: Assignment::outside(3),
        prediction: prediction.map(Into::into),
        propensity: Some(0.5),
    };
    let mut labels = 0;
    // The task, the first and the last answer, what is sent, and what it says of the last and of the first.
    let cases = [
        ("valve", Some("73"), "100", json!({"label": "100"}), true, Some(false)),
        ("valve", Some("73"), "100", json!({"label": "73"}), false, Some(true)),
        ("valve", Some("73"), "73", json!({"correct": true}), true, Some(true)),
        ("valve", Some("73"), "73", json!({"correct": false}), false, Some(false)),
        ("valve", Some("73"), "100", json!({"correct": true}), true, Some(false)),
        ("valve", Some("73"), "100", json!({"correct": false}), false, Some(true)),
        ("valve", None, "100", json!({"label": "100"}), true, None),
        ("leak", Some("a"), "b", json!({"correct": false}), false, None),
        ("leak", Some("a"), "b", json!({"label": "c"}), false, Some(false)),
    ];
    for (number, (task, prediction, last, sent, correct, taught)) in cases.into_iter().enumerate() {
        let case = format!("{task} {prediction:?} {last} {sent}");
        let id = format!("r{number}");
        let answered = Answered {
            task: task.into(),
            model: "m".into(),
            assignment: bench.rollout.pinned(1),
            prediction: Some(last.into()),
            propensity: None,
            first: Some(Box::new(first(prediction))),
        };
        bench.ledger.remember(&id, None, answered, 0);
        let mut body = sent;
        body["request_id"] = json!(id);
        let counted = bench.counted(&body).await.unwrap();
        assert_eq!((counted.counted, counted.correct), (true, Some(correct)), "{case}");
        let by = counted.answered_by.unwrap();
        let told = by.first.unwrap();
        assert_eq!((told.model.as_str(), told.model_version, told.correct), ("cheap", 3, taught), "{case}");
        assert_eq!((by.model.as_str(), by.learned.labels), ("m", 0), "{case}");
        labels += u64::from(taught.is_some());
        let believed = |task: &str| bench.learning.belief(task, "cheap", 3).map_or(0, |seen| seen.belief.labels());
        assert_eq!(believed("valve") + believed("leak"), labels, "{case}");
        let again = bench.counted(&body).await.unwrap();
        assert!(!again.counted, "also where it taught nothing: {case}");
    }
    assert!(bench.learning.belief("valve", "m", 1).is_none());
    let counts = &bench.rollout.view().versions[&1];
    assert_eq!((counts.labels, counts.correct), (7, 4), "evidence of the last answer's model");
}

#[tokio::test]
async fn a_label_that_cannot_be_right_is_a_fault_and_can_be_sent_again() {
    let bench = Bench::new();
    let pinned = bench.rollout.pinned(1);
    remember(&bench.ledger, "r", "valve", pinned.clone(), "73");
    let error = bench.counted(&json!({"request_id": "r", "label": "74"})).await.unwrap_err();
    assert!(error.faults[0].detail.contains("73, 100"), "{error:?}");
    assert!(bench.counted(&json!({"request_id": "r", "label": "100"})).await.unwrap().counted);

    remember(&bench.ledger, "p", "pump", pinned.clone(), "anomaly");
    assert!(bench.counted(&json!({"request_id": "p", "label": "73"})).await.is_err());
    let counted = bench.counted(&json!({"job_id": "p", "label": "normal"})).await.unwrap();
    assert_eq!(counted.correct, Some(false));

    remember(&bench.ledger, "g", "pump", pinned, "");
    let error = bench.counted(&json!({"request_id": "g", "label": "normal"})).await.unwrap_err();
    assert!(error.faults[0].detail.contains("`correct`"), "{error:?}");
    assert!(bench.counted(&json!({"request_id": "g", "correct": true})).await.unwrap().counted);
}

#[tokio::test]
async fn labels_take_a_bad_canary_out_of_traffic() {
    let bench = Bench::new();
    let mut last = None;
    for index in 0..2_000 {
        let id = format!("r{index}");
        let assignment = bench.rollout.assign(&id);
        let truth = if assignment.version == 2 { "100" } else { "73" };
        remember(&bench.ledger, &id, "valve", assignment, "73");
        let result = bench.counted(&json!({"request_id": id, "label": truth})).await.unwrap();
        last = result.answered_by.filter(|by| by.rolled_back);
        if last.is_some() {
            break;
        }
    }
    assert_eq!(last.map(|by| (by.arm, by.model_version)), Some(("canary".to_owned(), 2)));
    assert_eq!(bench.rollout.assign("any").version, 1);
}
