//! Finding a decision by a job's id or a request's, whichever process made it.
//!
//! A job that has not ended lies in the queue, one that has in its result. Of a request this process may know itself;
//! what others answered they wrote beside the queue.

use std::sync::Arc;

use super::Case;
use crate::app::App;
use crate::learning::answers;
use crate::queue::{Entry, QueueError};

/// A decision, where it was found, and how far the reading is.
#[derive(Debug, Clone)]
pub struct Found {
    /// The decision.
    pub case: Arc<Case>,
    /// `result`, `queue`, `memory` or `store`.
    pub from: &'static str,
    /// The job's state, or the outcome's name.
    pub state: String,
}

impl Found {
    fn ended(case: Arc<Case>, from: &'static str) -> Self {
        let state = case.end.as_ref().map_or("queued", |end| end.outcome.as_str()).to_owned();
        Self { case, from, state }
    }
}

/// The decision under an id; none where nothing (more) is known of it.
///
/// # Errors
/// [`QueueError`], where this process does not know it by itself.
pub async fn find(app: &App, id: &str) -> Result<Option<Found>, QueueError> {
    let catalog = app.engine.catalog();
    if let Some(task) = Entry::task_of(id).filter(|task| catalog.task(task).is_some())
        && let Some(found) = of_job(app, task, id).await?
    {
        return Ok(Some(found));
    }
    let Some(case) = app.decisions.recent(id) else { return of_others(app, id).await };
    match case.job_id.clone() {
        // Its result may be gone by now: what was decided at first is still known here.
        Some(job_id) => {
            let found = of_job(app, &case.task, &job_id).await?;
            Ok(Some(found.unwrap_or_else(|| Found { case, from: "memory", state: "unknown".to_owned() })))
        }
        None => Ok(Some(Found::ended(case, "memory"))),
    }
}

/// Of a job, from its result or from the queue.
async fn of_job(app: &App, task: &str, job_id: &str) -> Result<Option<Found>, QueueError> {
    // It may end between the two looks: then the result is there the second time.
    for _ in 0..2 {
        let Some(state) = app.queue.job(task, job_id).await? else { return Ok(None) };
        if let Some(result) = state.result {
            return Ok(Case::of_result(&result).map(|case| Found::ended(Arc::new(case), "result")));
        }
        if let Some(entry) = app.queue.entry(task, job_id).await? {
            return Ok(Some(Found { case: Arc::new(Case::of_job(&entry)), from: "queue", state: state.state }));
        }
    }
    Ok(None)
}

/// What another process wrote beside the queue.
async fn of_others(app: &App, request_id: &str) -> Result<Option<Found>, QueueError> {
    match answers::decision(app, request_id).await? {
        Some(answers::Decided::Job { task, job_id }) => of_job(app, &task, &job_id).await,
        Some(answers::Decided::Call(case)) => Ok(Some(Found::ended(Arc::new(*case), "store"))),
        None => Ok(None),
    }
}
