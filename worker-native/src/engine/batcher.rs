//! From single readings to batches and back, without ever waiting for a batch to fill.
//!
//! Two lanes run the same step. The fast lane is a task on the async runtime: `yield_now` lets all
//! ready handlers enqueue first, and that is the whole batching window. The slow lane is a thread
//! of its own, for models that would hold the runtime's threads too long. A batch that fails is
//! run again reading by reading, so that one bad reading cannot fail its neighbours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};
use tokio::sync::{Notify, oneshot};

/// Runs a batch of `rows` readings, laid out row after row; gives the output's rows likewise.
pub(super) trait Runner: Send + 'static {
    fn run(&mut self, rows: usize, features: &[f32]) -> Result<Vec<f32>, RunError>;
}

/// The runtime's own words for a run that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct RunError(pub(super) String);

/// One reading's row of the output, or why there is none.
pub(super) type Reply = Result<Vec<f32>, RunError>;

/// One reading that waits for its row.
#[derive(Debug)]
pub(super) struct Waiting {
    features: Vec<f32>,
    reply: oneshot::Sender<Reply>,
}

/// Why a reading was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many wait as may.
    Full,
    /// The pool is closing.
    Closed,
}

/// A bounded queue in front of some runners.
#[derive(Debug)]
pub(super) struct Batcher {
    // Gone once closed: the lanes end when the last sender is dropped.
    sender: ArcSwapOption<Sender<Waiting>>,
    intake: Intake,
}

/// What one worker needs besides its runner; all workers of a pool share it.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    receiver: Receiver<Waiting>,
    wake: Arc<Notify>,
    service: Arc<ServiceTime>,
    max_batch: usize,
}

impl Batcher {
    pub(super) fn new(max_waiting: usize, max_batch: usize, service: ServiceTime) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(max_waiting);
        let intake = Intake { receiver, wake: Arc::new(Notify::new()), service: Arc::new(service), max_batch };
        Self { sender: ArcSwapOption::from_pointee(sender), intake }
    }

    pub(super) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    pub(super) fn submit(&self, features: Vec<f32>) -> Result<oneshot::Receiver<Reply>, Refused> {
        let sender = self.sender.load();
        let sender = sender.as_ref().ok_or(Refused::Closed)?;
        let (reply, row) = oneshot::channel();
        sender.try_send(Waiting { features, reply }).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Closed,
        })?;
        self.intake.wake.notify_one();
        Ok(row)
    }

    pub(super) fn waiting(&self) -> usize {
        self.intake.receiver.len()
    }

    pub(super) fn service_us(&self) -> u32 {
        self.intake.service.get()
    }

    /// Takes no more readings; the lanes answer what waits and end.
    pub(super) fn close(&self) {
        self.sender.store(None);
        self.intake.wake.notify_one();
    }
}

/// The fast lane: drains the queue on the async runtime.
pub(super) async fn drain_on_runtime(mut runner: impl Runner, intake: Intake) {
    let mut jobs = Vec::with_capacity(intake.max_batch);
    let mut buffer = Vec::new();
    loop {
        // Every ready handler runs first and enqueues: this is the batching window.
        tokio::task::yield_now().await;
        match take(&intake, &mut jobs) {
            Ok(()) => {}
            Err(TryRecvError::Empty) => {
                intake.wake.notified().await;
                continue;
            }
            Err(TryRecvError::Disconnected) => {
                // The sibling that sleeps must see the end as well.
                intake.wake.notify_one();
                return;
            }
        }
        if !intake.receiver.is_empty() {
            intake.wake.notify_one();
        }
        run_batch(&mut runner, &mut jobs, &mut buffer, &intake.service);
    }
}

