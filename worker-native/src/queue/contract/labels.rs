//! What the queue's store keeps for learning: answers that may be labelled, which labels counted, and what is believed.
//!
//! The texts are their writer's (`crate::learning`): no backend looks into them, so that none can reckon differently.
//!
//! - A label counts once, whatever names its answer, whichever process it comes to, and however often it is sent.
//! - With the label the belief changes, in the same step; who reckoned on an older belief is given the newer one instead.

use std::time::Duration;

use async_trait::async_trait;

use super::QueueError;

/// What is believed of a model version, as its writer wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belief {
    /// The part that is read often; empty where nothing is believed yet.
    pub head: String,
    /// The part that only the next label needs.
    pub tail: String,
}

/// A label, and what it makes of the belief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLabel {
    /// Names the answer, always in the same way: the second label under a name does not count.
    pub answer: String,
    /// How long that is remembered: for as long as anything can find the answer.
    pub remember: Duration,
    /// Whose belief it is: a model's version.
    pub version: String,
    /// The head that `after` was reckoned from; empty for none.
    pub before: String,
    /// What is believed then.
    pub after: Belief,
}

/// What became of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labelled {
    /// It counted.
    Counted,
    /// The answer was labelled before; nothing changed.
    Before,
    /// Something else is believed meanwhile, this; nothing changed.
    Moved(Belief),
}

/// Labels and what is learned from them.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait Labels: Send + Sync {
    /// Keeps answers by id, so that any process can find them; an id that comes again means the newer answer. A task's
    /// newest `LABEL_RECORDS` or somewhat fewer are kept, for `LABEL_TTL_SECONDS` at least if there are no more.
    async fn keep_answers(&self, task: &str, answers: Vec<(String, String)>) -> Result<(), QueueError>;

    /// The answer under an id; none where it is not kept.
    async fn kept_answer(&self, task: &str, id: &str) -> Result<Option<String>, QueueError>;

    /// Counts a label and replaces the belief, in one step.
    async fn label(&self, task: &str, label: &NewLabel) -> Result<Labelled, QueueError>;

    /// The heads of all beliefs of a task, by version.
    async fn beliefs(&self, task: &str) -> Result<Vec<(String, String)>, QueueError>;
}
