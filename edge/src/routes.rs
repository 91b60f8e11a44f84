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

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Home,
    Live,
    Health,
    Ingest(Door),
    Pass,
    #[cfg(feature = "test-panic")]
    Panic,
}

fn route(method: &Method, path: &str) -> Option<Route> {
    match (method, path) {
        (Method::Post, "/predict") => Some(Route::Ingest(Door::Predict)),
        (Method::Post, "/data" | "/v1/jobs") => Some(Route::Ingest(Door::Jobs)),
        (Method::Get | Method::Head, "/") => Some(Route::Home),
        (Method::Get | Method::Head, "/health") => Some(Route::Health),
        // Not passed on: whether this process lives does not hang on another one.
        (Method::Get | Method::Head, "/livez") => Some(Route::Live),
        (Method::Get | Method::Head, "/readyz" | "/results" | "/v1/snapshot" | "/v1/catalog") => Some(Route::Pass),
        (Method::Get | Method::Head, path) if is_job(path) => Some(Route::Pass),
        (Method::Post, "/feedback") => Some(Route::Pass),
        #[cfg(feature = "test-panic")]
        (Method::Post, "/__panic") => Some(Route::Panic),
        _ => None,
    }
}

fn is_job(path: &str) -> bool {
    path.strip_prefix("/v1/jobs/").is_some_and(is_id)
}

/// Why a request has no route: the path has other methods, or it is none.
fn no_route(path: &str) -> Failure {
    let methods = [Method::Get, Method::Head, Method::Post];
    let allow: Vec<&str> = methods.iter().filter(|method| route(method, path).is_some()).map(AsRef::as_ref).collect();
    if allow.is_empty() { Failure::not_found() } else { Failure::method_not_allowed(allow.join(", ")) }
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
        Route::Ingest(_) | Route::Pass => {}
    }
    let config = settings.as_ref().as_ref().map_err(|faults| Failure::misconfigured(faults))?;
    let mut visit = Visit { config, origin: Origin::of(config, env)?, ctx, line };
    match route {
        Route::Ingest(door) => ingest::handle(door, request, &mut visit).await,
        _ => pass(request, &mut visit).await,
    }
}

/// Hands a request on as it is, and the answer back as it is.
async fn pass(mut request: Request, visit: &mut Visit<'_>) -> Result<Response, Failure> {
    let body = match request.method() {
        Method::Post => Some(body::read(&mut request, visit.config.max_body_bytes).await?),
        _ => None,
    };
    let target = visit.target(&request);
    let headers = passed_on(request.headers(), &visit.line.request_id);
    let limit = Limit::Timeout(visit.config.jobs_timeout_ms);
    visit.send(Call { method: request.method(), target: &target, headers, body: body.as_deref(), limit }).await
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

    #[test]
    fn readings_go_through_the_edge_and_questions_past_it() {
        assert_eq!(route(&Method::Post, "/predict"), Some(Route::Ingest(Door::Predict)));
        assert_eq!(route(&Method::Post, "/data"), Some(Route::Ingest(Door::Jobs)));
        assert_eq!(route(&Method::Post, "/v1/jobs"), Some(Route::Ingest(Door::Jobs)));
        assert_eq!(route(&Method::Get, "/v1/jobs/0f-1"), Some(Route::Pass));
        assert_eq!(route(&Method::Head, "/results"), Some(Route::Pass));
    }

    #[test]
    fn a_path_is_taken_literally() {
        for path in ["", "/predict/", "/Predict", "/v1/jobs/", "/v1/jobs/a/b", "/v1/jobs/a%2Fb", "/__panic"] {
            assert_eq!(route(&Method::Get, path), None, "{path}");
        }
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let text = |path| no_route(path).log_text();
        assert_eq!(text("/predict"), "method-not-allowed: this path takes: POST");
        assert_eq!(text("/results"), "method-not-allowed: this path takes: GET, HEAD");
        assert!(text("/nope").starts_with("not-found"));
    }

    #[test]
    fn the_query_is_kept_as_it_is() {
        assert_eq!(query_of("http://h/results?limit=5&task=a%20b"), "?limit=5&task=a%20b");
        assert_eq!(query_of("http://h/results"), "");
        assert_eq!(query_of("http://h/?a=b?c#d?e"), "?a=b?c");
    }
}
