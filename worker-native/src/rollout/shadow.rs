//! Runs a version beside the one that answers, and compares: it never answers and never delays.
//!
//! Owns how much runs at once, what is dropped, and the counts. It knows no engine: the run is a
//! future that the caller makes, and only once it is sure to be run. The answer is on its way
//! before the shadow starts; what the two still share is the machine, so few run at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::assign::Salt;
use super::plan::ShadowPlan;

/// Most shadow runs of a model at once: one runs while the next is made ready.
const IN_FLIGHT: usize = 2;
/// Longest a shadow run may take; a stuck one would otherwise hold its place for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// Newest disagreements kept to be looked at.
const KEPT_DISAGREEMENTS: usize = 32;
/// Newest differences of run times kept for their 99th percentile.
const KEPT_TIMES: usize = 1_024;
/// Longest prediction kept of a disagreement, in bytes.
const MAX_SHOWN: usize = 256;

/// One version's answer, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The class, or `normal` / `anomaly`.
    pub prediction: String,
    /// Probability of trouble or another number that both versions give; compared by its difference.
    pub score: f64,
    /// What the run took, in milliseconds.
    pub run_ms: f64,
}

/// Two answers to one reading that differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Disagreement {
    /// The request's id.
    pub request_id: String,
    /// What the caller got.
    pub answered: Compared,
    /// What the shadow said.
    pub shadow: Compared,
}

/// What the shadow did so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowView {
    /// The version that runs beside.
    pub version: u32,
    /// The part of the keys it sees, in percent.
    pub percent: f64,
    /// Runs that ended with an answer.
    pub compared: u64,
    /// Of these: the same prediction.
    pub agreed: u64,
    /// Runs that failed, or took longer than anybody waits.
    pub failed: u64,
    /// Readings not shadowed because enough ran already.
    pub dropped: u64,
    /// Mean of the absolute difference of the scores.
    pub mean_score_difference: Option<f64>,
    /// 99th percentile of shadow run time less answered run time, in milliseconds, over the newest runs.
    pub p99_extra_ms: Option<f64>,
    /// The newest disagreements, newest last.
    pub disagreements: Vec<Disagreement>,
}

#[derive(Debug, Default)]
struct Counts {
    compared: u64,
    agreed: u64,
    failed: u64,
    score_differences: f64,
    extra_ms: VecDeque<f64>,
    disagreements: VecDeque<Disagreement>,
}

/// The runner of one model's shadow version.
#[derive(Debug)]
pub struct Shadow {
    version: u32,
    percent: f64,
    salt: Salt,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    dropped: AtomicU64,
    counts: Mutex<Counts>,
}

impl Shadow {
    /// A runner that has run nothing; its runs are tracked by `tasks`.
    #[must_use]
    pub fn new(plan: &ShadowPlan, salt: Salt, tasks: TaskTracker) -> Self {
        Self {
            version: plan.version,
            percent: plan.percent,
            salt,
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
            tasks,
            dropped: AtomicU64::new(0),
            counts: Mutex::new(Counts::default()),
        }
    }

    /// The version that runs beside.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Is this key's reading to be shadowed? The same keys always are.
    #[must_use]
    pub fn covers(&self, key: &str) -> bool {
        self.salt.place(key) < self.percent / 100.0
    }

