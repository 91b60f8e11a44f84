//! The bounded queue in front of a pool's workers, and how what waits becomes a batch.
//!
//! Never waits for a batch to fill: a worker takes what is there (`lanes` says how). Bounded in
//! rows and in bytes. Only what can run together is batched together: readings with readings,
//! tensors with tensors of the same names, types and axes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use tokio::sync::{Notify, oneshot};

use super::backend::{Rows, RunError, Runner};
use super::stats::Stats;
use super::tensor::Tensor;

/// Most bytes that may wait for one pool: rows alone would not bound texts and tensors.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Most bytes of a batch of texts, each counted as long as the longest. Measured on a tokeniser: 4 texts of 10,000 bytes
/// take twenty times as long as one.
const MAX_PADDED_BYTES: usize = 16 << 10;

/// What one request brings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// Numbers, row after row.
    Features { rows: usize, values: Vec<f32> },
    /// One text a row.
    Texts(Vec<String>),
    /// Named tensors, as they are; `rows` is their first axis, or 1 where that is no batch.
    Tensors { rows: usize, tensors: Vec<Tensor> },
}

/// What comes back for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Output {
    /// The columns of each row, row after row.
    Rows(Vec<f32>),
    /// All outputs of the model.
    Tensors(Vec<Tensor>),
}

/// One request's output, and the run that gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ran {
    pub(super) output: Output,
    pub(super) run: RunFacts,
}

/// A run as one of its requests sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunFacts {
    /// What the run took, without waiting.
    pub took: std::time::Duration,
    /// Is this the first request of the run? Whoever counts runs counts these.
    pub first: bool,
}

/// Whether a request's run has begun: a caller that cannot wait for the end can still tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Begun(Arc<OnceLock<(Instant, bool)>>);

impl Begun {
    fn mark(&self, at: Instant, first: bool) {
        // One that failed among neighbours runs again alone: the first beginning counts.
        self.0.get_or_init(|| (at, first));
    }

    /// The run so far.
    pub(super) fn run(&self) -> Option<RunFacts> {
        self.0.get().map(|(at, first)| RunFacts { took: at.elapsed(), first: *first })
    }
}

/// What comes back for a request, or why nothing does.
pub(super) type Reply = Result<Ran, RunError>;

impl Input {
    pub(super) const fn rows(&self) -> usize {
        match self {
            Self::Features { rows, .. } | Self::Tensors { rows, .. } => *rows,
            Self::Texts(texts) => texts.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Features { values, .. } => values.len() * size_of::<f32>(),
            Self::Texts(texts) => texts.iter().map(|text| text.len() + size_of::<String>()).sum(),
            Self::Tensors { tensors, .. } => tensors.iter().map(|tensor| tensor.data.bytes()).sum(),
        }
    }

    /// Can both be rows of one run?
    fn joins(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Features { .. }, Self::Features { .. }) | (Self::Texts(_), Self::Texts(_)) => true,
            (Self::Tensors { tensors: ours, .. }, Self::Tensors { tensors: theirs, .. }) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same_kind(a, b))
            }
            _ => false,
        }
    }
}

fn same_kind(a: &Tensor, b: &Tensor) -> bool {
    a.name == b.name
        && a.data.data_type() == b.data.data_type()
        && a.shape.len() == b.shape.len()
        && a.shape.get(1..) == b.shape.get(1..)
}

/// One request that waits for its rows.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) input: Input,
    pub(super) deadline: Option<Instant>,
    queued_at: Instant,
    begun: Begun,
    reply: oneshot::Sender<Reply>,
}

/// Why a request was not taken.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    /// As many rows wait as may.
    Full,
    /// The pool is closing; the input comes back for the pool that follows it.
    Closed(Input),
}

/// What waits for a pool's workers.
#[derive(Debug)]
pub(super) struct Batcher {
    // Gone once closed: the lanes end when the last sender is dropped.
    sender: ArcSwapOption<Sender<Job>>,
    intake: Intake,
    max_waiting: usize,
}

