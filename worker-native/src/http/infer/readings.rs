//! Readings in the words of `/v1/infer`, handed to `/predict` in the reading's own words.
//!
//! Only names change (`input` becomes `features`, `sensor_data` or `text`, `model` becomes
//! `model_name`): what a reading may look like is `shared::reading`'s. Faults come back with the
//! names that the caller used.

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::value::{RawValue, to_raw_value};
use shared::problem::ErrorCode;
use shared::reading::Fault;
use shared::reading::json::{Object, array, pointer};

use super::Caller;
use crate::http::error::ApiError;
use crate::http::idempotency::Repeatable;
use crate::http::predict::{self, Reading, Wanted};

/// Most readings of one stream.
const MAX_READINGS: usize = 1_024;

/// One reading, or several with what they share.
#[derive(Debug)]
pub(in crate::http) struct Readings {
    common: Vec<(String, Box<RawValue>)>,
    /// What `input` holds; nothing where the reading came in its own words.
    inputs: Vec<Box<RawValue>>,
    is_batch: bool,
    says_model: bool,
}

impl Readings {
    /// Takes a body apart; what each reading holds is checked when its turn comes.
    pub(super) fn read(body: &Object<'_>, task: Option<&str>, model: Option<&str>) -> Result<Self, ApiError> {
        let given = |name: &str| body.get(name).filter(|raw| raw.get() != "null");
        let mut faults = Vec::new();
        for name in &body.duplicates {
            faults.push(Fault::new(pointer(&[name]), "duplicate", format!("`{name}` is given twice")));
        }
        if given("params").is_some_and(|params| !is_empty_object(params)) {
            faults.push(Fault::new("#/params", "unexpected", "a task that takes readings has no `params`"));
        }
        let mut inputs = Vec::new();
        let mut is_batch = false;
        if let Some(input) = given("input") {
            let own = ["features", "sensor_data", "text"].into_iter().find(|name| given(name).is_some());
            if let Some(own) = own {
                let detail = format!("give one of `input` and `{own}`, not both");
                faults.push(Fault::new(pointer(&[own]), "conflict", detail));
            }
            match array(input, MAX_READINGS) {
                Some(several) if several.elements.first().is_some_and(|first| form_of(first).is_some()) => {
                    is_batch = true;
                    if several.length > MAX_READINGS {
                        let detail = format!("`input` has {} readings, accepted are {MAX_READINGS}", several.length);
                        faults.push(Fault::new("#/input", "wrong_length", detail));
                    }
                    inputs.extend(several.elements.into_iter().map(RawValue::to_owned));
                }
                _ => inputs.push(input.to_owned()),
            }
        }
        if !faults.is_empty() {
            let detail = format!("{} fault{} in the body", faults.len(), if faults.len() == 1 { "" } else { "s" });
            faults.truncate(shared::reading::MAX_FAULTS);
            return Err(ApiError { faults, ..ApiError::new(ErrorCode::InvalidReading, detail) });
        }
        let own = ["input", "params", "task", "model", "model_name"];
        let rest = body.entries.iter().filter(|(name, _)| !own.contains(&name.as_ref()));
        let mut common: Vec<(String, Box<RawValue>)> =
            rest.map(|(name, raw)| (name.clone().into_owned(), (*raw).to_owned())).collect();
        let named = body.get("task").map(RawValue::to_owned).or_else(|| task.and_then(|task| to_raw_value(task).ok()));
        common.extend(named.map(|task| ("task".to_owned(), task)));
        common.extend(model.and_then(|model| to_raw_value(model).ok()).map(|model| ("model_name".to_owned(), model)));
        Ok(Self { common, inputs, is_batch, says_model: given("model").is_some() })
    }

    /// How many there are.
    pub(in crate::http) fn count(&self) -> usize {
        self.inputs.len().max(1)
    }

    /// Several in one body, each of which may fail alone?
    pub(in crate::http) const fn is_batch(&self) -> bool {
        self.is_batch
    }

    /// The one reading's place; several are for the stream.
    pub(super) fn only(&self) -> Result<usize, ApiError> {
        if !self.is_batch {
            return Ok(0);
        }
        let detail = "`input` holds several readings: POST /v1/infer/stream answers one after the other";
        let fault = Fault::new("#/input", "wrong_type", detail);
        Err(ApiError { faults: vec![fault], ..ApiError::new(ErrorCode::InvalidReading, detail) })
    }

    /// The answer of `/predict` to one of them, once where it has a key.
    pub(in crate::http) async fn answer(
        &self,
        caller: &Caller,
        at: usize,
        once: Option<Repeatable>,
    ) -> Result<Response, ApiError> {
        let (app, map) = (caller.app.clone(), caller.headers.clone());
        // A label names one answer, so each reading of several has an id of its own.
        let request_id = if self.is_batch { format!("{}:{at}", caller.request_id) } else { caller.request_id.clone() };
        let reading = Reading { app, bytes: self.body(at), wanted: Wanted::default(), map, request_id };
        let answer = predict::predict_reading(reading, once).await;
        answer.map_err(|error| ApiError {
            faults: error.faults.iter().map(|fault| self.in_callers_words(at, fault)).collect(),
            ..error
        })
    }