    /// Runs the shadow beside an answer that was given; returns at once, and drops it where enough run already.
    ///
    /// `run` is called, and the features are copied, only where there is a place.
    pub fn run_beside<F, E>(self: &Arc<Self>, request_id: &str, answered: Compared, run: impl FnOnce() -> F)
    where
        F: Future<Output = Result<Compared, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (shadow, request_id, run) = (Arc::clone(self), request_id.to_owned(), run());
        self.tasks.spawn(async move {
            // To the end of the line: what is ready to answer goes first.
            tokio::task::yield_now().await;
            match tokio::time::timeout(PATIENCE, run).await {
                Ok(Ok(found)) => shadow.compare(request_id, answered, found),
                Ok(Err(error)) => shadow.failed(&error),
                Err(_) => shadow.failed(&format_args!("no answer within {} s", PATIENCE.as_secs())),
            }
            drop(place);
        });
    }

    fn compare(&self, request_id: String, mut answered: Compared, mut shadow: Compared) {
        let mut counts = self.counts();
        counts.compared += 1;
        let difference = (answered.score - shadow.score).abs();
        // What is no number would make the mean one for ever.
        counts.score_differences += if difference.is_finite() { difference } else { 0.0 };
        push(&mut counts.extra_ms, shadow.run_ms - answered.run_ms, KEPT_TIMES);
        if answered.prediction == shadow.prediction {
            counts.agreed += 1;
            return;
        }
        for side in [&mut answered, &mut shadow] {
            let end = side.prediction.floor_char_boundary(MAX_SHOWN);
            side.prediction.truncate(end);
        }
        push(&mut counts.disagreements, Disagreement { request_id, answered, shadow }, KEPT_DISAGREEMENTS);
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        let mut counts = self.counts();
        counts.failed += 1;
        // Once: a shadow that cannot run fails at every reading.
        if counts.failed == 1 {
            tracing::warn!(version = self.version, %error, "a shadow run failed; further ones are only counted");
        }
    }

    /// What the shadow did so far.
    #[must_use]
    pub fn view(&self) -> ShadowView {
        let counts = self.counts();
        let mut times: Vec<f64> = counts.extra_ms.iter().copied().collect();
        times.sort_unstable_by(f64::total_cmp);
        // Nearest rank, in whole numbers: the smallest value that 99 of 100 are not above.
        let rank = (times.len() * 99).div_ceil(100).saturating_sub(1);
        #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
        let mean = (counts.compared > 0).then(|| counts.score_differences / counts.compared as f64);
        ShadowView {
            version: self.version,
            percent: self.percent,
            compared: counts.compared,
            agreed: counts.agreed,
            failed: counts.failed,
            dropped: self.dropped.load(Ordering::Relaxed),
            mean_score_difference: mean,
            p99_extra_ms: times.get(rank).copied(),
            disagreements: counts.disagreements.iter().cloned().collect(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Plain counts: a panic elsewhere cannot have left them half written.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push<T>(ring: &mut VecDeque<T>, item: T, most: usize) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(item);
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn shadow(percent: f64) -> Arc<Shadow> {
        let plan = ShadowPlan { version: 3, percent };
        Arc::new(Shadow::new(&plan, Salt::new("t", "m", "shadow"), TaskTracker::new()))
    }

    fn says(prediction: &str, score: f64, run_ms: f64) -> Compared {
        Compared { prediction: prediction.to_owned(), score, run_ms }
    }

    async fn end(shadow: &Shadow) {
        shadow.tasks.close();
        shadow.tasks.wait().await;
        shadow.tasks.reopen();
    }

    #[tokio::test]
    async fn answers_are_compared_and_disagreements_kept() {
        let shadow = shadow(100.0);
        for (id, found) in [("r1", Ok(says("a", 0.5, 3.0))), ("r2", Ok(says("b", 0.75, 2.0))), ("r3", Err("broken"))] {
            shadow.run_beside(id, says("a", 0.25, 1.0), || ready(found));
            end(&shadow).await;
        }
        let view = shadow.view();
        assert_eq!((view.compared, view.agreed, view.failed, view.dropped), (2, 1, 1, 0));
        assert_eq!((view.mean_score_difference, view.p99_extra_ms), (Some(0.375), Some(2.0)));
        assert_eq!(view.disagreements.len(), 1);
        assert_eq!((&*view.disagreements[0].request_id, &*view.disagreements[0].shadow.prediction), ("r2", "b"));
    }

    #[tokio::test]
    async fn what_finds_no_place_is_dropped_without_being_made() {
        let shadow = shadow(100.0);
        let (done, waiting) = tokio::sync::oneshot::channel::<()>();
        shadow.run_beside("r", says("a", 0.0, 1.0), || async {
            waiting.await.map_err(|error| error.to_string())?;
            Ok::<_, String>(says("a", 0.0, 1.0))
        });
        shadow.run_beside("r", says("a", 0.0, 1.0), pending::<Result<Compared, String>>);
        shadow.run_beside("r", says("a", 0.0, 1.0), || -> std::future::Ready<Result<Compared, String>> {
            unreachable!("there is no place")
        });
        assert_eq!(shadow.view().dropped, 1);
        done.send(()).unwrap();
        while shadow.view().compared == 0 {
            tokio::task::yield_now().await;
        }
        while shadow.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        shadow.run_beside("r", says("a", 0.0, 1.0), || ready(Ok::<_, String>(says("b", f64::NAN, 1.0))));
        while shadow.view().compared == 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!((shadow.view().dropped, shadow.view().mean_score_difference), (1, Some(0.0)));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let shadow = shadow(100.0);
        for index in 0..2_000_u32 {
            let found = says(&"é".repeat(500), 1.0, f64::from(index));
            shadow.compare(index.to_string(), says("a", 0.0, 0.0), found);
        }
        let view = shadow.view();
        assert_eq!((view.disagreements.len(), view.disagreements[31].request_id.as_str()), (32, "1999"));
        assert!(view.disagreements[0].shadow.prediction.len() <= MAX_SHOWN);
        // Of 976..2000 the 1014th.
        assert_eq!((shadow.counts().extra_ms.len(), view.p99_extra_ms), (1_024, Some(1_989.0)));
    }

    #[test]
    fn the_same_keys_are_always_covered() {
        let (some, all, none) = (shadow(25.0), shadow(100.0), shadow(0.0));
        let keys: Vec<String> = (0..1_000).map(|key| format!("s{key}")).collect();
        let count = keys.iter().filter(|key| some.covers(key)).count();
        assert!((190..310).contains(&count), "{count}");
        assert!(keys.iter().all(|key| all.covers(key) && !none.covers(key)));
    }
}
