use super::*;

#[test]
fn every_code_has_its_own_name_and_an_error_status() {
    let mut names = std::collections::BTreeSet::new();
    for code in ErrorCode::ALL {
        assert!(names.insert(code.name()), "{} twice", code.name());
        assert!((400..600).contains(&code.http_status()));
        let retryable = matches!(code.http_status(), 429 | 503) || code == ErrorCode::IdempotencyInFlight;
        assert_eq!(code.retry_after_s().is_some(), retryable, "{}", code.name());
    }
}

#[test]
fn the_document_has_the_members_of_the_rfc() {
    let fault = Fault::new("#/sensor_data/pressure", "missing", "pressure is missing");
    let json = Problem::new(ErrorCode::InvalidReading, "1 fault", "/predict", &[fault], "r1").to_json();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["type"], "urn:infer-router:problem:invalid-reading");
    assert_eq!(value["status"], 422);
    assert_eq!(value["errors"][0]["pointer"], "#/sensor_data/pressure");
    assert_eq!(value["request_id"], "r1");
    assert!(value.get("error").is_none(), "{value}");
}

#[test]
fn when_to_come_back_is_told_exactly_and_in_whole_seconds() {
    let problem = Problem::new(ErrorCode::LoadShed, "later", "/data", &[], "r1");
    let value: serde_json::Value = serde_json::from_str(&problem.with_retry_after_ms(Some(1_200)).to_json()).unwrap();
    assert_eq!((&value["status"], &value["retry_after_ms"]), (&429.into(), &1_200.into()));
    assert_eq!([0, 1, 1_000, 1_001].map(whole_seconds), [1, 1, 1, 2]);
    let detail = shed_detail("pump", Priority::Low, 1_200);
    assert!(detail.contains("`pump`") && detail.contains("`low`") && detail.contains("1200 ms"), "{detail}");
}

#[test]
fn the_open_inference_protocol_gets_its_error_beside() {
    let json = Problem::new(ErrorCode::NotFound, "no such model", "/v2/models/m", &[], "r1").with_error().to_json();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["error"], &value["detail"]), (&"no such model".into(), &"no such model".into()));
}
