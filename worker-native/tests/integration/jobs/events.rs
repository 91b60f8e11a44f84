//! A job's events: live, resumed after every cut, and no more of them at once than may be.

use serde_json::json;

use super::{ENDLESS, api, delete, hand_in, path, reading, rig, turns};
use crate::support::events::{Event, Events, look};
use crate::support::native::Native;
use crate::support::readings::read;
use crate::support::redis::Redis;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_after_every_event_gives_each_once_and_in_order() {
    const TRIES: usize = 12;
    let (redis, models) = (Redis::start().await, rig());
    let tries = TRIES.to_string();
    // Every run is interrupted, so every try fails, until the last.
    let settings =
        [("MODEL_MAX_RUN_MS", "20"), ("MAX_ATTEMPTS", &tries), ("RETRY_BASE_MS", "1"), ("RETRY_MAX_MS", "1")];
    let native = models.serve(&redis, &settings).await;
    let receipt = hand_in(&native, &turns(ENDLESS)).await;
    let url = native.url(&format!("{}/events", path(&receipt)));
    let (mut seen, mut cuts): (Vec<Event>, usize) = (vec![], 0);
    loop {
        let last = seen.last().map(|event| event.id.clone());
        if last.as_deref() == Some("end") {
            break;
        }
        let mut events = Events::watch(&url, last.as_deref()).await;
        seen.push(events.next().await.expect("an event, since the job has not ended"));
        // The link is cut with whatever is still on its way.
        drop(events);
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts} cuts");
    let ids: Vec<_> = seen.iter().map(|event| event.id.clone()).collect();
    let wanted: Vec<_> = (1..=2 * TRIES).map(|id| id.to_string()).chain(["end".to_owned()]).collect();
    assert_eq!(ids, wanted);
    assert_eq!((seen[0].name.as_str(), seen[0].retry.as_deref()), ("accepted", Some("3000")));
    for (i, pair) in seen[1..].chunks(2).enumerate() {
        let names: Vec<_> = pair.iter().map(|event| event.name.as_str()).collect();
        let next = if i + 1 == TRIES { "result" } else { "retrying" };
        assert_eq!(names, ["started", next]);
        assert_eq!(pair[0].data, json!({"attempt": i + 1}));
    }
    let result = &seen.last().unwrap().data;
    assert_eq!((&result["state"], &result["result"]["outcome"]), (&json!("dead"), &json!("dead")), "{result}");
    assert_eq!(result["job_id"], receipt["job_id"]);
    assert_eq!(look(&url, Some("end")).await.status(), 204);
    // Who asks afterwards, with nothing seen, is told all of it, the errors too.
    let all = Events::watch(&url, None).await.all().await;
    assert_eq!(all.iter().map(|event| &event.id).collect::<Vec<_>>(), wanted.iter().collect::<Vec<_>>());
    assert!(
        all.iter().filter(|event| event.name == "retrying").all(|event| event.data["error"].is_string()),
        "{all:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_happen_also_from_another_process() {
    let redis = Redis::start().await;
    let native = api(&redis, &[]).await;
    let receipt = hand_in(&native, &reading()).await;
    let url = native.url(&format!("{}/events", path(&receipt)));
    let mut events = Events::watch(&url, None).await;
    let accepted = events.next().await.unwrap();
    assert_eq!((accepted.name.as_str(), &accepted.data["job_id"]), ("accepted", &receipt["job_id"]));
    // Nothing more can have happened: only now there is somebody to run it.
    let _worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    let rest = events.all().await;
    let names: Vec<_> = rest.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["started", "result"]);
    assert_eq!(rest[1].data["result"]["prediction"], "normal", "{rest:?}");

    for (id, status) in [("first", 400), ("end", 204), ("1", 200)] {
        assert_eq!(look(&url, Some(id)).await.status(), status, "{id}");
    }
    assert_eq!(look(&native.url("/v1/jobs/pump-anomaly.nope/events"), None).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_off_is_seen_and_places_are_counted() {
    let redis = Redis::start().await;
    let native = api(&redis, &[("WATCH_MAX_ACTIVE", "1")]).await;
    let receipt = hand_in(&native, &reading()).await;
    let url = native.url(&format!("{}/events", path(&receipt)));
    let mut events = Events::watch(&url, None).await;
    assert_eq!(events.next().await.unwrap().id, "1");
    let response = look(&url, None).await;
    assert!(response.headers().contains_key("retry-after"));
    let (status, problem) = read(response).await;
    assert_eq!((status, &problem["code"]), (503, &json!("overloaded")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("WATCH_MAX_ACTIVE"), "{problem}");
    assert_eq!(delete(&native.url(path(&receipt))).await.0, 200);
    let last = events.next().await.unwrap();
    assert_eq!((last.id.as_str(), &last.data["state"]), ("end", &json!("cancelled")));
    assert_eq!(events.next().await, None, "the stream ends with the result");
    until("the free place", || async { (look(&url, None).await.status() == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_shuts_down_lets_its_watchers_go() {
    let redis = Redis::start().await;
    let (native, other) = (api(&redis, &[("DRAIN_DELAY_MS", "0")]).await, api(&redis, &[]).await);
    let receipt = hand_in(&native, &reading()).await;
    let events = format!("{}/events", path(&receipt));
    let mut watching = Events::watch(&native.url(&events), None).await;
    assert_eq!(watching.next().await.unwrap().id, "1");
    let (end, (status, last)) = tokio::join!(watching.next(), native.terminate());
    assert_eq!(end, None, "ended, not cut");
    assert!(status.success() && last.contains("\"stopped\""), "{status}: {last}");
    let mut goes_on = Events::watch(&other.url(&events), Some("1")).await;
    assert_eq!(delete(&other.url(path(&receipt))).await.0, 200);
    assert_eq!(goes_on.next().await.unwrap().id, "end");
}
