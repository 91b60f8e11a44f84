//! One reading's answer: from the cache or a run, with everything that is learned from it.
//!
//! Every door and the consumer come through here, so that each answer is counted, may be labelled
//! later, feeds its rollout and is shadowed in the same way. Which version answers is `routing`'s,
//! whether another one is asked after it `cascade`'s.

mod cascade;
pub mod remote;

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::reading::{Input, Priority};

use crate::app::App;
use crate::cache::{CacheStatus, Part};
use crate::clock::now_ms;
use crate::engine::{Answer, Card, ModelVersion, PoolError, Prediction, Row, RunFacts};
use crate::learning::answers;
use crate::rollout::shadow::Compared;
use crate::rollout::{Answered, Assignment, First, Rollout, Run};
use crate::routing::{Binding, Cascaded, DecisionRecord};

/// How long after its pool a waiting reading is given up here: two timers of one moment have no order.
const AFTER_THE_POOL: Duration = Duration::from_millis(2);

/// What is asked of a version.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The version that is to answer.
    pub version: &'a Arc<ModelVersion>,
    /// Its part in the rollout.
    pub assignment: &'a Assignment,
    /// The model's rollout.
    pub rollout: &'a Arc<Rollout>,
    /// The reading.
    pub input: &'a Input,
    /// When the answer stops being wanted.
    pub deadline: Option<Instant>,
    /// The request's id.
    pub request_id: &'a str,
    /// The job's id, for a job.
    pub job_id: Option<&'a str>,
    /// Who measured, where told.
    pub sensor_id: Option<&'a str>,
    /// Why this version, where that is kept with the answer.
    pub decision: Option<&'a DecisionRecord>,
    /// What of it a worker may change that the reading is handed to, and a cascade.
    pub binding: Binding,
    /// How urgent the reading is.
    pub class: Priority,
    /// Another process waits for the answer, and knows it by a name of its own.
    pub awaited: bool,
}

/// An answer, and how it came about.
#[derive(Debug, Clone)]
pub struct Given {
    /// The answer.
    pub answer: Answer,
    /// What read it: another file may have taken the version's place meanwhile.
    pub card: Arc<Card>,
    /// Was it computed for this request?
    pub cache: CacheStatus,
    /// What a cascade made of the first answer; none where none was in force.
    pub cascaded: Option<Cascaded>,
    /// The last answer's version in its model's rollout, where it is not the version that was asked first.
    pub assignment: Option<Assignment>,
}

impl Given {
    const fn new(answer: Answer, card: Arc<Card>, cache: CacheStatus) -> Self {
        Self { answer, card, cache, cascaded: None, assignment: None }
    }

    /// The first answer, where another one came after it.
    #[must_use]
    pub fn escalated(&self) -> Option<&Cascaded> {
        self.cascaded.as_ref().filter(|cascaded| cascaded.is_escalated())
    }
}

/// A run that gave no row to keep.
enum NoRow {
    Failed(PoolError),
    // The row of a file that took this version's place: good for an answer, but not under this version's key.
    Moved(Row),
}

/// Answers one reading, at the deadline at the latest.
///
/// # Errors
/// [`PoolError`].
pub async fn answer(app: &App, asked: Asked<'_>) -> Result<Given, PoolError> {
    // A job is run here, whatever the role: it has been through the queue.
    let given = if app.config.role.consumes() || asked.job_id.is_some() {
        cascade::answer(app, &asked).await
    } else {
        let started = Instant::now();
        // Boxed: it is the larger by far, and most processes never take it.
        let given = Box::pin(remote::answer(app, &asked)).await;
        count(app, &asked, (&given, started), None);
        given.inspect(|given| saw(app, &asked, given, None))
    };
    given.inspect(|given| remember(app, &asked, given))
}

