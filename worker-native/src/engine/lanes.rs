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
    fn run(&mut self, batch: &mut Batch) {
        self.intake.stats.in_use.fetch_add(1, Ordering::Relaxed);
        let _active = self.intake.stats.metrics.as_ref().map(ModelMetrics::batch);
        self.watch.begin();
        batch.run(self.runner.as_mut(), &self.intake.stats);
        self.watch.end();
        self.intake.stats.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The fast lane: drains the queue on the async runtime.
pub(super) async fn drain_on_runtime(mut worker: Worker) {
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
                return;
            }
        }
        if !worker.intake.receiver.is_empty() {
            worker.intake.wake.notify_one();
        }
        worker.run(&mut batch);
        if worker.watch.is_given_up() && !batch.holds_one() {
            return;
        }
    }
}

/// The slow lane: drains the queue on a thread of its own.
pub(super) fn drain_on_thread(mut worker: Worker) {
    let mut batch = Batch::default();
    while batch.holds_one() || !worker.watch.is_given_up() {
        let filled = batch.fill(&worker.intake, |receiver| receiver.recv().map_err(|_| TryRecvError::Disconnected));
        if filled.is_err() {
            return;
        }
        worker.run(&mut batch);
    }
}
