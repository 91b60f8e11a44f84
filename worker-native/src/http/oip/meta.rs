//! What can be asked about the server and its models without running one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::engine::{Batch, Stats, Tally, Version};
use super::target::Target;
use super::{ApiError, Oip};
use crate::engine::tensor::{DataType, Signature, TensorSpec};

/// What `GET /v2` says is served beyond the protocol's core.
const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
];

pub(super) async fn server(State(oip): State<Oip>) -> Response {
    let name = &oip.config.server_name;
    Json(json!({"name": name, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS})).into_response()
}

pub(super) async fn live() -> Response {
    Json(json!({"live": true})).into_response()
}

pub(super) async fn ready(State(oip): State<Oip>) -> Response {
    let ready = oip.models.ready();
    (status(ready), Json(json!({"ready": ready}))).into_response()
}

pub(super) async fn model_ready(State(oip): State<Oip>, target: Target) -> Result<Response, ApiError> {
    let ready = target.find(&oip)?.ready();
    Ok((status(ready), Json(json!({"name": target.model, "ready": ready}))).into_response())
}

const fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

pub(super) async fn model(State(oip): State<Oip>, target: Target) -> Result<Response, ApiError> {
    let (_, signature) = target.find_ready(&oip).await?;
    let versions: Vec<String> = oip.models.versions(&target.model).iter().map(u32::to_string).collect();
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        let shape = |spec: &TensorSpec| -> Vec<i64> { full_shape(spec, &signature).collect() };
        let tensor =
            |spec: &TensorSpec| json!({"name": spec.name, "datatype": spec.data_type.name(), "shape": shape(spec)});
        specs.iter().map(tensor).collect()
    };
    let document = json!({
        "name": target.model, "versions": versions, "platform": signature.platform,
        "inputs": tensors(&signature.inputs), "outputs": tensors(&signature.outputs),
    });
    Ok(Json(document).into_response())
}

/// All axes; the batch is open, whatever the graph wrote there.
fn full_shape(spec: &TensorSpec, signature: &Signature) -> impl Iterator<Item = i64> {
    let batched = signature.max_batch > 0;
    spec.shape.iter().enumerate().map(move |(i, axis)| if batched && i == 0 { -1 } else { *axis })
}

/// Triton's model configuration, as far as its load tool and its clients read it.
pub(super) async fn config(State(oip): State<Oip>, target: Target) -> Result<Response, ApiError> {
    let (_, signature) = target.find_ready(&oip).await?;
    // Where the first axis is the batch, `dims` leaves it out.
    let skip = usize::from(signature.max_batch > 0);
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        let dims = |spec: &TensorSpec| -> Vec<i64> { spec.shape.iter().skip(skip).copied().collect() };
        let tensor = |spec: &TensorSpec| json!({"name": spec.name, "data_type": config_type(spec.data_type), "dims": dims(spec)});
        specs.iter().map(tensor).collect()
    };
    let mut document = json!({
        "name": target.model, "platform": signature.platform, "backend": "onnxruntime",
        "max_batch_size": signature.max_batch,
        "input": tensors(&signature.inputs), "output": tensors(&signature.outputs),
        "model_transaction_policy": {"decoupled": false},
    });
    if signature.max_batch > 0
        && let Some(document) = document.as_object_mut()
    {
        document.insert("dynamic_batching".to_owned(), json!({}));
    }
    Ok(Json(document).into_response())
}

/// The type's name in a model configuration: not the one on the wire.
fn config_type(data_type: DataType) -> String {
    match data_type {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{}", other.name()),
    }
}

pub(super) async fn stats(State(oip): State<Oip>, target: Target) -> Result<Response, ApiError> {
    let versions = target.find_all(&oip)?;
    let stats: Vec<Value> = versions.iter().map(|version| model_stats(&target.model, version.as_ref())).collect();
    Ok(Json(json!({"model_stats": stats})).into_response())
}

pub(super) async fn all_stats(State(oip): State<Oip>) -> Response {
    let index = oip.models.index();
    let of_entry = |entry: &super::engine::IndexEntry| {
        let version = oip.models.find(&entry.name, entry.version.parse().ok()).ok()?;
        Some(model_stats(&entry.name, version.as_ref()))
    };
    let stats: Vec<Value> = index.iter().filter_map(of_entry).collect();
    Json(json!({"model_stats": stats})).into_response()
}

fn model_stats(name: &str, version: &dyn Version) -> Value {
    let Stats { last_inference_ms, inference_count, execution_count, times, batches } = version.stats();
    let batch = |batch: &Batch| {
        // Not told apart by size: the counts are right, the times are in `inference_stats`.
        let untimed = Tally { count: batch.infer.count, ns: 0 };
        json!({
            "batch_size": batch.size, "compute_input": untimed, "compute_infer": batch.infer, "compute_output": untimed,
        })
    };
    json!({
        "name": name, "version": version.number().to_string(), "last_inference": last_inference_ms,
        "inference_count": inference_count, "execution_count": execution_count, "inference_stats": times,
        "batch_stats": batches.iter().map(batch).collect::<Vec<_>>(), "memory_usage": [],
    })
}
