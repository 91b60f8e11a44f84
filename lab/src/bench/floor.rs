//! The floor under every HTTP figure: axum, the same JSON parsed, and an answer without a model.

use std::net::Ipv4Addr;

use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Reading {
    sensor_id: String,
    timestamp: f64,
    features: Vec<f32>,
}

#[derive(Debug, Serialize)]
struct Prediction {
    anomaly_score: f32,
}

async fn predict(Json(reading): Json<Reading>) -> Json<Prediction> {
    // What was parsed is looked at, so that parsing it cannot be left out.
    let known = reading.timestamp > 0.0 && !reading.sensor_id.is_empty();
    Json(Prediction { anomaly_score: if known { reading.features.iter().sum() } else { 0.0 } })
}

/// Serves until the process is killed.
///
/// # Errors
/// When the port cannot be had.
pub(crate) fn run(port: u16) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let routes = Router::new().route("/predict", post(predict)).route("/readyz", get(async || "ready"));
        Ok(axum::serve(listener, routes).await?)
    })
}
