//! A text task at both doors: what is a text, many at once, as a job, and by version.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::edge::Edge;
use crate::support::models::{Caller, Models};
use crate::support::native::Native;
use crate::support::readings::result_of;
use crate::support::redis::Redis;

async fn start(settings: &[(&str, &str)]) -> (Redis, Models, Native, Edge, [Caller; 2]) {
    let (redis, models) = (Redis::start().await, Models::of(&["sentiment"]));
    let settings: Vec<_> = [("PREDICT_TIMEOUT_MS", "20000")].into_iter().chain(settings.iter().copied()).collect();
    let native = models.serve(&redis, &settings).await;
    let edge = Edge::start(native.port, &[]);
    let doors = [Caller::new(native.url("")), Caller::new(edge.url(""))];
    (redis, models, native, edge, doors)
}

fn body(text: &str) -> Value {
    json!({"task": "sentiment", "text": text, "sensor_id": "review-1"})
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_answered_or_refused_in_the_same_words_at_both_doors() {
    let (_redis, _models, _native, _edge, doors) = start(&[]).await;
    // A cold edge asks its origin; the second round is its own.
    for round in 0..2 {
        for door in &doors {
            for (text, prediction) in [("I love this system", "positive"), ("does not work", "negative")] {
                let (status, told) = door.post("/predict", &body(text)).await;
                assert_eq!((status, &told["prediction"]), (200, &json!(prediction)), "{round} {told}");
                assert_eq!(told["is_anomaly"], prediction == "negative");
            }
            for text in ["Größe passt, ☕ läuft", "日本語のテキスト", "\u{202e}\u{1F600}\t\n", &"é".repeat(5_000)]
            {
                let (status, told) = door.post("/predict", &body(text)).await;
                assert_eq!(status, 200, "{told}");
                let shares = told["probabilities"].as_object().unwrap();
                let sum: f64 = shares.values().map(|share| share.as_f64().unwrap()).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{told}");
            }
            for text in ["a\0b", "", &"x".repeat(10_001), &"é".repeat(5_001)] {
                let (status, problem) = door.post("/predict", &body(text)).await;
                let shown: String = text.chars().take(9).collect();
                assert_eq!((status, &problem["code"]), (422, &json!("invalid-reading")), "{shown:?} {problem}");
                assert_eq!(problem["errors"][0]["pointer"], "#/text", "{shown:?}");
            }
            let (status, problem) = door.post("/predict", &json!({"task": "sentiment", "text": 5})).await;
            assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/text")), "{problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_texts_at_once_are_answered_as_alone() {
    let (_redis, _models, _native, _edge, [native, _]) = start(&[("CACHE_BACKEND", "off")]).await;
    let texts: Vec<String> = (0..200)
        .map(|i| format!("it {} after {i} days{}", ["works", "broke", "is slow"][i % 3], " and".repeat(i % 7)))
        .collect();
    let ask = async |text: &String| {
        let body = json!({"task": "sentiment", "text": text, "model_name": "word_letter_logreg"});
        let (status, told) = native.post("/predict", &body).await;
        assert_eq!(status, 200, "{told}");
        told["probabilities"]["positive"].as_f64().unwrap()
    };
    let together = join_all(texts.iter().map(ask)).await;
    for (text, together) in texts.iter().zip(&together).step_by(9) {
        let alone = ask(text).await;
        assert!((alone - together).abs() < 1e-5, "{text}: {alone} and {together}");
    }
    let pool = native.pool("word_letter_logreg", 1).await;
    assert_eq!(pool["requests"], 200 + 200_u64.div_ceil(9), "{pool}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_a_job_too_and_each_version_has_its_opinion() {
    let (_redis, _models, native, _edge, [direct, edge]) = start(&[]).await;
    let (status, receipt) = edge.post("/data", &body("easy to use")).await;
    assert_eq!(status, 202, "{receipt}");
    let result = result_of(&native.url(""), &receipt).await;
    assert_eq!((&result["outcome"], &result["prediction"]), (&json!("done"), &json!("positive")), "{result}");
    let (_, results) = edge.get("/results?task=sentiment&sensor_id=review-1").await;
    assert_eq!((&results["count"], &results["results"][0]), (&json!(1), &result));
    let (status, problem) = edge.post("/data", &body("a\0b")).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/text")), "{problem}");

    let version = async |version: u32| {
        let text = "good sound but poor battery";
        let body = json!({"task": "sentiment", "text": text, "model_name": "tfidf_logreg", "model_version": version});
        direct.post("/predict", &body).await.1["prediction"].clone()
    };
    assert_eq!((version(1).await, version(2).await), (json!("positive"), json!("negative")));
}
