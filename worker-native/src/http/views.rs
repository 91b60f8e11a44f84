//! What can be looked at: `/`, `/v1/snapshot`, `/v1/catalog`.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::policy::Plan;
use shared::snapshot::TaskLoad;

use crate::app::App;
use crate::clock::now_ms;

pub(super) async fn root(State(app): State<App>) -> Response {
    let tasks: Vec<_> = app
        .engine
        .catalog()
        .tasks
        .iter()
        .map(|task| {
            serde_json::json!({
                "name": task.schema.name, "title": task.schema.title, "tiers": task.schema.tiers,
                "models": task.models.iter().map(|model| &model.name).collect::<Vec<_>>(),
            })
        })
        .collect();
    Json(serde_json::json!({
        "name": "Infer Router",
        "what": "sends every sensor reading to the best model that can still answer in time",
        "version": env!("CARGO_PKG_VERSION"),
        "tasks": tasks,
        "links": {
            "predict": "POST /predict", "probabilities": "POST /predict_proba", "batch": "POST /predict/batch",
            "generate": "POST /v1/infer/stream", "hand in": "POST /data", "job": "GET /v1/jobs/{id}",
            "call off": "DELETE /v1/jobs/{id}", "watch": "GET /v1/jobs/{id}/events", "dead letters": "GET /v1/dead",
            "results": "GET /results?limit=10", "feedback": "POST /feedback", "models": "GET /models",
            "pools": "GET /pool/stats", "info": "GET /info", "metrics": "GET /metrics", "health": "GET /health",
            "catalog": "GET /v1/catalog", "snapshot": "GET /v1/snapshot", "policy": "GET /v1/policy",
            "accuracy": "GET /v1/accuracy", "decisions": "GET /v1/decisions/{id}",
            "open inference protocol": "GET /v2",
        },
    }))
    .into_response()
}

pub(super) async fn snapshot(State(app): State<App>) -> Response {
    let snapshot = app.snapshots.take(None, now_ms());
    let tasks: Vec<_> = snapshot
        .tasks
        .iter()
        .map(|load| {
            let tiers: Vec<_> = load
                .tiers
                .iter()
                .map(|tier| {
                    serde_json::json!({
                        "tier": tier.tier, "depth": tier.depth, "service_us": tier.service_us, "accuracy": tier.accuracy,
                    })
                })
                .collect();
            let plan = load.plan.as_ref().map(|plan| plan_view(plan, load));
            serde_json::json!({"task": load.task, "depth": load.depth(), "tiers": tiers, "plan": plan})
        })
        .collect();
    Json(serde_json::json!({"snapshot": snapshot.to_text(), "at": snapshot.at, "tasks": tasks})).into_response()
}

/// The numbers of a plan that say what it does, and why.
fn plan_view(plan: &Plan, load: &TaskLoad) -> serde_json::Value {
    let tier = |at: usize| load.tiers.get(at).map(|tier| tier.tier.as_str());
    serde_json::json!({
        "policy": plan.policy.map(|policy| policy.kind.name()), "mode": plan.mode.name(),
        "lower": tier(plan.lower), "upper": tier(plan.upper), "share": plan.x0, "share_unseen": plan.x_inf,
        "workers": plan.workers, "isolates": plan.isolates, "busy": plan.busy, "rate": plan.rate, "idc": plan.idc,
        "work_us": plan.work_us, "target_us": plan.target_us, "exploration": plan.epsilon,
        "explored": tier(plan.explore), "refused": plan.reject, "kappa": plan.kappa,
    })
}

pub(super) async fn catalog(State(app): State<App>, map: HeaderMap) -> Response {
    let catalog = app.engine.catalog();
    let tag = format!("\"{}\"", catalog.etag);
    let known = map.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let same = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag || one.trim() == "*"));
    let mut response = if same { StatusCode::NOT_MODIFIED.into_response() } else { Json(&*catalog).into_response() };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
