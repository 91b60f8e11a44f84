//! Readings to send, and short ways to send them.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use super::until;

/// The normal reading of the batch example.
pub(crate) fn normal() -> Value {
    json!({
        "temperature": 45.3, "vibration": 2.8, "pressure": 6.5, "flow_rate": 152.0, "current": 87.5,
        "duty_cycle": 0.75, "operational_state": "normal",
    })
}

/// The anomalous reading of the batch example.
pub(crate) fn anomalous() -> Value {
    json!({
        "temperature": 78.5, "vibration": 12.4, "pressure": 4.2, "flow_rate": 98.0, "current": 125.0,
        "duty_cycle": 0.95, "operational_state": "normal",
    })
}

pub(crate) fn body(reading: &Value) -> Value {
    json!({"sensor_id": "sensor-01", "sensor_data": reading})
}

pub(crate) async fn post(url: &str, body: &Value) -> Response {
    post_text(url, body.to_string()).await
}

pub(crate) async fn post_text(url: &str, body: String) -> Response {
    Client::new().post(url).header(CONTENT_TYPE, "application/json").body(body).send().await.unwrap()
}

/// Status, and the answer as JSON.
pub(crate) async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}, not JSON: {text}")))
}

pub(crate) async fn get(url: &str) -> (u16, Value) {
    read(reqwest::get(url).await.unwrap()).await
}

/// Waits for a job's result, asking at any door.
pub(crate) async fn result_of(base: &str, receipt: &Value) -> Value {
    let url = format!("{base}{}", receipt["location"].as_str().unwrap_or_else(|| panic!("no location in {receipt}")));
    until("a job's result", || async {
        let (status, answer) = get(&url).await;
        (status == 200).then(|| answer["result"].clone()).filter(Value::is_object)
    })
    .await
}

/// A header of an answer, as text.
pub(crate) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}
