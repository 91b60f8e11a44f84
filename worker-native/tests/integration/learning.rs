//! Labels teach accuracy, at any process and after a restart; the picture of it at `/v1/accuracy`.

use serde_json::{Value, json};

use crate::support::native::Native;
use crate::support::readings::{anomalous, body, get, normal, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

/// Sends a label until it is known whose answer it is of: what was given is written behind the answer.
async fn label(native: &Native, label: &Value) -> Value {
    until("an answer to be known", || async {
        let (status, counted) = read(post(&native.url("/feedback"), label).await).await;
        assert!(status == 200 || status == 404, "{counted}");
        (status == 200).then_some(counted)
    })
    .await
}

/// What is believed of the model that answered.
async fn believed(native: &Native, answer: &Value) -> Value {
    let (status, all) = get(&native.url("/v1/accuracy")).await;
    assert_eq!(status, 200, "{all}");
    let model = answer.get("model_used").unwrap_or(&answer["model"]);
    let tasks = all["tasks"].as_array().unwrap();
    let models = tasks.iter().flat_map(|task| task["models"].as_array().unwrap());
    let found = models.into_iter().find(|one| one["model"] == *model).unwrap();
    found["versions"][0].clone()
}

async fn predict(native: &Native, reading: &Value) -> Value {
    let (status, answer) = read(post(&native.url("/predict"), &body(reading)).await).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn a_label_finds_its_answer_at_another_process_and_counts_once() {
    let redis = Redis::start().await;
    let (here, there) = (Native::start(&redis.url(), &[]).await, Native::start(&redis.url(), &[]).await);
    let answer = predict(&here, &normal()).await;
    let before = believed(&there, &answer).await;
    assert_eq!((&before["labels"], &before["source"]), (&json!(0), &json!("training")), "{before}");
    let sent = json!({"request_id": answer["request_id"], "label": "anomaly"});
    let counted = label(&there, &sent).await;
    assert_eq!((&counted["counted"], &counted["correct"]), (&json!(true), &json!(false)), "{counted}");
    // Twenty labels' worth of the training report, and one that was wrong.
    let mean = before["prior"]["accuracy"].as_f64().unwrap() * 20.0 / 21.0;
    assert!((counted["accuracy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-3, "{counted}");
    for native in [&here, &there] {
        let (status, again) = read(post(&native.url("/feedback"), &sent).await).await;
        assert_eq!((status, &again["counted"]), (200, &json!(false)), "{again}");
        let after = until("the other process to hear of it", || async {
            let after = believed(native, &answer).await;
            (after["source"] == "labels").then_some(after)
        })
        .await;
        assert_eq!(after["labels"], 1);
        assert!((after["accuracy"].as_f64().unwrap() - mean).abs() < 1e-3, "{after}");
        until("routing to go by it", || async {
            let (_, snapshot) = get(&native.url("/v1/snapshot")).await;
            let tasks = snapshot["tasks"].as_array().unwrap();
            let mut tiers = tasks.iter().flat_map(|task| task["tiers"].as_array().unwrap());
            let known = |tier: &Value| (tier["accuracy"].as_f64().unwrap_or_default() - mean).abs() < 1e-3;
            tiers.any(known).then_some(())
        })
        .await;
    }
    // A statement goes before labels.
    let statement = json!({"task": "pump-anomaly", "model": answer["model_used"], "accuracy": 0.25});
    assert_eq!(post(&here.url("/feedback"), &statement).await.status(), 200);
    let pinned = believed(&here, &answer).await;
    assert_eq!(
        (&pinned["source"], &pinned["accuracy"], &pinned["labels"]),
        (&json!("pinned"), &json!(0.25), &json!(1))
    );
}

#[tokio::test]
async fn labels_of_calls_and_jobs_outlive_a_killed_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite");
    let settings = [("QUEUE_FILE", file.to_str().unwrap())];
    let mut native = Native::start("", &settings).await;
    let (status, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
    assert_eq!(status, 202, "{receipt}");
    let job = result_of(&native.url(""), &receipt).await;
    let (first, second) = (predict(&native, &normal()).await, predict(&native, &anomalous()).await);
    label(&native, &json!({"request_id": first["request_id"], "correct": true})).await;
    // Once the file has the last answer it has those before it as well.
    let count = "SELECT count(*) FROM answered WHERE id = ?1";
    let id = second["request_id"].as_str().unwrap();
    until("the answers to be written", || async {
        let file = rusqlite::Connection::open(&file).unwrap();
        (file.query_row(count, [id], |row| row.get::<_, i64>(0)).unwrap() == 1).then_some(())
    })
    .await;
    native.process.kill();
    drop(native);

    let native = Native::start("", &settings).await;
    let again = label(&native, &json!({"request_id": second["request_id"], "label": "anomaly"})).await;
    assert_eq!((&again["counted"], &again["correct"]), (&json!(true), &json!(true)), "{again}");
    let by_job = label(&native, &json!({"job_id": receipt["job_id"], "label": "anomaly"})).await;
    let right = job["prediction"] == "anomaly";
    assert_eq!((&by_job["counted"], &by_job["correct"]), (&json!(true), &json!(right)), "{by_job}");
    // The same job by its other name.
    let by_request = label(&native, &json!({"request_id": receipt["request_id"], "correct": true})).await;
    assert_eq!(by_request["counted"], false, "{by_request}");
    let labels = believed(&native, &first).await["labels"].clone();
    assert_eq!(labels, 3, "all three are answers of one model");
    let (status, unknown) =
        read(post(&native.url("/feedback"), &json!({"request_id": "nobody", "correct": true})).await).await;
    assert_eq!((status, &unknown["code"]), (404, &json!("not-found")), "{unknown}");
}

#[tokio::test]
async fn readings_are_compared_with_the_training_data() {
    let folder = tempfile::tempdir().unwrap();
    let native = Native::start("", &[("QUEUE_FILE", folder.path().join("q.sqlite").to_str().unwrap())]).await;
    let inputs = until("enough readings", || async {
        let (_, all) = get(&native.url("/v1/accuracy")).await;
        let tasks = all["tasks"].as_array().unwrap();
        let task = tasks.iter().find(|task| task["task"] == "pump-anomaly").unwrap();
        let inputs = task["inputs"].clone();
        if inputs[0]["psi"].is_number() {
            return Some(inputs);
        }
        for _ in 0..20 {
            predict(&native, &anomalous()).await;
        }
        None
    })
    .await;
    let of = |name: &str| inputs.as_array().unwrap().iter().find(|field| field["field"] == name).unwrap();
    let vibration = of("vibration");
    assert_eq!((&vibration["reference"], &vibration["drifted"]), (&json!("training"), &json!(true)), "{inputs}");
    assert!(vibration["mean_shift"].as_f64().unwrap() > 5.0, "{inputs}");
}

#[tokio::test]
async fn two_tiers_on_one_reading_bound_how_far_their_accuracies_are_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("q.sqlite");
    let settings = [("QUEUE_FILE", file.to_str().unwrap()), ("PAIR_SHARE", "1"), ("CACHE_BACKEND", "off")];
    let native = Native::start("", &settings).await;
    let pair = until("ten pairs", || async {
        predict(&native, &normal()).await;
        let (_, all) = get(&native.url("/v1/accuracy")).await;
        let tasks = all["tasks"].as_array().unwrap();
        let pair = tasks.iter().find(|task| task["task"] == "pump-anomaly").unwrap()["pairs"][0].clone();
        (pair["compared"].as_u64() >= Some(10)).then_some(pair)
    })
    .await;
    // A reading that is plainly normal is so to both.
    assert_eq!(pair["disagreed"], 0, "{pair}");
    let bound = pair["bound"].as_f64().unwrap();
    assert!((0.0..0.35).contains(&bound), "{pair}");
}
