//! The same API on the embedded queue: one process, one file, no Redis.

use serde_json::json;

use super::{ENDLESS, delete, hand_in, path, post_with, rig, turns};
use crate::support::events::Events;
use crate::support::native::Native;
use crate::support::readings::{get, header, post, read, result_of};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_a_file_are_handed_in_watched_called_off_exported_and_given_up() {
    let (models, dir) = (rig(), tempfile::tempdir().unwrap());
    let file = dir.path().join("queue.sqlite");
    let settings = [
        ("MODEL_DIR", models.path().to_str().unwrap()),
        ("QUEUE_FILE", file.to_str().unwrap()),
        ("MODEL_MAX_RUN_MS", "200"),
        ("MAX_ATTEMPTS", "2"),
        ("RETRY_BASE_MS", "1"),
    ];
    let native = Native::start("", &settings).await;
    let key = [("idempotency-key", "k")];
    let (status, first) = read(post_with(&native.url("/data"), &turns(2.0), &key).await).await;
    let again = post_with(&native.url("/data"), &turns(2.0), &key).await;
    assert_eq!(header(&again, "idempotency-replayed").as_deref(), Some("true"));
    assert_eq!((status, read(again).await), (202, (202, first.clone())));
    let (status, problem) = read(post_with(&native.url("/data"), &turns(3.0), &key).await).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency-conflict")), "{problem}");
    let events = Events::watch(&native.url(&format!("{}/events", path(&first))), None).await.all().await;
    let ids: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!((ids, &events[2].data["state"]), (vec!["1", "2", "end"], &json!("done")), "{events:?}");

    let hanging = hand_in(&native, &turns(ENDLESS)).await;
    let behind = hand_in(&native, &turns(5.0)).await;
    let (status, told) = delete(&native.url(path(&behind))).await;
    // It may have been quicker.
    assert!(matches!((status, told["code"].as_str()), (200, None) | (409, Some("job-ended"))), "{told}");
    let watched = Events::watch(&native.url(&format!("{}/events", path(&hanging))), Some("2")).await.all().await;
    let ids: Vec<_> = watched.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["3", "4", "end"], "{watched:?}");
    let (_, dead) = get(&native.url("/v1/dead")).await;
    assert_eq!((&dead["count"], &dead["dead"][0]["job_id"]), (&json!(1), &hanging["job_id"]), "{dead}");
    let lines = reqwest::get(native.url("/results?format=ndjson")).await.unwrap().text().await.unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let lines = reqwest::get(native.url("/results?format=ndjson&outcome=dead")).await.unwrap().text().await.unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let (_, told) = read(post(&native.url("/v1/dead/requeue"), &json!({"all": true})).await).await;
    assert_eq!(told["requeued"], 1, "{told}");
    assert_eq!(result_of(&native.url(""), &hanging).await["outcome"], "dead");
    let (status, answer) =
        read(post_with(&native.url("/predict"), &turns(7.0), &[("idempotency-key", "p")]).await).await;
    assert_eq!(status, 200, "{answer}");
    let again = read(post_with(&native.url("/predict"), &turns(7.0), &[("idempotency-key", "p")]).await).await;
    assert_eq!(again, (200, answer));
}
