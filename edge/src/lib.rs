//! Infer Router at the edge: checks a reading, decides which tier should answer it, forwards it.
//!
//! In reading order: [`routes`] says which path gets what; [`ingest`] is a reading's way through;
//! [`plan`] judges and decides, with nothing but data; [`origin`] talks to the native service;
//! [`state`] is all that outlives a request. The decision is advice: the native service checks and
//! decides again, and stays right if every edge is wrong. This file only adapts the runtime's event.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod answer;
mod body;
mod catalog;
mod clock;
mod config;
mod error;
mod ingest;
mod log;
mod origin;
mod plan;
mod refresh;
mod request_id;
mod routes;
mod state;
mod views;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use worker::{Context, Env, Request, Response, event};

use crate::error::Failure;
use crate::log::Line;

/// Answers one request, whatever happens: an `Err` from here would be a bare text, and a panic that gets through would
/// take the isolate's other requests with it.
#[event(fetch)]
async fn fetch(request: Request, env: Env, ctx: Context) -> worker::Result<Response> {
    let mut line = Line::of(&request);
    let outcome = AssertUnwindSafe(routes::handle(request, &env, &ctx, &mut line))
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(Failure::panicked(panic.as_ref())));
    let response = outcome.unwrap_or_else(|failure| {
        line.failed(&failure);
        failure.to_response(&line.path, &line.request_id)
    });
    line.write(response.status_code());
    Ok(response)
}
