//! Answers that may be labelled, where every process finds them: written behind the answers, found by any of their ids.
//!
//! A job's result says all that a label needs, for as long as it is kept. For calls that were answered at once, and for
//! the request ids of jobs, what is new in the ledger is written in groups, `LABEL_RECORDS_PER_SECOND` at the most, the
//! newest first; a process that dies takes what it gave within the last [`EVERY`] along. What was decided for a call
//! lies in the same record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::now_ms;
use crate::decisions::Case;
use crate::decisions::packed::Packed;
use crate::engine::Prediction;
use crate::queue::{Entry, QueueError};
use crate::rollout::ledger::{Unwritten, name_of};
use crate::rollout::{Answered, Assignment, First, Known};
use crate::routing::{Cascaded, DecisionRecord};

/// How often what is new is written.
pub const EVERY: Duration = Duration::from_millis(100);

/// An answer as it is stored beside the queue.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    model: String,
    version: u32,
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prediction: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    propensity: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// No evidence in a rollout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
    /// What answered before it and was in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<FirstRecord>,
    /// What a cascade did, of a call: beside its case, whose form an older process knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cascade: Option<Box<Cascaded>>,
    /// What was decided, of a call; a job's own records tell of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    case: Option<Packed>,
}

/// A first answer as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct FirstRecord {
    model: String,
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prediction: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    propensity: Option<f32>,
}

/// What was decided for a request.
#[derive(Debug)]
pub enum Decided {
    /// It became this job, whose own records tell.
    Job {
        /// The task.
        task: String,
        /// The job.
        job_id: String,
    },
    /// It was answered at once.
    Call(Box<Case>),
}

/// What a job's result says of its answer.
#[derive(Debug, Deserialize)]
struct Told {
    model: String,
    model_version: u32,
    finished_at: u64,
    #[serde(default)]
    prediction: serde_json::Value,
    #[serde(default)]
    propensity: Option<f32>,
    #[serde(default)]
    pinned: bool,
    #[serde(default)]
    decision: DecisionRecord,
}

/// Writes what is new until shutdown, and once more then.
pub async fn run(app: App, shutdown: CancellationToken) {
    let a_second = u32::try_from(Duration::from_secs(1).as_millis() / EVERY.as_millis()).unwrap_or(1);
    let most = usize::try_from(app.config.learning.records_per_second.div_ceil(a_second)).unwrap_or(usize::MAX);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reachable = true;
    loop {
        let goes_on = shutdown.run_until_cancelled(ticks.tick()).await.is_some();
        let new = app.ledger.unwritten(most);
        match write(&app, &new).await {
            Ok(()) => {
                app.metrics.records_skipped(new.skipped);
                app.ledger.written(&new);
                reachable = true;
            }
            // They are still there the next time, as far as there is room for them then.
            Err(error) if reachable => {
                reachable = false;
                tracing::warn!(%error, "answers cannot be kept for labels yet; this process still knows its own");
            }
            Err(_) => {}
        }
        if !goes_on {
            return;
        }
    }
}

async fn write(app: &App, new: &Unwritten) -> Result<(), QueueError> {
    let mut by_task: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for (request_id, job_id, known) in &new.answers {
        let answered = &known.answered;
        let case = case_of(app, request_id, job_id.as_deref());
        let record = Record {
            model: answered.model.to_string(),
            version: answered.assignment.version,
            at: known.at,
            prediction: answered.prediction.as_deref().map(str::to_owned),
            propensity: answered.propensity,
            job_id: job_id.as_deref().map(str::to_owned),
            pinned: !answered.assignment.is_compared(),
            first: answered.first.as_ref().map(|first| FirstRecord {
                model: first.model.to_string(),
                version: first.assignment.version,
                prediction: first.prediction.as_deref().map(str::to_owned),
                propensity: first.propensity,
            }),
            cascade: case.as_ref().and_then(|case| case.decision.cascade.clone()),
            case: case.map(|case| Packed::from(&*case)),
        };
        let record = serde_json::to_string(&record).map_err(|error| QueueError::Corrupt(error.to_string()))?;
        by_task.entry(&answered.task).or_default().push((request_id.to_string(), record));
    }
    for (task, answers) in by_task {
        app.queue.keep_answers(task, answers).await?;
    }
    Ok(())
}

fn case_of(app: &App, request_id: &str, job_id: Option<&str>) -> Option<Arc<Case>> {
    app.decisions.recent(request_id).filter(|case| job_id.is_none() && case.job_id.is_none())
}

/// What was decided for a request, whichever process answered it; none where that was not written, or is out of date.
///
/// # Errors
/// [`QueueError`].
pub async fn decision(app: &App, request_id: &str) -> Result<Option<Decided>, QueueError> {
    let Some((task, record)) = kept(app, request_id, now_ms()).await? else { return Ok(None) };
    Ok(match (record.job_id, record.case) {
        (Some(job_id), _) => Some(Decided::Job { task, job_id }),
        (None, case) => case.map(|case| {
            let by = (record.model.as_str(), record.version);
            let mut case = case.into_case((request_id, &task), by);
            case.decision.cascade = record.cascade;
            Decided::Call(Box::new(case))
        }),
    })
}