/// Asks one version, and counts what came of it.
async fn ask(app: &App, asked: &Asked<'_>) -> Result<(Given, Option<RunFacts>), PoolError> {
    let started = Instant::now();
    let (given, run) = match within(asked.deadline, answer_unbounded(app, asked)).await {
        Ok((given, run)) => (Ok(given), run),
        Err(error) => (Err(error), None),
    };
    count(app, asked, (&given, started), run);
    if let (Ok(given), Some(run)) = (&given, run) {
        shadow(app, asked, given, run);
    }
    given.map(|given| (given, run))
}

/// Counts an answer of one version, or its failure, in the metrics and in its rollout.
fn count(app: &App, asked: &Asked<'_>, (given, started): (&Result<Given, PoolError>, Instant), run: Option<RunFacts>) {
    let (metrics, card) = (asked.version.metrics(), asked.version.card());
    if asked.rollout.is_canary() && asked.assignment.is_compared() {
        app.metrics.canary(&card.task, &card.model, asked.assignment.version != asked.rollout.default_version());
    }
    match given {
        Ok(_) => {
            metrics.answered(started.elapsed());
            if let Some(run) = run {
                count_run(app, asked, if run.first { Run::Ended { ms: millis(run.took) } } else { Run::Shared });
            }
        }
        Err(error) => {
            // A job tries again by itself where the queue is full: that is no failure yet.
            if *error != PoolError::Full || asked.job_id.is_none() {
                metrics.failed();
            }
            match error {
                PoolError::Failed(_) => count_run(app, asked, Run::Failed),
                // Nobody stays to see how long it takes; a version that hangs must not look like one that never ran.
                PoolError::Expired { run: Some(run) } if run.first => {
                    count_run(app, asked, Run::Ended { ms: millis(run.took) });
                }
                _ => {}
            }
        }
    }
}

async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, PoolError>>,
) -> Result<T, PoolError> {
    match deadline {
        None => work.await,
        // One that waits for an identical reading's run has a deadline of its own; whose own run it is, the pool tells
        // more, and first.
        Some(deadline) => {
            let after = deadline.checked_add(AFTER_THE_POOL).unwrap_or(deadline);
            tokio::time::timeout_at(after.into(), work).await.unwrap_or(Err(PoolError::Expired { run: None }))
        }
    }
}

async fn answer_unbounded(app: &App, asked: &Asked<'_>) -> Result<(Given, Option<RunFacts>), PoolError> {
    let version = asked.version;
    let read = |values: &[f32], card: &Card| card.read(values, asked.input).map_err(PoolError::Failed);
    // What is unloaded answers nothing, not even what it said before.
    if !version.is_servable() {
        return Err(version.unavailable());
    }
    if !app.cache.is_on() {
        let row = version.row(asked.input.clone(), asked.deadline).await?;
        let answer = read(&row.values, &row.card)?;
        return Ok((Given::new(answer, row.card, CacheStatus::Off), Some(row.run)));
    }
    let key = version.key_base().key(&[match asked.input {
        Input::Features(features) => Part::Features(features),
        Input::Text(text) => Part::Text(text),
    }]);
    let facts = std::sync::OnceLock::new();
    let run = async {
        let row = version.row(asked.input.clone(), asked.deadline).await.map_err(NoRow::Failed)?;
        facts.get_or_init(|| row.run);
        if !Arc::ptr_eq(&row.card, version.card()) {
            return Err(NoRow::Moved(row));
        }
        // What cannot be read must not be kept.
        read(&row.values, &row.card).map_err(NoRow::Failed)?;
        Ok(row.values.into())
    };
    let service = Duration::from_micros(version.service_us().unwrap_or_default().into());
    let (answer, card, cache) = match app.cache.get_or_run(&key, service, run).await {
        Ok((values, cache)) => (read(&values, version.card())?, Arc::clone(version.card()), cache),
        Err(NoRow::Moved(row)) => (read(&row.values, &row.card)?, row.card, CacheStatus::Miss),
        Err(NoRow::Failed(error)) => return Err(error),
    };
    Ok((Given::new(answer, card, cache), facts.get().copied()))
}

