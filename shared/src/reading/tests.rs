use proptest::prelude::*;

use super::*;
use crate::catalog::CatalogModel;
use crate::schema::samples;

fn catalog() -> Catalog {
    let model = |name: &str, tier: &str| CatalogModel {
        name: name.to_owned(),
        description: String::new(),
        tier: Some(tier.to_owned()),
        default_version: 1,
        versions: vec![1],
    };
    let task = |schema| CatalogTask { schema, models: vec![model("cheap", "fast"), model("dear", "accurate")] };
    Catalog {
        etag: "e".to_owned(),
        default_task: Some("pump".to_owned()),
        tasks: vec![task(samples::cycle()), task(samples::pump())],
    }
}

fn reject(body: &str) -> Rejection {
    parse(body.as_bytes(), &catalog()).expect_err(body)
}

fn fault_at(body: &str) -> Vec<(String, &'static str)> {
    reject(body).faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
}

#[test]
fn the_named_form_fills_the_vector_in_schema_order() {
    let catalog = catalog();
    let body = br#"{"sensor_data":{"pressure":6.5,"temperature":45.25},"model_name":"dear","deadline_ms":50}"#;
    let request = parse(body, &catalog).unwrap();
    assert_eq!(request.task.schema.name, "pump");
    assert_eq!(request.features, [45.25, 6.5, 0.0]);
    assert_eq!(request.model_name.as_deref(), Some("dear"));
    assert_eq!(request.deadline_ms, Some(50));
}