/// The answer under a job id or request id, whichever process gave it.
///
/// # Errors
/// [`QueueError`].
pub async fn find(app: &App, id: &str, now_ms: u64) -> Result<Option<Known>, QueueError> {
    let index = app.engine.index();
    if let Some(task) = Entry::task_of(id).filter(|task| index.tasks.contains_key(*task))
        && let Some(known) = of_job(app, task, id).await?
    {
        return Ok(Some(known));
    }
    Ok(kept(app, id, now_ms).await?.map(|(task, record)| record.into_known(app, &task, id)))
}

/// The record under a request's id, and its task. All tasks are asked at once: the id says nothing of its task, and one
/// look after the other would cost an unknown id a round trip for each.
async fn kept(app: &App, id: &str, now_ms: u64) -> Result<Option<(String, Record)>, QueueError> {
    let index = app.engine.index();
    let looks = index.tasks.keys().map(|task| async { (task.clone(), app.queue.kept_answer(task, id).await) });
    let ttl = u64::try_from(app.config.queue.label_ttl.as_millis()).unwrap_or(u64::MAX);
    first_of(join_all(looks).await, now_ms.saturating_sub(ttl))
}

/// The first record that is not older than `oldest`, in Unix milliseconds; a task that could not be asked counts only
/// where no other has one.
fn first_of(
    looked: Vec<(String, Result<Option<String>, QueueError>)>,
    oldest: u64,
) -> Result<Option<(String, Record)>, QueueError> {
    let mut failed = None;
    for (task, text) in looked {
        let text = match text {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        match serde_json::from_str::<Record>(&text) {
            Ok(record) if record.at >= oldest => return Ok(Some((task, record))),
            Ok(_) => {}
            Err(error) => tracing::warn!(task, %error, "an answer kept for labels cannot be read"),
        }
    }
    failed.map_or(Ok(None), Err)
}

async fn of_job(app: &App, task: &str, job_id: &str) -> Result<Option<Known>, QueueError> {
    let Some(result) = app.queue.job(task, job_id).await?.and_then(|state| state.result) else { return Ok(None) };
    // A result without an answer has nothing to label.
    let Ok(told) = serde_json::from_str::<Told>(result.get()) else { return Ok(None) };
    if told.prediction.is_null() {
        return Ok(None);
    }
    let first = told.decision.escalated().map(|cascaded| {
        let from = &cascaded.from;
        let prediction = match &from.prediction {
            Some(Prediction::Class(class)) => Some(Arc::from(class.as_str())),
            Some(Prediction::Value(_)) | None => None,
        };
        Box::new(First {
            model: Arc::from(from.model.as_str()),
            assignment: assignment(app, task, &from.model, from.version, false),
            prediction,
            propensity: told.decision.propensity_of_the_first(),
        })
    });
    let answered = Answered {
        task: Arc::from(task),
        model: Arc::from(told.model.as_str()),
        assignment: assignment(app, task, &told.model, told.model_version, told.pinned),
        prediction: told.prediction.as_str().map(Arc::from),
        propensity: told.propensity,
        first,
    };
    Ok(Some(Known { answered, name: job_id.to_owned(), at: told.finished_at, is_job: true }))
}

impl Record {
    fn into_known(self, app: &App, task: &str, request_id: &str) -> Known {
        let answered = Answered {
            task: Arc::from(task),
            model: Arc::from(self.model.as_str()),
            assignment: assignment(app, task, &self.model, self.version, self.pinned),
            prediction: self.prediction.as_deref().map(Arc::from),
            propensity: self.propensity,
            first: self.first.as_ref().map(|first| {
                Box::new(First {
                    model: Arc::from(first.model.as_str()),
                    assignment: assignment(app, task, &first.model, first.version, false),
                    prediction: first.prediction.as_deref().map(Arc::from),
                    propensity: first.propensity,
                })
            }),
        };
        let name = name_of(request_id, self.job_id.as_deref(), self.at);
        Known { answered, name, at: self.at, is_job: self.job_id.is_some() }
    }
}

/// The version's part in the rollout as it is now: which it was when the answer was given, only the process knows that
/// gave it.
pub(crate) fn assignment(app: &App, task: &str, model: &str, version: u32, pinned: bool) -> Assignment {
    match app.engine.index().model(task, model).map(|model| &model.rollout) {
        Some(rollout) if pinned => rollout.pinned(version),
        Some(rollout) => rollout.planned(version),
        None => Assignment::outside(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_whatever_else_could_not_be_asked() {
        let record = |at: u64| Ok(Some(format!(r#"{{"model": "m", "version": 1, "at": {at}}}"#)));
        let look = |task: &str, text: Result<Option<String>, QueueError>| (task.to_owned(), text);
        let away = || Err(QueueError::Closed);
        let task = |looked| first_of(looked, 100).map(|found| found.map(|(task, _)| task)).map_err(|_| ());
        assert_eq!(task(vec![look("a", away()), look("b", record(100))]), Ok(Some("b".to_owned())));
        assert_eq!(task(vec![look("a", record(99)), look("b", Ok(Some("torn".to_owned())))]), Ok(None));
        assert_eq!(task(vec![look("a", Ok(None)), look("b", away()), look("c", Ok(None))]), Err(()));
        assert_eq!(task(vec![]), Ok(None));
    }
}