/// What one worker needs besides its runner; all workers of a pool share it.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    pub(super) receiver: Receiver<Job>,
    pub(super) wake: Arc<Notify>,
    pub(super) stats: Arc<Stats>,
    pub(super) max_batch: usize,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl Batcher {
    pub(super) fn new(max_waiting: usize, max_batch: usize, stats: Arc<Stats>) -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let wake = Arc::new(Notify::new());
        let intake = Intake { receiver, wake, stats, max_batch, waiting: Arc::default() };
        Self { sender: ArcSwapOption::from_pointee(sender), intake, max_waiting }
    }

    pub(super) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Puts a request in line; the caller counts its rows first, so that the bound holds exactly.
    pub(super) fn submit(
        &self,
        input: Input,
        deadline: Option<Instant>,
        begun: &Begun,
    ) -> Result<oneshot::Receiver<Reply>, Refused> {
        let sender = self.sender.load();
        let Some(sender) = sender.as_ref() else { return Err(Refused::Closed(input)) };
        let (rows, bytes) = (input.rows(), input.bytes());
        if !self.admit(rows, bytes) {
            self.intake.stats.refused(rows);
            return Err(Refused::Full);
        }
        let (reply, row) = oneshot::channel();
        if let Err(gone) = sender.send(Job { input, deadline, queued_at: Instant::now(), begun: begun.clone(), reply })
        {
            self.intake.left(rows, bytes);
            return Err(Refused::Closed(gone.into_inner().input));
        }
        self.intake.wake.notify_one();
        Ok(row)
    }

    fn admit(&self, rows: usize, bytes: usize) -> bool {
        let waiting = &self.intake.waiting;
        let before = waiting.rows.fetch_add(rows, Ordering::Relaxed);
        let bytes_before = waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        // A request larger than the bound is taken when nothing else waits: its caller was let in by the body limit.
        let fits = before.saturating_add(rows) <= self.max_waiting || before == 0;
        let bytes_fit = bytes_before.saturating_add(bytes) <= MAX_WAITING_BYTES || bytes_before == 0;
        if fits && bytes_fit {
            return true;
        }
        self.intake.left(rows, bytes);
        false
    }

    pub(super) fn waiting(&self) -> usize {
        self.intake.waiting.rows.load(Ordering::Relaxed)
    }

    /// Takes no more requests; the lanes answer what waits and end.
    pub(super) fn close(&self) {
        self.sender.store(None);
        self.intake.wake.notify_one();
    }
}

impl Drop for Batcher {
    /// A submitter that was under way while the queue closed kept it open past the first wake-up: its workers would
    /// sleep for ever, with their sessions.
    fn drop(&mut self) {
        self.close();
    }
}

