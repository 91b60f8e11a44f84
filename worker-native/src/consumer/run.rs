//! One claimed job, from its claim to its ending.

use std::sync::Arc;
use std::time::Duration;

use shared::reading::Input;
use shared::schema::TaskSchema;
use tokio::time::Instant;

use super::Consumer;
use super::going::Started;
use super::held::Hold;
use super::settle::{Departure, Failure};
use crate::answering::{self, Asked, Given};
use crate::engine::PoolError;
use crate::queue::{Claimed, Entry};
use crate::routing::{Binding, DecisionRecord};

/// How often a reading that found its model's queue full tries again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

impl Consumer {
    /// Runs a job and settles it, unless it is called off.
    ///
    /// `started` is its part in a run that others wait behind; it goes when the model has answered.
    pub(super) async fn run_job(
        &self,
        job: &Claimed,
        (claimed_at, hopeless): (Instant, bool),
        (hold, started): (&Hold, Option<Arc<Started>>),
    ) {
        let work = self.run_held(job, (claimed_at, hopeless), started);
        if hold.called_off().run_until_cancelled(work).await.is_none() {
            tracing::info!(job_id = %job.ticket.job_id, attempt = job.attempt, "job called off: cancelled, or taken over");
        }
    }

    async fn run_held(&self, job: &Claimed, (claimed_at, hopeless): (Instant, bool), started: Option<Arc<Started>>) {
        let exhausted = job.attempt > self.app.config.queue.max_attempts;
        let entry = match &job.entry {
            Ok(entry) => entry,
            Err(fault) if exhausted => return self.bury_unreadable(job, fault).await,
            // A consumer of a newer version may be able to read it: left to its lease.
            Err(fault) => {
                return tracing::warn!(task = %self.task, job_id = %job.ticket.job_id, fault, "an entry cannot be read");
            }
        };
        let stand_in = self.stand_in(job, entry);
        let entry = stand_in.as_ref().unwrap_or(entry);
        let load = self.app.snapshots.load(&self.task);
        let deadline = job.left.and_then(|left| claimed_at.checked_add(left));
        let ended = if exhausted {
            Err(Failure::Dead(format!("started {} times without an end", job.attempt - 1)))
        } else if hopeless || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Err(Failure::Expired { started: false })
        } else {
            self.infer(entry, deadline).await
        };
        drop(started);
        let cascaded = ended.as_ref().ok().and_then(|given| cascaded(entry, given));
        let entry = cascaded.as_ref().unwrap_or(entry);
        let accuracy = entry.decision.tier.as_deref().and_then(|tier| load.accuracy_of(tier));
        let departure = Departure { depth: load.depth(), accuracy, claimed_at };
        self.end(job, entry, departure, ended.map(|given| given.answer)).await;
    }

    /// The job for another version, where its own is not in the repository and did not come within a lease.
    ///
    /// A process that has the version may only be a poll ahead of this one; if there is none, the job would wait for
    /// ever and count in the backlog.
    fn stand_in(&self, job: &Claimed, entry: &Entry) -> Option<Entry> {
        let index = self.app.engine.index();
        let known = index.version(&entry.task, &entry.model, entry.model_version).is_some();
        if known || job.waited <= self.app.config.queue.lease {
            return None;
        }
        let task = index.tasks.get(&entry.task)?;
        let tier = entry.decision.tier.as_ref();
        let of_tier = || task.models.values().find(|model| model.folder.tier.as_ref() == tier);
        let model = task.models.get(&entry.model).or_else(of_tier).or_else(|| task.models.values().next())?;
        let decision = DecisionRecord { tier: model.folder.tier.clone(), ..entry.decision.clone() };
        // Pinned: what stands in is no evidence in a trial, and nothing to ask again.
        let (name, model_version) = (model.folder.name.clone(), model.default_version);
        let binding = Binding { movable: false, ..entry.binding };
        Some(Entry { model: name, model_version, fallback: true, pinned: true, binding, decision, ..entry.clone() })
    }

    async fn infer(&self, entry: &Entry, deadline: Option<Instant>) -> Result<Given, Failure> {
        let index = self.app.engine.index();
        let version = index
            .version(&entry.task, &entry.model, entry.model_version)
            .ok_or_else(|| Failure::Unstarted(format!("{} v{} is not here", entry.model, entry.model_version)))?;
        let schema = index.catalog.task(&entry.task).map(|task| &task.schema);
        if !schema.is_some_and(|schema| fits(schema, &entry.input)) {
            return Err(Failure::Failed("the task's schema has changed since the job was accepted".to_owned()));
        }
        let model = index.model(&entry.task, &entry.model);
        let Some(rollout) = model.map(|model| &model.rollout) else {
            return Err(Failure::Unstarted(format!("model {} is not here", entry.model)));
        };
        let assignment =
            if entry.pinned { rollout.pinned(entry.model_version) } else { rollout.planned(entry.model_version) };
        // A model that hangs must not hold a job for ever: behind this the watchdog would have ended the run.
        let patience = Instant::now() + self.app.config.queue.lease + self.app.config.models.max_run;
        let own = deadline.filter(|own| *own <= patience);
        let asked = Asked {
            version,
            assignment: &assignment,
            rollout,
            input: &entry.input,
            deadline: Some(own.unwrap_or(patience).into()),
            request_id: &entry.request_id,
            job_id: Some(&entry.job_id),
            sensor_id: entry.sensor_id.as_deref(),
            decision: Some(&entry.decision),
            binding: entry.binding,
            class: entry.priority,
            awaited: entry.awaited,
        };
        // Half the lease: behind it the job is better off elsewhere.
        let give_up = Instant::now() + self.app.config.queue.lease / 2;
        loop {
            match answering::answer(&self.app, asked).await {
                Ok(given) => return Ok(given),
                Err(PoolError::Full) if Instant::now() < give_up => tokio::time::sleep(FULL_PAUSE).await,
                Err(PoolError::Invalid(text)) => return Err(Failure::Failed(text)),
                Err(PoolError::Failed(text)) => return Err(Failure::Broken(text)),
                Err(PoolError::Expired { run }) if own.is_some() => {
                    return Err(Failure::Expired { started: run.is_some() });
                }
                Err(error @ PoolError::Expired { run }) => {
                    let text = error.to_string();
                    return Err(if run.is_some() { Failure::Broken(text) } else { Failure::Unstarted(text) });
                }
                Err(
                    error @ (PoolError::Full | PoolError::Closed | PoolError::Unavailable(_) | PoolError::Shed { .. }),
                ) => {
                    return Err(Failure::Unstarted(error.to_string()));
                }
            }
        }
    }
}

/// The job as it was answered, where a cascade was in force: by the version that answered last.
fn cascaded(entry: &Entry, given: &Given) -> Option<Entry> {
    let cascaded = given.cascaded.as_ref()?;
    let mut entry = entry.clone();
    entry.decision.took(Some(cascaded), given.card.tier.as_deref());
    if cascaded.is_escalated() {
        (entry.model, entry.model_version) = (given.card.model.clone(), given.card.version);
    }
    Some(entry)
}

/// Is the reading still one of the task's?
fn fits(schema: &TaskSchema, input: &Input) -> bool {
    match input {
        Input::Features(features) => schema.text_field().is_none() && schema.width() == features.len(),
        Input::Text(_) => schema.text_field().is_some(),
    }
}
