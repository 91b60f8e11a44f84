//! Two tiers on one reading: how often they disagree, which bounds how far their accuracies can be apart without a label.
//!
//! Of few readings (`PAIR_SHARE`), and only while nothing else waits, another tier's model answers as well, behind the
//! answer and one at a time. Owns which readings, and the counts; whoever asked never sees that answer. Versions of one
//! model are compared by `rollout::shadow`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use shared::accuracy::disagreement_bound;
use shared::reading::Input;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::engine::{Answer, Card, ModelVersion, Prediction};
use crate::rollout::assign::Salt;

/// Longest the second answer may take; a stuck one would otherwise hold the place for ever.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    compared: u64,
    disagreed: u64,
}

/// A model's version, by name.
type Name = (String, u32);

/// By the two versions, in the order of their names.
type Counts = BTreeMap<(Name, Name), Count>;

/// What came of readings that two tiers answered.
#[derive(Debug)]
pub struct Pairs {
    share: f64,
    place: Arc<Semaphore>,
    /// By task; as many pairs as the repository has.
    counts: Mutex<BTreeMap<String, Counts>>,
}

/// How two versions compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairView {
    /// The two versions, as `model/version`.
    pub versions: [String; 2],
    /// Readings that both answered.
    pub compared: u64,
    /// Of these: with different predictions.
    pub disagreed: u64,
    /// The two accuracies differ by no more than this (95 %).
    pub bound: Option<f64>,
}

impl Pairs {
    /// Nothing is compared yet; `share` of the readings will be.
    #[must_use]
    pub fn new(share: f32) -> Self {
        Self { share: share.into(), place: Arc::new(Semaphore::new(1)), counts: Mutex::default() }
    }

    /// Has another tier answer a reading that was answered, if it is one of the few; returns at once.
    pub fn saw(&self, app: &App, request_id: &str, input: &Input, card: &Card, answer: &Answer) {
        // Numbers never agree to the last digit.
        let Prediction::Class(prediction) = &answer.prediction else { return };
        let (Some(tier), true) = (&card.tier, self.share > 0.0) else { return };
        let place = Salt::new(&card.task, "", "pairs").place(request_id);
        if place >= self.share || app.snapshots.load(&card.task).depth() > 1 {
            return;
        }
        let Some(other) = other_tier(app, &card.task, tier, place / self.share) else { return };
        let Ok(permit) = Arc::clone(&self.place).try_acquire_owned() else { return };
        let (app, input, prediction) = (app.clone(), input.clone(), prediction.clone());
        let (task, one) = (card.task.clone(), (card.model.clone(), card.version));
        app.clone().background.spawn(async move {
            // To the end of the line: what is ready to answer goes first.
            tokio::task::yield_now().await;
            let Ok(Ok(row)) = tokio::time::timeout(PATIENCE, other.row(input.clone(), None)).await else { return };
            let Ok(answer) = row.card.read(&row.values, &input) else { return };
            let two = (row.card.model.clone(), row.card.version);
            app.learning.pairs.count(&task, one, two, answer.prediction == Prediction::Class(prediction));
            drop(permit);
        });
    }

    fn count(&self, task: &str, one: Name, two: Name, agreed: bool) {
        let pair = if one <= two { (one, two) } else { (two, one) };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(task.to_owned()).or_default().entry(pair).or_default();
        count.compared += 1;
        count.disagreed += u64::from(!agreed);
    }

    /// By how much the accuracies of two versions differ at the most (95 %); none where they were not compared.
    #[must_use]
    pub fn bound(&self, task: &str, one: (&str, u32), two: (&str, u32)) -> Option<f64> {
        let [one, two] = [one, two].map(|(model, version)| (model.to_owned(), version));
        let pair = if one <= two { (one, two) } else { (two, one) };
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(task)?.get(&pair).and_then(|count| disagreement_bound(count.disagreed, count.compared))
    }

    /// How the versions of a task compare.
    #[must_use]
    pub fn view(&self, task: &str) -> Vec<PairView> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let show = |((one, two), count): (&(Name, Name), &Count)| PairView {
            versions: [one, two].map(|(model, version)| super::version_key(model, *version)),
            compared: count.compared,
            disagreed: count.disagreed,
            bound: disagreement_bound(count.disagreed, count.compared),
        };
        counts.get(task).map(|pairs| pairs.iter().map(show).collect()).unwrap_or_default()
    }
}

/// The version that answers for another tier of the task: of several the one that `place`, from 0 to 1, falls on.
fn other_tier(app: &App, task: &str, tier: &str, place: f64) -> Option<Arc<ModelVersion>> {
    let index = app.engine.index();
    let models = index.tasks.get(task)?.models.values();
    let others = models.filter(|model| model.folder.tier.as_deref().is_some_and(|other| other != tier));
    let servable = |version: &&Arc<ModelVersion>| version.is_ready();
    let others: Vec<_> =
        others.filter_map(|model| model.versions.get(&model.default_version).filter(servable)).collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index below the number of models"
    )]
    let at = (place * others.len() as f64) as usize;
    others.get(at).map(|version| Arc::clone(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_whichever_answered() {
        let pairs = Pairs::new(0.5);
        let name = |model: &str| (model.to_owned(), 1);
        for agreed in [true, true, false] {
            pairs.count("t", name("slow"), name("fast"), agreed);
            pairs.count("t", name("fast"), name("slow"), true);
        }
        let view = pairs.view("t");
        assert_eq!(view.len(), 1, "{view:?}");
        assert_eq!((view[0].compared, view[0].disagreed), (6, 1));
        assert_eq!(view[0].versions, ["fast/1", "slow/1"]);
        assert!(view[0].bound.is_some_and(|bound| bound > 1.0 / 6.0));
        assert_eq!(pairs.bound("t", ("slow", 1), ("fast", 1)), view[0].bound);
        assert_eq!(pairs.bound("t", ("slow", 2), ("fast", 1)), None);
        assert!(pairs.view("other").is_empty());
    }
}
