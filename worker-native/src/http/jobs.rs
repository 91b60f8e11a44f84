//! `POST /data`, `POST /v1/jobs`: hand a reading in. What becomes of it is `state`'s and `events`'.

pub(super) mod events;
mod full;
pub(super) mod state;

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use shared::problem::ErrorCode;
use shared::reading::Request;

use super::body;
use super::error::ApiError;
use super::idempotency::{self, Repeatable};
use super::predict::Wanted;
use super::rim::{Applied, RequestId};
use super::shed::Shed;
use crate::app::App;
use crate::decisions::{Case, REFUSED};
use crate::engine::index::Index;
use crate::queue::{Bound, Enqueued, Entry, Full, NewJob, Once, Priority, Stored};
use crate::routing::{Advice, DecisionRecord, Weighed, choose, planner};

#[derive(Debug, Serialize)]
struct Receipt<'a> {
    job_id: &'a str,
    status: &'static str,
    task: &'a str,
    tier: Option<&'a str>,
    model: &'a str,
    model_version: u32,
    fallback: bool,
    priority: Priority,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_at: Option<u64>,
    location: &'a str,
    request_id: &'a str,
    decision: &'a DecisionRecord,
}

pub(super) async fn hand_in(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    method: Method,
    uri: Uri,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted = Wanted::read(uri.query())?;
    let tenant = idempotency::tenant(&map)?;
    let bytes = body::read(&app.config.http, &map, body).await?;
    let repeatable = Repeatable::read(&map, (&method, &uri), tenant.as_deref(), &bytes)?;
    let index = app.engine.index();
    let request = wanted.parse(&bytes, &index.catalog)?;
    if let Some(url) = &request.callback_url {
        let refused = |fault| ApiError::of_field("#/callback_url", "not_a_value", fault);
        app.webhooks.check(url).map_err(refused)?;
    }
    let left = request.deadline_ms.map(Duration::from_millis);
    let (entry, shed_ms) = entry(&app, &index, request, (request_id, tenant), &map)?;
    let task = entry.task.clone();
    let location = format!("/v1/jobs/{}", entry.job_id);
    let receipt = receipt(&entry, &location);
    let once = repeatable.map(|Repeatable { key, fingerprint }| {
        let answer = Stored { status: StatusCode::ACCEPTED.as_u16(), body: receipt.clone() };
        Once { key, fingerprint, answer }
    });
    let applied =
        Applied { task: task.clone(), decision: Some(entry.decision.clone()), job_id: Some(entry.job_id.clone()) };
    let shed = shed_ms.map(|after_ms| Shed { task: &task, class: entry.priority, left, after_ms });
    let at_need = planner::rate_at_need(&app, &task).filter(|_| entry.binding.movable);
    // With no room at all nothing new is stored, but what came before under the same key is answered as then.
    let room = if shed.is_some() { Some(0) } else { app.admission.room(&task, entry.priority, left, at_need) };
    let (tenant, size, case) = (entry.tenant.clone(), full::size(&entry), Case::of_job(&entry));
    if let Some(shed) = shed.as_ref().filter(|_| once.is_none()) {
        return Err(shed.job(&app, case));
    }
    let job = NewJob { entry, left, room, once };
    let answer = match app.queue.enqueue(&task, vec![job]).await {
        Ok(mut answers) => {
            answers.pop().ok_or_else(|| ApiError::new(ErrorCode::Internal, "the queue gave no answer"))?
        }
        Err(error) => {
            app.metrics.hand_in(&task, "unavailable");
            app.decisions.refused(case, REFUSED, "the queue cannot be used");
            return Err(error.into());
        }
    };
    if let (Enqueued::Full(_), Some(shed)) = (&answer, &shed) {
        return Err(shed.job(&app, case));
    }
    app.metrics.hand_in(&task, result_name(&answer));
    match answer {
        Enqueued::Accepted(depths) => {
            app.snapshots.set_depths(&task, &depths);
            app.decisions.accepted(case);
        }
        Enqueued::Replayed(stored) => return idempotency::replayed(&task, stored),
        Enqueued::Conflict => return Err(idempotency::conflict()),
        Enqueued::Full(full) => {
            let refused = full::Refused { task: &task, tenant: tenant.as_deref(), size, left, room };
            let error = refused.error(&app, &full, fastrand::f64());
            app.decisions.refused(case, REFUSED, &error.detail);
            return Err(error);
        }
    }
    let mut response = idempotency::json(StatusCode::ACCEPTED, receipt);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.extensions_mut().insert(applied);
    Ok(response)
}

/// What became of a hand-in, for the metrics.
const fn result_name(answer: &Enqueued) -> &'static str {
    match answer {
        Enqueued::Accepted(_) => "accepted",
        Enqueued::Replayed(_) => "replayed",
        Enqueued::Conflict => "conflict",
        Enqueued::Full(Full { bound: Bound::Jobs, .. }) => "full_jobs",
        Enqueued::Full(Full { bound: Bound::Bytes, .. }) => "full_bytes",
        Enqueued::Full(Full { bound: Bound::Wait, .. }) => "full_wait",
        Enqueued::Full(Full { bound: Bound::Tenant, .. }) => "full_tenant",
    }
}

/// The job that a reading becomes; where its class is being shed, also when to come back, in milliseconds.
fn entry(
    app: &App,
    index: &Index,
    request: Request<'_>,
    (request_id, tenant): (String, Option<String>),
    map: &HeaderMap,
) -> Result<(Entry, Option<u32>), ApiError> {
    let advice = Advice::from_headers(map);
    let task = &request.task.schema.name;
    let in_force = app.policies.of(task);
    let routed = choose(index, &app.snapshots, &in_force.policy, (&request, &request_id), &advice)?;
    let asked = (request.deadline_ms.map(Duration::from_millis), request.priority.unwrap_or_default());
    if routed.shed_ms.is_none() {
        app.planner.routed(request.task, asked, (&routed.decision, &advice), false);
    }
    let card = routed.version.card();
    let entry = Entry::new(task, &routed.lane, (&card.model, card.version), request.input);
    let entry = Entry {
        request_id,
        sensor_id: request.sensor_id,
        timestamp: request.timestamp,
        fallback: routed.fallback,
        pinned: request.model_version.is_some(),
        binding: routed.binding,
        decision: routed.decision,
        weighed: Some(Weighed { policy_version: in_force.version, ..routed.weighed }),
        deadline_at: request.deadline_ms.map(|ms| entry.accepted_at.saturating_add(ms)),
        priority: request.priority.unwrap_or_default(),
        tenant,
        callback: request.callback_url,
        ..entry
    };
    Ok((entry, routed.shed_ms))
}

/// The body of the 202, as it is sent and as it is kept for a repetition.
fn receipt(entry: &Entry, location: &str) -> String {
    let receipt = Receipt {
        job_id: &entry.job_id,
        status: "accepted",
        task: &entry.task,
        tier: entry.decision.tier.as_deref(),
        model: &entry.model,
        model_version: entry.model_version,
        fallback: entry.fallback,
        priority: entry.priority,
        deadline_at: entry.deadline_at,
        location,
        request_id: &entry.request_id,
        decision: &entry.decision,
    };
    super::sse::json(&receipt)
}