impl Intake {
    fn left(&self, rows: usize, bytes: usize) {
        self.waiting.rows.fetch_sub(rows, Ordering::Relaxed);
        self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A worker's batch in the making, with its buffers.
#[derive(Debug, Default)]
pub(super) struct Batch {
    jobs: Vec<Job>,
    rows: usize,
    longest: usize,
    // Taken from the queue, but of another kind or one row too many: the next batch begins with it.
    held: Option<Job>,
    features: Vec<f32>,
    texts: Vec<String>,
    out: Vec<f32>,
}

impl Batch {
    /// Has the batch a job that waits for the next one?
    pub(super) const fn holds_one(&self) -> bool {
        self.held.is_some()
    }

    /// Takes a job, waiting for it where `first` says so; then what waits, up to a batch.
    ///
    /// # Errors
    /// Why there is nothing.
    pub(super) fn fill(
        &mut self,
        intake: &Intake,
        mut first: impl FnMut(&Receiver<Job>) -> Result<Job, TryRecvError>,
    ) -> Result<(), TryRecvError> {
        let job = match self.held.take() {
            Some(held) => held,
            None => self.receive(intake, &mut first)?,
        };
        self.push(job);
        while self.rows < intake.max_batch {
            let Ok(job) = self.receive(intake, &mut |receiver| receiver.try_recv()) else { break };
            let fits = self.rows + job.input.rows() <= intake.max_batch && self.pads_little(&job.input);
            if fits && self.jobs.first().is_none_or(|first| first.input.joins(&job.input)) {
                self.push(job);
            } else {
                self.held = Some(job);
                break;
            }
        }
        Ok(())
    }

    fn receive(
        &self,
        intake: &Intake,
        next: &mut impl FnMut(&Receiver<Job>) -> Result<Job, TryRecvError>,
    ) -> Result<Job, TryRecvError> {
        loop {
            let job = next(&intake.receiver)?;
            intake.left(job.input.rows(), job.input.bytes());
            // Callers that timed out or hung up cost nothing. Who timed out is gone as well, so that is asked first.
            if job.deadline.is_some_and(|deadline| intake.stats.ends_after(deadline)) {
                intake.stats.expired(job.input.rows());
                drop(job.reply.send(Err(RunError::Expired)));
                continue;
            }
            if job.reply.is_closed() {
                intake.stats.cancelled(job.input.rows());
                continue;
            }
            return Ok(job);
        }
    }

    /// Texts of a batch are padded to the longest: one long text must not make many short ones dear.
    fn pads_little(&self, input: &Input) -> bool {
        let Input::Texts(texts) = input else { return true };
        let longest = texts.iter().map(String::len).max().unwrap_or(0).max(self.longest);
        (self.rows + texts.len()).saturating_mul(longest) <= MAX_PADDED_BYTES
    }

    fn push(&mut self, job: Job) {
        if let Input::Texts(texts) = &job.input {
            self.longest = texts.iter().map(String::len).max().unwrap_or(0).max(self.longest);
        }
        self.rows += job.input.rows();
        self.jobs.push(job);
    }

    /// Runs what was taken and answers everyone.
    ///
    /// `again` is called before each run behind the first: an interruption of one must not end the next.
    pub(super) fn run(&mut self, runner: &mut dyn Runner, stats: &Stats, again: &mut dyn FnMut()) {
        let mut jobs = std::mem::take(&mut self.jobs);
        let rows = std::mem::take(&mut self.rows);
        self.longest = 0;
        let started = Instant::now();
        for (i, job) in jobs.iter().enumerate() {
            job.begun.mark(started, i == 0);
            stats.waited(started.saturating_duration_since(job.queued_at));
        }
        match self.run_together(runner, &jobs, rows) {
            Ok(outputs) => {
                let took = started.elapsed();
                stats.ran(rows, jobs.len(), took);
                for (i, (job, output)) in jobs.drain(..).zip(outputs).enumerate() {
                    answer(job, Ok(Ran { output, run: RunFacts { took, first: i == 0 } }));
                }
            }
            Err(error) if jobs.len() == 1 => {
                stats.failed(rows);
                jobs.drain(..).for_each(|job| answer(job, Err(error.clone())));
            }
            // One bad request must not fail its neighbours: each once more, alone.
            Err(_) => {
                for job in jobs.drain(..) {
                    again();
                    let rows = job.input.rows();
                    let started = Instant::now();
                    let outputs = self.run_together(runner, std::slice::from_ref(&job), rows);
                    let run = RunFacts { took: started.elapsed(), first: true };
                    match &outputs {
                        Ok(_) => stats.ran(rows, 1, run.took),
                        Err(_) => stats.failed(rows),
                    }
                    let output = outputs.and_then(|mut outputs| outputs.pop().ok_or_else(not_batch_major));
                    answer(job, output.map(|output| Ran { output, run }));
                }
            }
        }
        self.jobs = jobs;
    }

    fn run_together(&mut self, runner: &mut dyn Runner, jobs: &[Job], rows: usize) -> Result<Vec<Output>, RunError> {
        let Some(first) = jobs.first() else { return Ok(vec![]) };
        if let Input::Tensors { .. } = first.input {
            return run_tensors(runner, jobs, rows);
        }
        self.features.clear();
        self.texts.clear();
        for job in jobs {
            match &job.input {
                Input::Features { values, .. } => self.features.extend_from_slice(values),
                Input::Texts(texts) => self.texts.extend_from_slice(texts),
                Input::Tensors { .. } => return Err(not_batch_major()),
            }
        }
        let input = match first.input {
            Input::Texts(_) => Rows::Texts(&self.texts),
            _ => Rows::Features { rows, values: &self.features },
        };
        let columns = run_rows(runner, input, &mut self.out)?;
        let mut values = self.out.as_slice();
        let mut outputs = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (own, rest) = values.split_at_checked(job.input.rows() * columns).ok_or_else(not_batch_major)?;
            outputs.push(Output::Rows(own.to_vec()));
            values = rest;
        }
        Ok(outputs)
    }
}

/// Runs readings; `out` then holds their rows and nothing else. Gives the numbers of one row.
pub(super) fn run_rows(runner: &mut dyn Runner, input: Rows<'_>, out: &mut Vec<f32>) -> Result<usize, RunError> {
    out.clear();
    let rows = input.count().max(1);
    guarded(|| runner.run_rows(input, out))?;
    let columns = out.len() / rows;
    if columns == 0 || out.len() != columns * rows { Err(not_batch_major()) } else { Ok(columns) }
}

fn run_tensors(runner: &mut dyn Runner, jobs: &[Job], rows: usize) -> Result<Vec<Output>, RunError> {
    let tensors = |job: &Job| match &job.input {
        Input::Tensors { tensors, .. } => Ok(tensors.clone()),
        _ => Err(not_batch_major()),
    };
    let [first, others @ ..] = jobs else { return Ok(vec![]) };
    let mut joined = tensors(first)?;
    if others.is_empty() {
        return Ok(vec![Output::Tensors(guarded(|| runner.run_tensors(&joined))?)]);
    }
    for job in others {
        if !joined.iter_mut().zip(&tensors(job)?).all(|(whole, part)| whole.append_rows(part)) {
            return Err(not_batch_major());
        }
    }
    let outputs = guarded(|| runner.run_tensors(&joined))?;
    if outputs.iter().any(|output| output.rows() != rows) {
        return Err(not_batch_major());
    }
    let mut at = 0;
    let mut replies = Vec::with_capacity(jobs.len());
    for job in jobs {
        let range = at..at + job.input.rows();
        at = range.end;
        let own: Option<Vec<Tensor>> = outputs.iter().map(|output| output.rows_of(range.clone())).collect();
        replies.push(Output::Tensors(own.ok_or_else(not_batch_major)?));
    }
    Ok(replies)
}

/// A panic in a binding must cost its callers an error, not the pool its worker.
fn guarded<T>(run: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(RunError::Failed("the runtime panicked".to_owned())))
}

fn answer(job: Job, reply: Reply) {
    // A caller that left in the meantime wants no answer.
    drop(job.reply.send(reply));
}

fn not_batch_major() -> RunError {
    RunError::Failed("the output's first axis is not the batch's".to_owned())
}

#[cfg(test)]
mod tests;