/// The slow lane: drains the queue on a thread of its own.
pub(super) fn drain_on_thread(mut runner: impl Runner, intake: &Intake) {
    let mut jobs = Vec::with_capacity(intake.max_batch);
    let mut buffer = Vec::new();
    while let Ok(first) = intake.receiver.recv() {
        jobs.push(first);
        match take(intake, &mut jobs) {
            // An end seen here is seen again by `recv`, once this batch is answered.
            Ok(()) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        run_batch(&mut runner, &mut jobs, &mut buffer, &intake.service);
    }
}

/// Takes what waits, up to a batch; says why when there is nothing.
fn take(intake: &Intake, jobs: &mut Vec<Waiting>) -> Result<(), TryRecvError> {
    while jobs.len() < intake.max_batch {
        match intake.receiver.try_recv() {
            Ok(job) => jobs.push(job),
            Err(end) if jobs.is_empty() => return Err(end),
            Err(_) => break,
        }
    }
    Ok(())
}

fn run_batch(runner: &mut impl Runner, jobs: &mut Vec<Waiting>, buffer: &mut Vec<f32>, service: &ServiceTime) {
    // Callers that timed out or hung up cost nothing.
    jobs.retain(|job| !job.reply.is_closed());
    if jobs.is_empty() {
        return;
    }
    buffer.clear();
    for job in &*jobs {
        buffer.extend_from_slice(&job.features);
    }
    let rows = jobs.len();
    let started = Instant::now();
    match run_split(runner, rows, buffer) {
        Ok(outputs) => {
            service.record(started.elapsed(), rows);
            for (job, output) in jobs.drain(..).zip(outputs) {
                answer(job, Ok(output));
            }
        }
        Err(error) if rows == 1 => jobs.drain(..).for_each(|job| answer(job, Err(error.clone()))),
        Err(_) => {
            for job in jobs.drain(..) {
                let output = run_split(runner, 1, &job.features);
                answer(job, output.and_then(|mut rows| rows.pop().ok_or_else(not_batch_major)));
            }
        }
    }
}

fn answer(job: Waiting, reply: Reply) {
    // A caller that left in the meantime wants no answer.
    drop(job.reply.send(reply));
}

/// Runs a batch and cuts the output into one row a reading.
pub(super) fn run_split(runner: &mut impl Runner, rows: usize, features: &[f32]) -> Result<Vec<Vec<f32>>, RunError> {
    // A panic in the binding must cost its callers an error, not the pool its worker.
    let values = catch_unwind(AssertUnwindSafe(|| runner.run(rows, features)))
        .unwrap_or_else(|_| Err(RunError("the runtime panicked".to_owned())))?;
    let width = values.len() / rows.max(1);
    if width == 0 || values.len() != width * rows {
        return Err(not_batch_major());
    }
    Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

fn not_batch_major() -> RunError {
    RunError("the output's first axis is not the batch's".to_owned())
}

/// Microseconds of one worker per reading, smoothed over batches.
#[derive(Debug)]
pub(super) struct ServiceTime(AtomicU32);

impl ServiceTime {
    pub(super) fn starting_at(per_reading: Duration) -> Self {
        Self(AtomicU32::new(micros(per_reading)))
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Exponential smoothing with weight 1/8, as for round-trip times (RFC 6298 §2).
    fn record(&self, elapsed: Duration, rows: usize) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX).max(1);
        let new = i64::from(micros(elapsed / rows));
        let old = i64::from(self.get());
        let smoothed = old + (new - old) / 8;
        // Two workers may race here; losing one sample of a smoothed figure harms nobody.
        self.0.store(u32::try_from(smoothed).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Doubles each of two features; a reading that starts with a negative number fails its whole batch.
    struct Doubler {
        largest: Arc<AtomicU32>,
    }

    impl Runner for Doubler {
        fn run(&mut self, rows: usize, features: &[f32]) -> Result<Vec<f32>, RunError> {
            self.largest.fetch_max(u32::try_from(rows).unwrap(), Ordering::Relaxed);
            if features.chunks(2).any(|row| row[0] < 0.0) {
                return Err(RunError("negative".to_owned()));
            }
            if features.contains(&777.0) {
                panic!("a run that panics");
            }
            Ok(features.iter().map(|x| x * 2.0).collect())
        }
    }

    fn batcher(max_waiting: usize) -> Batcher {
        Batcher::new(max_waiting, 4, ServiceTime::starting_at(Duration::from_micros(10)))
    }

    fn check_all(values: &[f32], slow: bool) {
        let largest = Arc::new(AtomicU32::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let batcher = batcher(values.len().max(1));
            let rows: Vec<_> = values.iter().map(|x| batcher.submit(vec![*x, 1.0]).unwrap()).collect();
            batcher.close();
            let runner = Doubler { largest: Arc::clone(&largest) };
            let intake = batcher.intake();
            if slow {
                tokio::task::spawn_blocking(move || drain_on_thread(runner, &intake)).await.unwrap();
            } else {
                drain_on_runtime(runner, intake).await;
            }
            for (x, row) in values.iter().zip(rows) {
                let want = match *x {
                    x if x < 0.0 => Err(RunError("negative".to_owned())),
                    777.0 => Err(RunError("the runtime panicked".to_owned())),
                    x => Ok(vec![x * 2.0, 2.0]),
                };
                assert_eq!(row.await.unwrap(), want, "{x}");
            }
        });
        assert!(largest.load(Ordering::Relaxed) <= 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_reading_gets_its_own_row_whatever_its_neighbours_do(
            values in proptest::collection::vec(-2.0f32..9.0, 0..40), slow in any::<bool>(),
        ) {
            check_all(&values, slow);
        }
    }

    #[test]
    fn a_panicking_run_fails_its_reading_only() {
        check_all(&[1.0, 777.0, 2.0], false);
        check_all(&[1.0, 777.0, 2.0], true);
    }

    #[test]
    fn a_full_queue_and_a_closed_one_refuse_at_once() {
        let batcher = batcher(1);
        let first = batcher.submit(vec![1.0, 1.0]).unwrap();
        assert_eq!(batcher.submit(vec![1.0, 1.0]).unwrap_err(), Refused::Full);
        batcher.close();
        assert_eq!(batcher.submit(vec![1.0, 1.0]).unwrap_err(), Refused::Closed);
        assert_eq!(batcher.waiting(), 1);
        drop(first);
    }

    #[test]
    fn an_output_that_is_not_batch_major_is_an_error() {
        struct Odd;
        impl Runner for Odd {
            fn run(&mut self, _: usize, _: &[f32]) -> Result<Vec<f32>, RunError> {
                Ok(vec![0.0; 3])
            }
        }
        assert!(run_split(&mut Odd, 2, &[0.0; 4]).is_err());
        assert_eq!(run_split(&mut Odd, 3, &[0.0; 6]).unwrap().len(), 3);
    }

    #[test]
    fn service_time_follows_what_is_measured() {
        let service = ServiceTime::starting_at(Duration::from_micros(800));
        for _ in 0..60 {
            service.record(Duration::from_micros(1_600), 16);
        }
        assert!((100..=110).contains(&service.get()), "{}", service.get());
    }
}
