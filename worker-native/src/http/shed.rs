//! Readings that are turned away because their class is being shed: counted, noted, and told when to come back.
//!
//! Whom it meets is the plan's to say (`shared::policy`); that would be late even alone is no reason here, since only runs
//! mend a wrong profile. Owns what is done with such a reading, which is nothing but this.

use std::time::{Duration, Instant};

use shared::problem::shed_detail;
use shared::reading::Request;

use super::error::ApiError;
use crate::app::App;
use crate::clock::now_ms;
use crate::decisions::{Case, SHED};
use crate::engine::PoolError;
use crate::queue::Priority;
use crate::routing::Routed;

/// A hand-in that is turned away.
#[derive(Debug)]
pub(super) struct Shed<'a> {
    pub(super) task: &'a str,
    pub(super) class: Priority,
    pub(super) left: Option<Duration>,
    /// When to come back, in milliseconds.
    pub(super) after_ms: u32,
}

impl Shed<'_> {
    fn note(&self, app: &App) -> String {
        app.planner.shed(self.task, self.left, self.class);
        app.metrics.shed(self.task, self.class);
        shed_detail(self.task, self.class, self.after_ms)
    }

    /// Turns a job away.
    pub(super) fn job(&self, app: &App, case: Case) -> ApiError {
        let detail = self.note(app);
        app.metrics.hand_in(self.task, "shed");
        app.decisions.refused(case, SHED, &detail);
        ApiError::shed(detail, self.after_ms)
    }
}

/// Turns a call away where its class is being shed; none where it is to be answered.
pub(super) fn call(
    app: &App,
    (request, request_id): (&Request<'_>, &str),
    routed: &Routed,
    started: Instant,
) -> Option<PoolError> {
    let after_ms = routed.shed_ms?;
    let (task, class) = (request.task.schema.name.as_str(), request.priority.unwrap_or_default());
    let shed = Shed { task, class, left: request.deadline_ms.map(Duration::from_millis), after_ms };
    let error = PoolError::Shed { detail: shed.note(app), after_ms };
    let ended = (now_ms(), started.elapsed());
    app.decisions.tell(Case::of_call((request_id, task), routed, Err(&error), ended));
    Some(error)
}