    fn body(&self, at: usize) -> Vec<u8> {
        let mut body: BTreeMap<&str, &RawValue> =
            self.common.iter().map(|(name, raw)| (name.as_str(), raw.as_ref())).collect();
        if let Some(input) = self.inputs.get(at) {
            body.insert(form_of(input).unwrap_or("features"), input);
        }
        // Names and JSON texts into memory: writing them cannot fail, and an empty body would be refused.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    fn in_callers_words(&self, at: usize, fault: &Fault) -> Fault {
        let mut fault = fault.clone();
        if let Some(input) = self.inputs.get(at) {
            let own = format!("#/{}", form_of(input).unwrap_or("features"));
            let place = if self.is_batch { format!("#/input/{at}") } else { "#/input".to_owned() };
            if let Some(rest) = fault.pointer.strip_prefix(&own).filter(|rest| rest.is_empty() || rest.starts_with('/'))
            {
                fault.pointer = format!("{place}{rest}");
            }
        }
        if self.says_model && fault.pointer == "#/model_name" {
            "#/model".clone_into(&mut fault.pointer);
        }
        fault
    }
}

fn is_empty_object(raw: &RawValue) -> bool {
    serde_json::from_str::<Object<'_>>(raw.get()).is_ok_and(|object| object.entries.is_empty())
}

/// The name under which a value is a reading; none for what is only a number of one.
fn form_of(raw: &RawValue) -> Option<&'static str> {
    match raw.get().bytes().next()? {
        b'[' => Some("features"),
        b'{' => Some("sensor_data"),
        b'"' => Some("text"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::reading::json;

    use super::*;

    fn read(body: &Value, task: Option<&str>, model: Option<&str>) -> Result<Readings, ApiError> {
        let body = body.to_string();
        Readings::read(&json::body(body.as_bytes()).unwrap(), task, model)
    }

    fn bodies(readings: &Readings) -> Vec<Value> {
        (0..readings.count()).map(|at| serde_json::from_slice(&readings.body(at)).unwrap()).collect()
    }

    #[test]
    fn each_form_of_an_input_becomes_a_reading() {
        let of = |body: Value| bodies(&read(&body, None, None).unwrap());
        assert_eq!(of(json!({"input": [1, 2]})), [json!({"features": [1, 2]})]);
        assert_eq!(
            of(json!({"input": {"x": 1}, "sensor_id": "s"})),
            [json!({"sensor_data": {"x": 1}, "sensor_id": "s"})]
        );
        assert_eq!(of(json!({"input": "good", "params": {}})), [json!({"text": "good"})]);
        assert_eq!(of(json!({"features": [1], "deadline_ms": 5})), [json!({"features": [1], "deadline_ms": 5})]);
        assert_eq!(of(json!({"input": []})), [json!({"features": []})]);
        assert_eq!(of(json!({"prompt": "x"})), [json!({"prompt": "x"})], "the reading's own rules refuse it");
    }

    #[test]
    fn several_inputs_become_several_readings() {
        let readings = read(&json!({"input": [[1, 2], {"x": 1}, "good", 4], "task": "t"}), None, None).unwrap();
        assert!(readings.is_batch() && readings.only().is_err());
        let task = "t";
        assert_eq!(
            bodies(&readings),
            [
                json!({"task": task, "features": [1, 2]}),
                json!({"task": task, "sensor_data": {"x": 1}}),
                json!({"task": task, "text": "good"}),
                json!({"task": task, "features": 4}),
            ]
        );
        let many = json!({"input": vec![[1]; MAX_READINGS + 1]});
        assert_eq!(read(&many, None, None).unwrap_err().faults[0].pointer, "#/input");
    }

    #[test]
    fn a_model_of_a_task_is_named_in_the_readings_words() {
        let readings = read(&json!({"model": "pump.lof", "input": [1]}), Some("pump"), Some("lof")).unwrap();
        assert_eq!(bodies(&readings), [json!({"task": "pump", "model_name": "lof", "features": [1]})]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let pointer = |body: Value| read(&body, None, None).unwrap_err().faults[0].pointer.clone();
        assert_eq!(pointer(json!({"input": [1], "features": [1]})), "#/features");
        assert_eq!(pointer(json!({"input": [1], "params": {"seed": 1}})), "#/params");
        let twice = json::body(br#"{"input":[1],"input":[2]}"#).unwrap();
        assert_eq!(Readings::read(&twice, None, None).unwrap_err().faults[0].code, "duplicate");
    }

    #[test]
    fn faults_point_to_the_callers_names() {
        let words = |body: Value, at: usize, pointer: &str| {
            let readings = read(&body, None, Some("m")).unwrap();
            readings.in_callers_words(at, &Fault::new(pointer, "wrong_type", "")).pointer
        };
        assert_eq!(words(json!({"input": [1]}), 0, "#/features/3"), "#/input/3");
        assert_eq!(words(json!({"input": {"x": 1}}), 0, "#/sensor_data/x"), "#/input/x");
        assert_eq!(words(json!({"input": [[1], [2]]}), 1, "#/features"), "#/input/1");
        assert_eq!(words(json!({"features": [1]}), 0, "#/features/3"), "#/features/3");
        assert_eq!(words(json!({"input": "a", "model": "m"}), 0, "#/model_name"), "#/model");
        assert_eq!(words(json!({"input": "a", "model_name": "m"}), 0, "#/model_name"), "#/model_name");
    }
}
