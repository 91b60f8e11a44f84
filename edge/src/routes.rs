//! Which path and method gets what: the edge's own pages, the way of a reading, or a pass to the origin.
//!
//! A plain match instead of a router: for a dozen fixed paths it costs nothing a request and keeps
//! the `url` crate, half of such a wasm, out.

use shared::ids::is_id;
use worker::{Context, Env, Method, Request, Response};

use crate::config::EdgeConfig;
use crate::error::Failure;
use crate::log::Line;
use crate::origin::{Answer, Call, Limit, Origin, passed_on};
use crate::{body, clock, ingest, refresh, state, views};

/// Where a reading comes in, which says how long its answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Answered with the prediction.
    Predict,
    /// Answered with a receipt.
    Jobs,
}

/// How long the origin may take for what is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// As long as a look-up takes.
    Short,
    /// As long as models take. Of a stream that is its beginning, not its end.
    Long,
}

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Home,
    Live,
    Health,
    Ingest(Door),
    Pass(Wait),
    #[cfg(feature = "test-panic")]
    Panic,
    #[cfg(feature = "test-panic")]
    Selfcheck,
}

fn route(method: &Method, path: &str) -> Option<Route> {
    match method {
        Method::Get | Method::Head => asked(path),
        Method::Post => posted(path),
        Method::Delete if is_job(path) => Some(Route::Pass(Wait::Short)),
        _ => None,
    }
}

fn asked(path: &str) -> Option<Route> {
    match path {
        "/" => Some(Route::Home),
        "/health" => Some(Route::Health),
        // Not passed on: whether this process lives does not hang on another one.
        "/livez" => Some(Route::Live),
        "/readyz" | "/results" | "/v1/snapshot" | "/v1/catalog" | "/models" | "/v2" | "/v2/health/live"
        | "/v2/health/ready" => Some(Route::Pass(Wait::Short)),
        _ if is_job(path.strip_suffix("/events").unwrap_or(path)) || is_decision(path) || is_oip_model(path) => {
            Some(Route::Pass(Wait::Short))
        }
        _ => None,
    }
}

fn posted(path: &str) -> Option<Route> {
    match path {
        "/predict" | "/predict_proba" => Some(Route::Ingest(Door::Predict)),
        "/data" | "/v1/jobs" => Some(Route::Ingest(Door::Jobs)),
        "/predict/batch" | "/v1/infer" | "/v1/infer/stream" => Some(Route::Pass(Wait::Long)),
        "/feedback" | "/v2/repository/index" => Some(Route::Pass(Wait::Short)),
        _ if is_oip_model(path) && path.ends_with("/infer") => Some(Route::Pass(Wait::Long)),
        #[cfg(feature = "test-panic")]
        "/__panic" => Some(Route::Panic),
        #[cfg(feature = "test-panic")]
        "/__selfcheck" => Some(Route::Selfcheck),
        _ => None,
    }
}

fn is_job(path: &str) -> bool {
    path.strip_prefix("/v1/jobs/").is_some_and(is_id)
}

fn is_decision(path: &str) -> bool {
    path.strip_prefix("/v1/decisions/").is_some_and(is_id)
}

/// Is this a path of the Open Inference Protocol, whose errors have their own form?
pub(crate) fn is_oip(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// Is this a page of a model in the Open Inference Protocol? Which pages there are, the origin knows.
fn is_oip_model(path: &str) -> bool {
    path.strip_prefix("/v2/models/").is_some_and(|rest| rest.split('/').all(is_id))
}

/// What changes the native service, or shows its inside. Anybody may reach the edge, so none of it goes through.
fn is_for_operators(path: &str) -> bool {
    let model = path.strip_prefix("/models/").or_else(|| path.strip_prefix("/v2/repository/models/"));
    matches!(path, "/pool/stats" | "/info" | "/metrics" | "/v1/dead" | "/v1/policy")
        || path.starts_with("/v1/dead/")
        || model.is_some_and(|rest| ["/load", "/unload", "/rollout"].iter().any(|end| rest.ends_with(end)))
}

/// Why a request has no route: the path has other methods, is not for everybody, or is none.
fn no_route(path: &str) -> Failure {
    let methods = [Method::Get, Method::Head, Method::Post, Method::Delete];
    let allow: Vec<&str> = methods.iter().filter(|method| route(method, path).is_some()).map(AsRef::as_ref).collect();
    match allow.as_slice() {
        [] if is_for_operators(path) => Failure::for_operators(),
        [] => Failure::not_found(),
        allow => Failure::method_not_allowed(allow.join(", ")),
    }
}

/// What a handler works with, for the length of one request.
pub(crate) struct Visit<'a> {
    /// The settings.
    pub(crate) config: &'a EdgeConfig,
    /// The way to the native service.
    pub(crate) origin: Origin,
    /// Where work behind the answer is handed in.
    pub(crate) ctx: &'a Context,
    /// The request's log line.
    pub(crate) line: &'a mut Line,
}

