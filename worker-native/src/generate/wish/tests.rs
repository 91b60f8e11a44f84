use serde_json::{Value, json};
use shared::reading::json;

use super::*;

fn letters() -> Generation {
    let alphabet = vec!['\0', 'a', 'b'];
    Generation { alphabet, window: 4, max_new_tokens: 1024, default_new_tokens: 128, lowercase: true }
}

fn temperatures() -> Forecast {
    Forecast {
        window: 4,
        min_history: 2,
        max_steps: 500,
        default_steps: 24,
        unit: "degF".to_owned(),
        min: Some(-60.0),
        max: Some(300.0),
        interval_seconds: None,
    }
}

fn text_of(body: &Value) -> Result<Wish, Rejection> {
    let body = body.to_string();
    text("char-lm", &letters(), &json::body(body.as_bytes()).unwrap())
}

fn series_of(body: &str) -> Result<Wish, Rejection> {
    series("temperature", &temperatures(), &json::body(body.as_bytes()).unwrap())
}

/// Pointers and codes of all faults.
fn faults(refused: Result<Wish, Rejection>) -> Vec<(String, &'static str)> {
    refused.unwrap_err().faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
}

#[test]
fn a_prompt_alone_is_enough() {
    let wish = text_of(&json!({"prompt": "the "})).unwrap();
    let what = TextWish {
        prompt: "the ".to_owned(),
        max_new_tokens: 128,
        temperature: DEFAULT_TEMPERATURE,
        seed: None,
        stop: vec![],
    };
    assert_eq!(wish.what, What::Text(what));
    assert_eq!((wish.deadline_ms, wish.strict, wish.model_version), (None, false, None));
    assert!(text_of(&json!({"input": ""})).is_ok(), "an empty prompt is one");
    assert!(text_of(&json!({"text": "nul \u{0}, strange \u{1f600}"})).is_ok());
}

#[test]
fn everything_can_be_asked_for() {
    let wish = text_of(&json!({
        "task": "char-lm", "model": "fast", "input": "a", "sensor_id": "s-1", "deadline_ms": 500, "model_version": "v2",
        "strict": true,
        "params": {"max_new_tokens": 1024, "temperature": 0, "seed": MAX_SEED, "stop": ["End", "\n"]},
    }))
    .unwrap();
    let What::Text(text) = &wish.what else { panic!("{wish:?}") };
    assert_eq!((text.max_new_tokens, text.temperature, text.seed), (1024, 0.0, Some(MAX_SEED)));
    assert_eq!(text.stop, ["end", "\n"], "the model writes small letters only");
    assert_eq!((wish.deadline_ms, wish.strict, wish.model_version), (Some(500), true, Some(2)));
    let one = text_of(&json!({"prompt": "a", "params": {"stop": "."}})).unwrap();
    assert!(matches!(one.what, What::Text(TextWish { stop, .. }) if stop == ["."]));
}

#[test]
fn every_fault_of_a_text_is_told_with_its_field() {
    let refused = text_of(&json!({
        "prompt": "a", "text": "b", "colour": 1, "deadline_ms": 0, "sensor_id": "a b",
        "params": {"max_new_tokens": 1025, "temperature": -0.5, "seed": 1.5, "stop": ["", 3], "steps": 3},
    }));
    let told = [
        ("#/colour", "unexpected"),
        ("#/text", "conflict"),
        ("#/params/steps", "unexpected"),
        ("#/params/max_new_tokens", "out_of_range"),
        ("#/params/temperature", "out_of_range"),
        ("#/params/seed", "wrong_type"),
        ("#/params/stop/0", "wrong_length"),
        ("#/params/stop/1", "wrong_type"),
        ("#/sensor_id", "wrong_type"),
        ("#/deadline_ms", "out_of_range"),
    ];
    assert_eq!(faults(refused), told.map(|(pointer, code)| (pointer.to_owned(), code)));
}