#[test]
fn the_plain_form_goes_to_the_task_of_its_length() {
    let catalog = catalog();
    let request = parse(br#"{"sensor_id":"s1","timestamp":1.5,"features":[1,2,3,4,5,6]}"#, &catalog).unwrap();
    assert_eq!(request.task.schema.name, "cycle");
    assert_eq!((request.sensor_id.as_deref(), request.timestamp), (Some("s1"), Some(1.5)));
    let arrays = parse(br#"{"sensor_data":{"PS1":[1,2,3],"FS1":[4,5,6]}}"#, &catalog).unwrap();
    assert_eq!(arrays.features, request.features);
}

#[test]
fn every_fault_is_told_at_once_with_its_field() {
    let body = r#"{"task":"pump","sensor_id":"a b","deadline_ms":-1,"colour":1,
        "sensor_data":{"temperature":"hot","operational_state":"asleep","humidity":3}}"#;
    assert_eq!(
        fault_at(body),
        [
            ("#/colour".to_owned(), "unexpected"),
            ("#/sensor_id".to_owned(), "wrong_type"),
            ("#/deadline_ms".to_owned(), "wrong_type"),
            ("#/sensor_data/humidity".to_owned(), "unexpected"),
            ("#/sensor_data/temperature".to_owned(), "wrong_type"),
            ("#/sensor_data/pressure".to_owned(), "missing"),
            ("#/sensor_data/operational_state".to_owned(), "not_a_value"),
        ]
    );
}

#[test]
fn numbers_no_float_can_hold_point_to_their_field() {
    assert_eq!(
        fault_at(r#"{"task":"cycle","features":[1,2,1e999,4,5,6]}"#),
        [("#/features/2".to_owned(), "not_finite")]
    );
    assert_eq!(
        fault_at(r#"{"task":"cycle","features":[1,2,251,4,5,-1.5]}"#),
        [("#/features/2".to_owned(), "out_of_range"), ("#/features/5".to_owned(), "out_of_range")]
    );
    assert_eq!(reject(r#"{"features":[NaN]}"#).code, ErrorCode::InvalidJson);
}

#[test]
fn names_given_twice_are_faults() {
    let body = r#"{"sensor_data":{"temperature":1,"temperature":2,"pressure":1},"sensor_id":"a","sensor_id":"b"}"#;
    assert_eq!(
        fault_at(body),
        [("#/sensor_id".to_owned(), "duplicate"), ("#/sensor_data/temperature".to_owned(), "duplicate")]
    );
}

#[test]
fn lengths_and_forms_are_checked() {
    assert_eq!(fault_at(r#"{"task":"cycle","features":[1,2]}"#), [("#/features".to_owned(), "wrong_length")]);
    assert_eq!(fault_at(r#"{"features":[1],"sensor_data":{}}"#), [("#/features".to_owned(), "conflict")]);
    assert_eq!(fault_at(r#"{"sensor_id":"a"}"#), [("#/sensor_data".to_owned(), "missing")]);
    assert_eq!(fault_at(r#"{"sensor_data":null}"#), [("#/sensor_data".to_owned(), "missing")]);
    assert!(parse(br#"{"features":[1,2,3,4,5,6],"sensor_data":null}"#, &catalog()).is_ok());
    assert_eq!(
        fault_at(r#"{"task":"cycle","sensor_data":{"PS1":[1,2],"FS1":[1,true,3]}}"#),
        [("#/sensor_data/PS1".to_owned(), "wrong_length"), ("#/sensor_data/FS1/1".to_owned(), "wrong_type")]
    );
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let task = reject(r#"{"task":"nope","features":[1]}"#);
    assert_eq!(task.code, ErrorCode::UnknownTask);
    assert!(task.detail.contains("cycle, pump"), "{}", task.detail);
    let model = reject(r#"{"task":"cycle","features":[1,2,3,4,5,6],"model_name":"nope"}"#);
    assert_eq!(model.code, ErrorCode::UnknownModel);
    assert!(model.detail.contains("dear (accurate)"), "{}", model.detail);
    assert_eq!(reject(r#"{"features":[1,2,3,4,5,6],"model_name":"nope"}"#).code, ErrorCode::UnknownModel);
}

#[test]
fn a_reading_that_fits_no_task_is_told_what_is_wrong_with_it() {
    let mut catalog = catalog();
    catalog.default_task = None;
    let reject = |body: &str| parse(body.as_bytes(), &catalog).unwrap_err();
    let near = reject(r#"{"sensor_data":{"temperature":"hot","presure":1}}"#);
    let pointers: Vec<&str> = near.faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(pointers, ["#/sensor_data/presure", "#/sensor_data/temperature", "#/sensor_data/pressure"]);
    let length = reject(r#"{"features":[1,2]}"#);
    assert_eq!(length.faults[0].pointer, "#/features");
    assert!(length.faults[0].detail.contains("cycle takes 6 numbers, pump takes 3 numbers"), "{length:?}");
    assert_eq!(reject(r#"{"sensor_data":{"x":1}}"#).code, ErrorCode::InvalidReading);
}

#[test]
fn bytes_that_are_no_text_are_no_json() {
    let rejection = parse(b"{\"sensor_id\":\"\xff\"}", &catalog()).unwrap_err();
    assert_eq!(rejection.code, ErrorCode::InvalidJson);
    assert!(rejection.detail.contains("not UTF-8"), "{}", rejection.detail);
    assert_eq!(check_json(b"\xff").unwrap_err().code, ErrorCode::InvalidJson);
}

#[test]
fn a_flood_of_faults_is_cut_and_counted() {
    let names: Vec<String> = (0..200).map(|i| format!("\"x{i}\":1")).collect();
    let rejection = reject(&format!("{{\"task\":\"pump\",\"sensor_data\":{{{}}}}}", names.join(",")));
    assert_eq!(rejection.faults.len(), MAX_FAULTS);
    assert!(rejection.detail.contains("202 faults"), "{}", rejection.detail);
}

#[test]
fn pointers_escape_what_a_uri_fragment_cannot_hold() {
    assert_eq!(json::pointer(&["a/b", "c~d", "e f", "é"]), "#/a~1b/c~0d/e%20f/%C3%A9");
}

proptest! {
    #[test]
    fn no_bytes_can_break_the_parser(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(parse(&body, &catalog()));
    }

    #[test]
    fn no_json_shape_can_break_the_parser(body in "\\{(\"(task|features|sensor_data|sensor_id|x)\":(\\[|\\]|\\{|\\}|1e9{1,4}|-|null|\"pump\"|,){0,6},?){0,6}\\}?") {
        drop(parse(body.as_bytes(), &catalog()));
    }

    #[test]
    fn what_is_accepted_is_finite_and_in_range(values in proptest::collection::vec(-400.0f64..400.0, 6)) {
        let catalog = catalog();
        let body = serde_json::json!({"task": "cycle", "features": values}).to_string();
        let in_range = values[..3].iter().all(|v| (0.0..=250.0).contains(v)) && values[3..].iter().all(|v| (-1.0..=50.0).contains(v));
        let parsed = parse(body.as_bytes(), &catalog);
        prop_assert_eq!(parsed.is_ok(), in_range);
        if let Ok(request) = parsed {
            prop_assert!(request.features.iter().all(|f| f.is_finite()));
            prop_assert_eq!(request.features.len(), 6);
        }
    }
}