/// Answers a request.
pub(crate) async fn handle(request: Request, env: &Env, ctx: &Context, line: &mut Line) -> Result<Response, Failure> {
    let Some(route) = route(&request.method(), &line.path) else {
        return Err(no_route(&line.path));
    };
    let settings = state::settings(env);
    match route {
        Route::Home => return views::home(&line.request_id),
        Route::Live => return Ok(views::live(&line.request_id)),
        Route::Health => return views::health(&settings, env, ctx, line).await,
        #[cfg(feature = "test-panic")]
        Route::Panic => panics(),
        #[cfg(feature = "test-panic")]
        Route::Selfcheck => {
            let digest = shared::policy::selfcheck::selfcheck();
            return Ok(crate::answer::text(200, "text/plain", format!("{digest:016x}"), &line.request_id));
        }
        Route::Ingest(_) | Route::Pass(_) => {}
    }
    let config = settings.as_ref().as_ref().map_err(|faults| Failure::misconfigured(faults))?;
    let mut visit = Visit { config, origin: Origin::of(config, env), ctx, line };
    match route {
        Route::Ingest(door) => ingest::handle(door, request, &mut visit).await,
        Route::Pass(Wait::Long) => pass(&request, visit.config.infer_timeout_ms, &mut visit).await,
        _ => pass(&request, visit.config.jobs_timeout_ms, &mut visit).await,
    }
}

/// Hands a request on as it is, and the answer back as it is.
async fn pass(request: &Request, timeout_ms: u32, visit: &mut Visit<'_>) -> Result<Response, Failure> {
    let kind = if is_oip(&visit.line.path) { body::Kind::Any } else { body::Kind::Json };
    let body = match request.method() {
        Method::Post => body::unread(request, kind, visit.config.max_body_bytes)?,
        _ => None,
    };
    let target = visit.target(request);
    let headers = passed_on(request.headers(), &visit.line.request_id);
    let limit = Limit::Timeout(timeout_ms);
    visit.send(Call { method: request.method(), target: &target, headers, body: body.map(Into::into), limit }).await
}

impl Visit<'_> {
    /// Path and query, as the caller sent them.
    pub(crate) fn target(&self, request: &Request) -> String {
        format!("{}{}", self.line.path, query_of(&request.inner().url()))
    }

    /// Sends a call, notes what came of it, and makes the answer the caller's.
    pub(crate) async fn send(&mut self, call: Call<'_>) -> Result<Response, Failure> {
        let sent_ms = clock::now_ms();
        let result = self.origin.send(call).await;
        self.line.origin_ms = Some(clock::now_ms().saturating_sub(sent_ms));
        let answer = result?;
        refresh::catalog(self.ctx, &self.origin, &answer);
        self.note(&answer);
        Ok(answer.into_response(&self.line.request_id))
    }

    fn note(&mut self, answer: &Answer) {
        self.line.tier_applied = answer.header(shared::headers::ROUTE_APPLIED);
        if let Some(task) = answer.header(shared::headers::TASK) {
            self.line.task = Some(task);
        }
    }
}

