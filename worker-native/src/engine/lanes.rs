//! The two ways a worker drains its pool's queue.
//!
//! The fast lane is a task on the async runtime: `yield_now` lets all ready handlers enqueue
//! first, and that is the whole batching window. The slow lane is a thread of its own, for models
//! that would hold the runtime's threads too long.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::TryRecvError;

use super::backend::Runner;
use super::batcher::{Batch, Intake};
use super::watchdog::Watch;
use crate::telemetry::metrics::ModelMetrics;

/// A worker: a runner, where its readings come from, and the watch on its runs.
pub(super) struct Worker {
    pub(super) runner: Box<dyn Runner>,
    pub(super) intake: Intake,
    pub(super) watch: Arc<Watch>,
}

impl Worker {
    /// Runs a batch; says whether it had to be interrupted.
    fn run(&mut self, batch: &mut Batch) -> bool {
        self.intake.stats.in_use.fetch_add(1, Ordering::Relaxed);
        let _active = self.intake.stats.metrics.as_ref().map(ModelMetrics::batch);
        self.watch.begin();
        let mut stopped = false;
        batch.run(self.runner.as_mut(), &self.intake.stats, &mut || {
            stopped |= self.watch.end();
            self.watch.begin();
        });
        stopped |= self.watch.end();
        // A worker that was given up was counted out by whoever replaced it.
        if !self.watch.is_given_up() {
            self.intake.stats.in_use.fetch_sub(1, Ordering::Relaxed);
        }
        stopped
    }
}

/// The fast lane: drains the queue on the async runtime, until it is empty and closed or a run had to be interrupted.
/// Then the worker comes back with its batch: what hung once must not hang on the runtime again.
pub(super) async fn drain_on_runtime(mut worker: Worker) -> Option<(Worker, Batch)> {
    let mut batch = Batch::default();
    loop {
        // Every ready handler runs first and enqueues: this is the batching window.
        tokio::task::yield_now().await;
        match batch.fill(&worker.intake, crossbeam_channel::Receiver::try_recv) {
            Ok(()) => {}
            Err(TryRecvError::Empty) => {
                worker.intake.wake.notified().await;
                continue;
            }
            Err(TryRecvError::Disconnected) => {
                // The sibling that sleeps must see the end as well.
                worker.intake.wake.notify_one();
                return None;
            }
        }
        if !worker.intake.receiver.is_empty() {
            worker.intake.wake.notify_one();
        }
        let stopped = worker.run(&mut batch);
        if worker.watch.is_given_up() && !batch.holds_one() {
            return None;
        }
        if stopped {
            return Some((worker, batch));
        }
    }
}

/// The slow lane: drains the queue on a thread of its own.
pub(super) fn drain_on_thread(mut worker: Worker, mut batch: Batch) {
    while batch.holds_one() || !worker.watch.is_given_up() {
        let filled = batch.fill(&worker.intake, |receiver| receiver.recv().map_err(|_| TryRecvError::Disconnected));
        if filled.is_err() {
            return;
        }
        worker.run(&mut batch);
    }
}