/// Takes in what a reading's first answer shows: what is read these days, and how two tiers agree.
///
/// Only of the first: the readings that come to another tier since an answer was in doubt are not those that are usual.
fn saw(app: &App, asked: &Asked<'_>, given: &Given, run: Option<RunFacts>) {
    app.learning.inputs.saw(&given.card.task, asked.input, now_ms(), || given.card.usual_fields());
    if run.is_some() {
        app.learning.pairs.saw(app, asked.request_id, asked.input, &given.card, &given.answer);
    }
}

/// Keeps an answer for a later label.
fn remember(app: &App, asked: &Asked<'_>, given: &Given) {
    if asked.awaited {
        return;
    }
    let (task, model) = (given.card.task.as_str(), given.card.model.as_str());
    let own = asked.version.card();
    let is_own = |model: &str, version: u32| model == own.model && version == own.version;
    // A worker may have given a reading that went through the queue to another tier's model.
    let same = is_own(model, given.card.version);
    let drawn = |same| asked.decision.filter(|_| same).and_then(DecisionRecord::propensity_of_the_answer);
    let (assignment, propensity) = match &given.assignment {
        Some(assignment) => (assignment.clone(), None),
        None if same => (asked.assignment.clone(), drawn(true)),
        None => (Assignment::outside(given.card.version), None),
    };
    let first = given.escalated().map(|cascaded| {
        let from = &cascaded.from;
        let same = is_own(&from.model, from.version);
        let assignment = if same {
            asked.assignment.clone()
        } else {
            answers::assignment(app, task, &from.model, from.version, false)
        };
        Box::new(First {
            model: from.model.as_str().into(),
            assignment,
            prediction: from.prediction.as_ref().and_then(class_of),
            propensity: drawn(same),
        })
    });
    let prediction = class_of(&given.answer.prediction);
    let answered = Answered { task: task.into(), model: model.into(), assignment, prediction, propensity, first };
    app.ledger.remember(asked.request_id, asked.job_id, answered, now_ms());
}

/// The class that a label may be held against; none of a number.
fn class_of(prediction: &Prediction) -> Option<Arc<str>> {
    match prediction {
        Prediction::Class(class) => Some(Arc::from(class.as_str())),
        Prediction::Value(_) => None,
    }
}

fn count_run(app: &App, asked: &Asked<'_>, run: Run) {
    let card = asked.version.card();
    if asked.rollout.ran(asked.assignment, run, now_ms()).is_some() {
        app.metrics.rollback(&card.task, &card.model);
    }
}

/// Runs the model's shadow version beside an answer that was computed for this request.
fn shadow(app: &App, asked: &Asked<'_>, given: &Given, run: RunFacts) {
    let key = asked.sensor_id.unwrap_or(asked.request_id);
    let Some(shadow) = asked.rollout.shadow(key, asked.assignment.version) else { return };
    let card = &given.card;
    let Some(version) = app.engine.version(&card.task, &card.model, shadow.version()) else { return };
    let answered = compared(&given.answer, run);
    let (metrics, prediction) = (app.metrics.clone(), answered.prediction.clone());
    shadow.run_beside(asked.request_id, answered, || {
        let input = asked.input.clone();
        async move {
            let card = Arc::clone(version.card());
            let found = version.row(input.clone(), None).await.and_then(|row| {
                let answer = row.card.read(&row.values, &input).map_err(PoolError::Failed)?;
                Ok(compared(&answer, row.run))
            });
            let agreed = found.as_ref().ok().map(|found| found.prediction == prediction);
            metrics.shadow(&card.task, &card.model, agreed);
            found
        }
    });
}

fn compared(answer: &Answer, run: RunFacts) -> Compared {
    let score = match answer.prediction {
        Prediction::Class(_) => answer.anomaly_score.unwrap_or_default(),
        Prediction::Value(value) => value,
    };
    Compared { prediction: answer.prediction.to_string(), score: score.into(), run_ms: millis(run.took) }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}