/// The query of a URL as the runtime gives it, with its question mark; empty where there is none.
fn query_of(url: &str) -> &str {
    let url = url.split('#').next().unwrap_or_default();
    url.find('?').and_then(|at| url.get(at..)).unwrap_or_default()
}

#[cfg(feature = "test-panic")]
#[expect(clippy::panic, reason = "the panic that the test of panic isolation asks for")]
fn panics() -> ! {
    panic!("asked for by /__panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Method = Method::Get;
    const POST: Method = Method::Post;

    #[test]
    fn readings_go_through_the_edge_and_questions_past_it() {
        for path in ["/predict", "/predict_proba"] {
            assert_eq!(route(&POST, path), Some(Route::Ingest(Door::Predict)), "{path}");
        }
        assert_eq!(route(&POST, "/data"), Some(Route::Ingest(Door::Jobs)));
        assert_eq!(route(&POST, "/v1/jobs"), Some(Route::Ingest(Door::Jobs)));
        for path in ["/predict/batch", "/v1/infer", "/v1/infer/stream", "/v2/models/t.m/infer"] {
            assert_eq!(route(&POST, path), Some(Route::Pass(Wait::Long)), "{path}");
        }
        for path in [
            "/v1/jobs/0f-1",
            "/v1/jobs/t.0f/events",
            "/v1/decisions/t.0f",
            "/models",
            "/v2",
            "/v2/health/ready",
            "/v2/models/t.m/versions/3/stats",
        ] {
            assert_eq!(route(&GET, path), Some(Route::Pass(Wait::Short)), "{path}");
        }
        assert_eq!(route(&Method::Delete, "/v1/jobs/t.0f"), Some(Route::Pass(Wait::Short)));
        assert_eq!(route(&POST, "/v2/repository/index"), Some(Route::Pass(Wait::Short)));
        assert_eq!(route(&Method::Head, "/results"), Some(Route::Pass(Wait::Short)));
    }

    #[test]
    fn a_path_is_taken_literally() {
        for path in [
            "",
            "/predict/",
            "/Predict",
            "/v1/jobs/",
            "/v1/jobs//events",
            "/v1/decisions/",
            "/v1/decisions/a/b",
            "/v1/jobs/a/events/events",
            "/v1/jobs/a/b",
            "/v1/jobs/a%2Fb",
            "/__panic",
            "/v2/",
            "/v2x",
        ] {
            assert_eq!(route(&GET, path), None, "{path}");
        }
        for path in ["/v2/models", "/v2/models/", "/v2/models//infer", "/v2/models/a b/infer", "/v2/models/m/generate"]
        {
            assert_eq!(route(&POST, path), None, "{path}");
        }
    }

    #[test]
    fn what_is_for_operators_says_so() {
        let text = |path| no_route(path).log_text();
        for path in [
            "/models/m/load",
            "/models/m/unload",
            "/v2/repository/models/t.m/load",
            "/v2/repository/models/m/unload",
            "/pool/stats",
            "/v1/dead",
            "/v1/policy",
            "/v1/dead/t.0f",
            "/v1/dead/requeue",
        ] {
            for method in [GET, POST, Method::Put, Method::Delete] {
                assert_eq!(route(&method, path), None, "{path}");
            }
            assert!(text(path).starts_with("not-found: not through the edge"), "{path}: {}", text(path));
        }
        assert!(text("/models/m").starts_with("not-found: there is nothing"));
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let text = |path| no_route(path).log_text();
        assert_eq!(text("/predict"), "method-not-allowed: this path takes: POST");
        assert_eq!(text("/results"), "method-not-allowed: this path takes: GET, HEAD");
        assert_eq!(text("/v1/jobs/t.0f"), "method-not-allowed: this path takes: GET, HEAD, DELETE");
        assert!(text("/nope").starts_with("not-found"));
    }

    #[test]
    fn the_query_is_kept_as_it_is() {
        assert_eq!(query_of("http://h/results?limit=5&task=a%20b"), "?limit=5&task=a%20b");
        assert_eq!(query_of("http://h/results"), "");
        assert_eq!(query_of("http://h/?a=b?c#d?e"), "?a=b?c");
    }
}