#[test]
fn wrong_types_and_lengths_of_a_text() {
    let one = |body: Value| faults(text_of(&body)).into_iter().next().unwrap();
    assert_eq!(one(json!({})), ("#/prompt".to_owned(), "missing"));
    assert_eq!(one(json!({"prompt": null})), ("#/prompt".to_owned(), "missing"));
    assert_eq!(one(json!({"prompt": 3})), ("#/prompt".to_owned(), "wrong_type"));
    assert_eq!(one(json!({"input": ["a"]})), ("#/input".to_owned(), "wrong_type"));
    assert_eq!(one(json!({"prompt": "", "params": 3})), ("#/params".to_owned(), "wrong_type"));
    let stop = |stop: Value| one(json!({"prompt": "", "params": {"stop": stop}}));
    assert_eq!(stop(json!("")), ("#/params/stop".to_owned(), "wrong_length"));
    assert_eq!(stop(json!("x".repeat(65))), ("#/params/stop".to_owned(), "wrong_length"));
    assert_eq!(stop(json!(["a", "b", "c", "d", "e"])), ("#/params/stop".to_owned(), "wrong_length"));
    let too_many = format!("{{\"prompt\":\"\",\"params\":{{\"seed\":{}}}}}", MAX_SEED + 1);
    let refused = text("char-lm", &letters(), &json::body(too_many.as_bytes()).unwrap());
    assert_eq!(faults(refused), [("#/params/seed".to_owned(), "out_of_range")]);
    let twice = r#"{"prompt":"a","prompt":"b","params":{"seed":1,"seed":2}}"#;
    let refused = text("char-lm", &letters(), &json::body(twice.as_bytes()).unwrap());
    let told = [("#/prompt".to_owned(), "duplicate"), ("#/params/seed".to_owned(), "duplicate")];
    assert_eq!(faults(refused), told);
}

#[test]
fn a_series_needs_its_history() {
    let wish = series_of(r#"{"input":[70, 71.5, 7.2e1],"params":{"steps":500}}"#).unwrap();
    assert_eq!(wish.what, What::Series(SeriesWish { history: vec![70.0, 71.5, 72.0], steps: 500 }));
    let wish = series_of(r#"{"features":[70,71]}"#).unwrap();
    assert!(matches!(wish.what, What::Series(SeriesWish { steps: 24, .. })));
}

#[test]
fn every_fault_of_a_series_is_told_with_its_field() {
    let refused = series_of(r#"{"input":[70,"hot",null,301,-61,1e999],"prompt":"a","params":{"steps":0,"seed":1}}"#);
    let told = [
        ("#/prompt", "unexpected"),
        ("#/input/1", "wrong_type"),
        ("#/input/2", "wrong_type"),
        ("#/input/3", "out_of_range"),
        ("#/input/4", "out_of_range"),
        ("#/input/5", "out_of_range"),
        ("#/params/seed", "unexpected"),
        ("#/params/steps", "out_of_range"),
    ];
    assert_eq!(faults(refused), told.map(|(pointer, code)| (pointer.to_owned(), code)));
    assert_eq!(faults(series_of(r#"{"input":[70]}"#)), [("#/input".to_owned(), "wrong_length")]);
    assert_eq!(faults(series_of(r#"{"input":70}"#)), [("#/input".to_owned(), "wrong_type")]);
    assert_eq!(faults(series_of("{}")), [("#/input".to_owned(), "missing")]);
    let long = format!("{{\"input\":[{}]}}", vec!["70"; MAX_HISTORY + 1].join(","));
    assert_eq!(faults(series_of(&long)), [("#/input".to_owned(), "wrong_length")]);
}

#[test]
fn a_thousand_faults_are_not_a_thousand_lines() {
    let hot = format!("{{\"input\":[{}]}}", vec!["999"; 1_000].join(","));
    let refused = series_of(&hot).unwrap_err();
    assert_eq!(refused.faults.len(), MAX_FAULTS);
    assert!(refused.detail.contains("the first 64 listed"), "{}", refused.detail);
}
