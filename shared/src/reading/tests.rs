use proptest::prelude::*;

use super::*;
use crate::catalog::CatalogModel;
use crate::schema::samples;

fn catalog() -> Catalog {
    let model = |name: &str, tier: &str| CatalogModel {
        name: name.to_owned(),
        description: String::new(),
        tier: Some(tier.to_owned()),
        model_type: (name == "cheap").then_some(ModelType::Sklearn),
        default_version: 1,
        versions: vec![1],
    };
    let task = |schema| CatalogTask { schema, models: vec![model("cheap", "fast"), model("dear", "accurate")] };
    Catalog {
        etag: "e".to_owned(),
        default_task: Some("pump".to_owned()),
        tasks: vec![task(samples::cycle()), task(samples::pump()), task(samples::sentiment())],
    }
}

fn features(request: &Request<'_>) -> Vec<f32> {
    match &request.input {
        Input::Features(features) => features.clone(),
        Input::Text(text) => panic!("a text: {text}"),
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
    assert_eq!(features(&request), [45.25, 6.5, 0.0]);
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
    assert_eq!(arrays.input, request.input);
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
    assert!(task.detail.contains("cycle, pump, sentiment"), "{}", task.detail);
    let model = reject(r#"{"task":"cycle","features":[1,2,3,4,5,6],"model_name":"nope"}"#);
    assert_eq!(model.code, ErrorCode::UnknownModel);
    assert!(model.detail.contains("cheap (fast, sklearn), dear (accurate)"), "{}", model.detail);
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
fn a_text_is_taken_in_both_forms_and_finds_its_task() {
    let catalog = catalog();
    for body in [
        r#"{"task":"sentiment","text":"I \u2665 \"this\""}"#,
        r#"{"text":"I ♥ \"this\"","sensor_id":"s","features":null}"#,
        r#"{"sensor_data":{"text":"I ♥ \"this\""}}"#,
    ] {
        let request = parse(body.as_bytes(), &catalog).unwrap_or_else(|fault| panic!("{body}: {fault:?}"));
        assert_eq!(request.task.schema.name, "sentiment");
        assert_eq!(request.input, Input::Text("I ♥ \"this\"".to_owned()));
    }
}

#[test]
fn a_text_is_measured_in_bytes_and_has_no_nul() {
    let of = |text: &str| serde_json::json!({"task": "sentiment", "text": text}).to_string();
    assert!(parse(of(&"é".repeat(10)).as_bytes(), &catalog()).is_ok());
    assert_eq!(fault_at(&of("")), [("#/text".to_owned(), "wrong_length")]);
    assert_eq!(fault_at(&of(&"é".repeat(11))), [("#/text".to_owned(), "wrong_length")]);
    assert!(reject(&of(&"é".repeat(11))).faults[0].detail.contains("22 bytes"), "{:?}", reject(&of("")).faults);
    assert_eq!(fault_at(&of("a\0b")), [("#/text".to_owned(), "not_a_value")]);
    assert_eq!(fault_at(r#"{"task":"sentiment","text":7}"#), [("#/text".to_owned(), "wrong_type")]);
    // Half of a surrogate pair is JSON and no text.
    assert_eq!(fault_at(r#"{"task":"sentiment","text":"\ud800"}"#), [("#/text".to_owned(), "wrong_type")]);
    assert_eq!(fault_at(r#"{"sensor_data":{"text":["a"]}}"#), [("#/sensor_data/text".to_owned(), "wrong_type")]);
    assert_eq!(fault_at(r#"{"task":"sentiment","sensor_data":{}}"#), [("#/sensor_data/text".to_owned(), "missing")]);
}

#[test]
fn text_and_numbers_do_not_take_each_others_place() {
    assert_eq!(fault_at(r#"{"task":"pump","text":"hello"}"#), [("#/text".to_owned(), "unexpected")]);
    assert_eq!(fault_at(r#"{"task":"sentiment","features":[]}"#), [("#/features".to_owned(), "unexpected")]);
    assert_eq!(fault_at(r#"{"text":"a","features":[1]}"#), [("#/text".to_owned(), "conflict")]);
    assert_eq!(fault_at(r#"{"text":"a","sensor_data":{}}"#), [("#/text".to_owned(), "conflict")]);
    // Width 0 is no invitation for an empty array.
    let mut catalog = catalog();
    catalog.default_task = None;
    let empty = parse(br#"{"features":[]}"#, &catalog).unwrap_err();
    assert!(empty.faults[0].detail.contains("pump takes 3 numbers, sentiment takes a text"), "{empty:?}");
    catalog.tasks.pop();
    let lost = parse(br#"{"text":"a"}"#, &catalog).unwrap_err();
    assert_eq!((lost.faults[0].pointer.as_str(), lost.faults[0].code), ("#/text", "unexpected"));
}

#[test]
fn a_model_type_is_checked_against_what_there_is() {
    let catalog = catalog();
    let body = |rest: &str| format!(r#"{{"task":"sentiment","text":"a"{rest}}}"#);
    let typed = body(r#","model_type":"sklearn""#);
    assert_eq!(parse(typed.as_bytes(), &catalog).unwrap().model_type, Some(ModelType::Sklearn));
    assert!(parse(body(r#","model_type":"sklearn","model_name":"fast""#).as_bytes(), &catalog).is_ok());
    let other = reject(&body(r#","model_type":"onnx""#));
    assert_eq!(other.code, ErrorCode::UnknownModel);
    assert!(other.detail.contains("no model of type `onnx`; it has: cheap (fast, sklearn)"), "{}", other.detail);
    let wrong = reject(&body(r#","model_type":"sklearn","model_name":"dear""#));
    assert_eq!(wrong.code, ErrorCode::UnknownModel);
    assert!(wrong.detail.contains("`dear` of type `sklearn`"), "{}", wrong.detail);
    let unknown = reject(&body(r#","model_type":"keras""#));
    assert_eq!((unknown.faults[0].pointer.as_str(), unknown.faults[0].code), ("#/model_type", "wrong_type"));
    assert!(unknown.faults[0].detail.contains("sklearn, onnx"), "{unknown:?}");
    for model_type in ModelType::ALL {
        assert_eq!(ModelType::from_name(model_type.name()), Some(model_type));
    }
}

#[test]
fn bytes_that_are_no_text_are_no_json() {
    let rejection = parse(b"{\"sensor_id\":\"\xff\"}", &catalog()).unwrap_err();
    assert_eq!(rejection.code, ErrorCode::InvalidJson);
    assert!(rejection.detail.contains("not UTF-8"), "{}", rejection.detail);
    let string = reject(&format!("\"{}\"", "x".repeat(1_000)));
    assert!(string.detail.contains("one JSON object, not a string"), "{}", string.detail);
    assert!(string.detail.len() < 200, "{}", string.detail);
    assert_eq!(check_json(b"\xff").unwrap_err().code, ErrorCode::InvalidJson);
}

#[test]
fn what_concerns_jobs_is_read_and_judged_like_all_else() {
    let catalog = catalog();
    let body = |more: &str| format!(r#"{{"task":"pump","sensor_data":{{"pressure":6.5,"temperature":45}},{more}}}"#);
    let text = body(r#""priority":"high","callback_url":"https://a.example/x""#);
    let request = parse(text.as_bytes(), &catalog).unwrap();
    assert_eq!(
        (request.priority, request.callback_url.as_deref()),
        (Some(Priority::High), Some("https://a.example/x"))
    );
    let silent = body(r#""priority":null,"callback_url":null"#);
    let request = parse(silent.as_bytes(), &catalog).unwrap();
    assert_eq!((request.priority, request.callback_url), (None, None));
    for class in Priority::ALL {
        assert_eq!(Priority::from_name(class.name()), Some(class));
        assert_eq!(serde_json::to_value(class).unwrap(), class.name());
    }
    for wrong in [r#""priority":"urgent""#, r#""priority":1"#] {
        assert_eq!(fault_at(&body(wrong)), [("#/priority".to_owned(), "wrong_type")], "{wrong}");
    }
    let long = format!(r#""callback_url":"https://{}""#, "x".repeat(MAX_URL_BYTES - 7));
    for wrong in [r#""callback_url":"""#, r#""callback_url":7"#, &long] {
        assert_eq!(fault_at(&body(wrong)), [("#/callback_url".to_owned(), "wrong_type")], "{wrong}");
    }
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
    fn no_json_shape_can_break_the_parser(body in "\\{(\"(task|features|sensor_data|sensor_id|text|model_type|x)\":(\\[|\\]|\\{|\\}|1e9{1,4}|-|null|\"pump\"|\"sentiment\"|\"\\\\u0000\"|,){0,6},?){0,6}\\}?") {
        drop(parse(body.as_bytes(), &catalog()));
    }

    #[test]
    fn a_number_of_up_to_fifteen_digits_is_read_exactly(digits in -999_999_999_999_999i64..1_000_000_000_000_000, power in -22i32..=22) {
        let text = format!("{digits}e{power}");
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(json::number(raw), Ok(text.parse::<f64>().unwrap()));
    }

    #[test]
    fn a_longer_number_is_right_to_fifteen_digits(value in proptest::num::f64::NORMAL) {
        prop_assume!((1e-300..1e300).contains(&value.abs()));
        let text = value.to_string();
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        let read = json::number(raw).unwrap();
        prop_assert!((read - value).abs() <= value.abs() * 1e-15, "{text} read as {read}");
    }

    #[test]
    fn a_text_accepted_is_the_text_sent_and_one_a_model_can_take(text in "(\\PC|[\\x00-\\x1f\"\\\\]){0,24}", named in any::<bool>()) {
        let catalog = catalog();
        let body = if named {
            serde_json::json!({"sensor_data": {"text": text}})
        } else {
            serde_json::json!({"text": text})
        };
        let parsed = parse(body.to_string().as_bytes(), &catalog);
        let usable = (1..=20).contains(&text.len()) && !text.contains('\0');
        prop_assert_eq!(parsed.is_ok(), usable);
        match parsed {
            Ok(request) => prop_assert_eq!(request.input, Input::Text(text)),
            Err(rejection) => {
                let pointer = if named { "#/sensor_data/text" } else { "#/text" };
                prop_assert_eq!(rejection.faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(), [pointer]);
            }
        }
    }

    #[test]
    fn what_is_accepted_is_finite_and_in_range(values in proptest::collection::vec(-400.0f64..400.0, 6)) {
        let catalog = catalog();
        let body = serde_json::json!({"task": "cycle", "features": values}).to_string();
        let in_range = values[..3].iter().all(|v| (0.0..=250.0).contains(v)) && values[3..].iter().all(|v| (-1.0..=50.0).contains(v));
        let parsed = parse(body.as_bytes(), &catalog);
        prop_assert_eq!(parsed.is_ok(), in_range);
        if let Ok(request) = parsed {
            let features = features(&request);
            prop_assert!(features.iter().all(|f| f.is_finite()));
            prop_assert_eq!(features.len(), 6);
        }
    }
}
