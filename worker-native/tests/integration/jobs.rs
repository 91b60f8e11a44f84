//! The job API over HTTP, on a real Redis: handed in once, refused with reasons, watched, called off, exported, given up.

mod dead;
mod embedded;
mod events;
mod full;
mod once;
mod results;
mod state;

use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::support::models::Models;
use crate::support::native::Native;
use crate::support::readings::{body, header, normal, read};
use crate::support::redis::Redis;

/// Posts a reading with headers.
async fn post_with(url: &str, reading: &Value, headers: &[(&str, &str)]) -> Response {
    let request = headers.iter().fold(Client::new().post(url), |request, (name, value)| request.header(*name, *value));
    request.json(reading).send().await.unwrap()
}

/// Hands a reading in; gives the receipt.
async fn hand_in(native: &Native, reading: &Value) -> Value {
    let (status, receipt) = read(post_with(&native.url("/v1/jobs"), reading, &[]).await).await;
    assert_eq!(status, 202, "{receipt}");
    receipt
}

async fn delete(url: &str) -> (u16, Value) {
    read(Client::new().delete(url).send().await.unwrap()).await
}

fn path(receipt: &Value) -> &str {
    receipt["location"].as_str().unwrap()
}

/// A service that takes jobs and runs none.
async fn api(redis: &Redis, settings: &[(&str, &str)]) -> Native {
    let role = [("ROLE", "api")];
    let settings: Vec<_> = role.into_iter().chain(settings.iter().copied()).collect();
    Native::start(&redis.url(), &settings).await
}

/// A repository whose only model runs as long as its reading says.
fn rig() -> Models {
    let models = Models::of(&[]);
    models.add_rig("regression", "");
    models
}

/// A reading that runs for so many turns.
fn turns(count: f64) -> Value {
    json!({"task": "rig", "features": [count]})
}

/// Far more turns than any time limit here lets happen.
const ENDLESS: f64 = 1e12;

fn reading() -> Value {
    body(&normal())
}

/// A header of an answer as a number.
fn seconds(response: &Response) -> u64 {
    header(response, "retry-after").unwrap().parse().unwrap()
}
