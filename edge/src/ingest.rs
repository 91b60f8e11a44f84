//! A reading's way through the edge: admit, check, decide, forward the same bytes.

use shared::headers;
use worker::js_sys::Uint8Array;
use worker::{Request, Response};

use crate::error::Failure;
use crate::origin::{self, Call, Limit};
use crate::plan::{Forward, plan};
use crate::routes::{Door, Visit};
use crate::{answer, body, clock, refresh, state};

/// Handles one reading.
pub(crate) async fn handle(door: Door, mut request: Request, visit: &mut Visit<'_>) -> Result<Response, Failure> {
    let body = body::read(&mut request, visit.config.max_body_bytes).await?;
    // Taken after the body is here: a slow sender must not make the snapshot look younger than it is.
    let now_ms = clock::now_ms();
    let known = state::catalog(|keeper| keeper.known(now_ms));
    let plan = state::snapshots(|snapshots| {
        plan((&body, &visit.line.request_id), known.as_ref(), snapshots, visit.config, now_ms)
    });
    if plan.refresh {
        refresh::snapshots(visit.ctx, &visit.origin);
    }
    let forward = plan.outcome?;
    note(&forward, visit);
    if let Some(task) = &forward.task {
        // What came before under its key is answered as then, and only the origin knows.
        let is_repeatable = answer::get(request.headers(), headers::IDEMPOTENCY_KEY).is_some();
        if let Some(after_ms) = forward.shed_ms.filter(|_| !is_repeatable) {
            return Err(Failure::shed(task, forward.class, after_ms));
        }
        state::snapshots(|snapshots| snapshots.count_sent(task));
    }

    let map = origin::passed_on(request.headers(), &visit.line.request_id);
    advise(&forward, &map, state::keeper(&visit.line.request_id));
    let limit = match door {
        Door::Predict => Limit::shorter(visit.config.predict_timeout_ms, forward.deadline_ms),
        Door::Jobs => Limit::Timeout(visit.config.jobs_timeout_ms),
    };
    let target = visit.target(&request);
    let call = Call {
        method: request.method(),
        target: &target,
        headers: map,
        body: Some(Uint8Array::from(body.as_slice()).into()),
        limit,
    };
    visit.send(call).await
}

fn note(forward: &Forward, visit: &mut Visit<'_>) {
    let line = &mut *visit.line;
    line.task.clone_from(&forward.task);
    line.tier = Some(headers::ROUTE_AUTO.to_owned());
    if let Some(advice) = &forward.advice {
        line.tier = Some(advice.tier.clone());
        line.reason = Some(advice.reason.name());
        line.snapshot_age_ms = Some(advice.snapshot_age_ms);
        line.mode = Some(advice.mode.name());
    }
}

fn advise(forward: &Forward, map: &worker::Headers, keeper: u64) {
    answer::set(map, headers::ROUTE_KEEPER, &format!("{keeper:x}"));
    let Some(advice) = &forward.advice else {
        answer::set(map, headers::ROUTE, headers::ROUTE_AUTO);
        return;
    };
    answer::set(map, headers::ROUTE, &advice.tier);
    answer::set(map, headers::ROUTE_REASON, advice.reason.name());
    answer::set(map, headers::ROUTE_DEPTH, &advice.depth.to_string());
    answer::set(map, headers::ROUTE_SNAPSHOT_AGE, &advice.snapshot_age_ms.to_string());
    answer::set(map, headers::ROUTE_MODE, &advice.mode.number().to_string());
    answer::set(map, headers::ROUTE_PROPENSITY, &advice.propensity.to_string());
    answer::set(map, headers::ROUTE_SHARE, &advice.share.to_string());
}
