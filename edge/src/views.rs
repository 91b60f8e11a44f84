//! What the edge answers itself: what this is, and how it does.

use serde::Serialize;
use serde_json::value::RawValue;
use shared::catalog::CatalogTask;
use worker::{Context, Env, Headers, Method, Response};

use crate::answer::{self, JSON};
use crate::config::EdgeConfig;
use crate::error::Failure;
use crate::log::Line;
use crate::origin::{Call, Limit, Origin, OriginError};
use crate::state::Settings;
use crate::{clock, refresh, state};

/// A longer report of the origin is not repeated.
const MAX_REPORT_BYTES: usize = 16_384;

// Structs instead of `serde_json::Value`, whose maps and number writer would be a tenth of the wasm.

#[derive(Serialize)]
struct Home<'a> {
    name: &'static str,
    what: &'static str,
    served_by: &'static str,
    version: &'static str,
    /// Null until this isolate has heard of the origin's tasks.
    tasks: Option<Vec<HomeTask<'a>>>,
    links: &'a RawValue,
}

#[derive(Serialize)]
struct HomeTask<'a> {
    name: &'a str,
    title: &'a str,
    tiers: &'a [String],
    models: Vec<&'a str>,
}

const LINKS: &str = concat!(
    r#"{"predict":"POST /predict","probabilities":"POST /predict_proba","batch":"POST /predict/batch","#,
    r#""generate":"POST /v1/infer/stream","hand in":"POST /data","job":"GET /v1/jobs/{id}","#,
    r#""results":"GET /results?limit=10","feedback":"POST /feedback","models":"GET /models","health":"GET /health","#,
    r#""catalog":"GET /v1/catalog","snapshot":"GET /v1/snapshot","open inference protocol":"GET /v2"}"#,
);

/// `GET /`: what this is, and where to go from here.
pub(crate) fn home(request_id: &str) -> Result<Response, Failure> {
    let known = state::catalog(|keeper| keeper.known(clock::now_ms()));
    let home = Home {
        name: "Infer Router",
        what: "sends every sensor reading to the best model that can still answer in time",
        served_by: "edge",
        version: env!("CARGO_PKG_VERSION"),
        tasks: known.as_ref().map(|known| known.catalog.tasks.iter().map(home_task).collect()),
        links: serde_json::from_str(LINKS).map_err(|error| Failure::runtime(&error.into()))?,
    };
    json(200, &home, request_id)
}

fn home_task(task: &CatalogTask) -> HomeTask<'_> {
    let models = task.models.iter().map(|model| model.name.as_str()).collect();
    HomeTask { name: &task.schema.name, title: &task.schema.title, tiers: &task.schema.tiers, models }
}

fn json(status: u16, body: &impl Serialize, request_id: &str) -> Result<Response, Failure> {
    let body = serde_json::to_string(body).map_err(|error| Failure::runtime(&error.into()))?;
    Ok(answer::text(status, JSON, body, request_id))
}

/// `GET /livez`: this isolate answers.
pub(crate) fn live(request_id: &str) -> Response {
    answer::text(200, JSON, r#"{"status":"ok"}"#.to_owned(), request_id)
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    edge: EdgeHealth<'a>,
    origin: OriginHealth<'a>,
}

#[derive(Serialize)]
struct EdgeHealth<'a> {
    policy: Option<&'static str>,
    catalog: Option<CatalogHealth>,
    snapshots: Vec<SnapshotHealth>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    settings_faults: &'a [String],
}

#[derive(Serialize)]
struct SnapshotHealth {
    task: String,
    age_ms: u64,
}

#[derive(Serialize)]
struct CatalogHealth {
    etag: String,
    age_ms: u64,
}

#[derive(Serialize)]
struct OriginHealth<'a> {
    reachable: bool,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What the origin says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a RawValue>,
}

/// `GET /health`: 200 when a reading sent now would be answered, 503 otherwise.
pub(crate) async fn health(
    settings: &Settings,
    env: &Env,
    ctx: &Context,
    line: &mut Line,
) -> Result<Response, Failure> {
    let asked = match settings.as_ref() {
        Err(_) => Err("not asked: the settings cannot be used".to_owned()),
        Ok(config) => ask(config, env, ctx, line).await,
    };
    let report = asked.as_ref().ok().and_then(|asked| serde_json::from_str::<&RawValue>(&asked.report).ok());
    let origin = match &asked {
        Ok(Asked { status, took_ms, .. }) => {
            OriginHealth { reachable: true, status: Some(*status), took_ms: Some(*took_ms), error: None, report }
        }
        Err(error) => {
            OriginHealth { reachable: false, status: None, took_ms: None, error: Some(error.clone()), report: None }
        }
    };
    let healthy = origin.status == Some(200);
    let health = Health { status: if healthy { "ok" } else { "degraded" }, edge: edge(settings), origin };
    json(if healthy { 200 } else { 503 }, &health, &line.request_id)
}

fn edge(settings: &Settings) -> EdgeHealth<'_> {
    let now_ms = clock::now_ms();
    let known = state::catalog(|keeper| keeper.known(now_ms));
    EdgeHealth {
        policy: settings.as_ref().as_ref().ok().map(|config| config.policy.kind.name()),
        catalog: known.map(|known| CatalogHealth { etag: known.catalog.etag.clone(), age_ms: known.age_ms }),
        snapshots: state::snapshots(|cache| {
            cache.ages(now_ms).map(|(task, age_ms)| SnapshotHealth { task: task.to_owned(), age_ms }).collect()
        }),
        settings_faults: settings.as_ref().as_ref().err().map(Vec::as_slice).unwrap_or_default(),
    }
}

struct Asked {
    status: u16,
    took_ms: u64,
    report: String,
}

async fn ask(config: &EdgeConfig, env: &Env, ctx: &Context, line: &mut Line) -> Result<Asked, String> {
    let origin = Origin::of(config, env);
    let headers = Headers::new();
    answer::set(&headers, shared::headers::REQUEST_ID, &line.request_id);
    let limit = Limit::Timeout(config.jobs_timeout_ms);
    let call = Call { method: Method::Get, target: "/health", headers, body: None, limit };
    let answer = origin.send(call).await.map_err(|error: OriginError| error.to_string())?;
    line.origin_ms = Some(answer.took_ms);
    // A health check that took the turn to fetch the catalog must also fetch it.
    refresh::catalog(ctx, &origin, &answer);
    let (status, took_ms) = (answer.status(), answer.took_ms);
    let mut report = answer.text().await.map_err(|error| error.to_string())?;
    if report.len() > MAX_REPORT_BYTES {
        report.clear();
    }
    Ok(Asked { status, took_ms, report })
}
