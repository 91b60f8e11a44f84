//! One thread that writes: what waits is done in one transaction, committed once, and only then answered.
//!
//! Knows nothing of jobs: what is written is a [`Ledger`]'s, one for each file. A step that fails spoils its group,
//! whose transaction is taken back; the steps then run once more, each in a transaction of its own, so that nobody
//! fails for another's sake. A commit that fails fails its whole group. The thread outlives all of that.
//!
//! A disk that stalls holds the thread up; callers are told so in time. What has not begun by then is never begun; what
//! has may be done all the same.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::queue::contract::QueueError;

/// Requests that may wait; callers behind them wait to hand theirs in.
const WAITING: usize = 1_024;
/// Most jobs (or the like) of one transaction: what comes in meanwhile waits for it.
pub(super) const GROUP: usize = 2_048;

/// What the writing thread owns: a connection, and what is known of the file's contents.
pub(in crate::queue) trait Ledger: Send + 'static {
    /// The connection that writes.
    fn connection(&self) -> &Connection;
    /// Before a transaction: reads again what a transaction taken back has made doubtful.
    fn refresh(&mut self) -> rusqlite::Result<()>;
    /// Last step of a transaction: writes what was only counted so far.
    fn seal(&mut self) -> rusqlite::Result<()>;
    /// It is durable: tells who waits.
    fn committed(&mut self);
    /// It was taken back.
    fn undone(&mut self);
    /// After each group: what keeps the file small.
    fn tidy(&mut self);
}

/// One request to a ledger of type `L`.
trait Step<L>: Send {
    fn weight(&self) -> usize;
    /// Does anybody wait for its answer? Who has gone was told that it failed: it is not begun then.
    fn is_wanted(&self) -> bool;
    /// May run again after its transaction was taken back.
    fn run(&mut self, ledger: &mut L) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, outcome: Result<(), Arc<rusqlite::Error>>);
}

struct Call<F, T> {
    run: F,
    weight: usize,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, QueueError>>,
}

impl<L, T: Send, F: FnMut(&mut L) -> rusqlite::Result<T> + Send> Step<L> for Call<F, T> {
    fn weight(&self) -> usize {
        self.weight
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, ledger: &mut L) -> rusqlite::Result<()> {
        self.value = Some((self.run)(ledger)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), Arc<rusqlite::Error>>) {
        let answer = match outcome {
            Ok(()) => self.value.ok_or(QueueError::Closed),
            Err(error) => Err(QueueError::File(error)),
        };
        // Whoever asked may have gone; what was done stays done.
        drop(self.reply.send(answer));
    }
}

enum Message<L> {
    Step(Box<dyn Step<L>>),
    Close(oneshot::Sender<()>),
}

/// The way to the writing thread. Dropping it waits for what was handed in.
pub(in crate::queue) struct Writer<L> {
    sender: Option<mpsc::Sender<Message<L>>>,
    /// How long a caller waits for its answer.
    limit: Duration,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<L> fmt::Debug for Writer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<L: Ledger> Writer<L> {
    /// Starts the thread; callers wait for an answer no longer than `limit`.
    pub(in crate::queue) fn start(name: &str, ledger: L, limit: Duration) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || serve(ledger, receiver))?;
        Ok(Self { sender: Some(sender), limit, thread: Mutex::new(Some(thread)) })
    }

    /// Runs `step` in a transaction, maybe with others, and answers when it is durable. It must give the same again
    /// when its transaction is taken back.
    ///
    /// # Errors
    /// [`QueueError::Slow`] after the limit: then it may be done or not.
    pub(in crate::queue) async fn write<T: Send + 'static>(
        &self,
        weight: usize,
        step: impl FnMut(&mut L) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { run: step, weight, value: None, reply });
        let sender = self.sender.as_ref().ok_or(QueueError::Closed)?;
        let asked = async {
            sender.send(Message::Step(call)).await.map_err(|_| QueueError::Closed)?;
            answer.await.map_err(|_| QueueError::Closed)?
        };
        tokio::time::timeout(self.limit, asked).await.unwrap_or(Err(QueueError::Slow(self.limit)))
    }

    /// Ends the thread after what was handed in before; later requests are refused.
    pub(in crate::queue) async fn close(&self) {
        let (reply, ended) = oneshot::channel();
        if let Some(sender) = &self.sender
            && sender.send(Message::Close(reply)).await.is_ok()
        {
            // The other end is dropped with the thread's last breath.
            drop(ended.await);
        }
        self.join();
    }
}

impl<L> Writer<L> {
    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the queue's file has panicked");
        }
    }
}

impl<L> Drop for Writer<L> {
    fn drop(&mut self) {
        self.sender = None;
        self.join();
    }
}

fn serve<L: Ledger>(mut ledger: L, mut receiver: mpsc::Receiver<Message<L>>) {
    let mut closing: Vec<oneshot::Sender<()>> = Vec::new();
    while let Some(first) = receiver.blocking_recv() {
        let (mut group, mut weight) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Step(step) if !step.is_wanted() => {}
                Message::Step(step) => {
                    weight += step.weight();
                    group.push(step);
                }
                Message::Close(ended) => {
                    receiver.close();
                    closing.push(ended);
                }
            }
            next = if weight < GROUP { receiver.try_recv().ok() } else { None };
        }
        run(&mut ledger, group);
        ledger.tidy();
    }
    drop(ledger);
    drop(closing);
}

/// Where a transaction failed.
enum Fault {
    Step(Arc<rusqlite::Error>),
    Commit(Arc<rusqlite::Error>),
}

fn run<L: Ledger>(ledger: &mut L, mut group: Vec<Box<dyn Step<L>>>) {
    if group.is_empty() {
        return;
    }
    match attempt(ledger, &mut group) {
        Ok(()) => group.into_iter().for_each(|step| step.answer(Ok(()))),
        Err(Fault::Step(error)) if group.len() > 1 => {
            tracing::debug!(%error, steps = group.len(), "a group of writes failed; each is tried alone");
            for mut step in group {
                let outcome = attempt(ledger, std::slice::from_mut(&mut step));
                step.answer(outcome.map_err(|(Fault::Step(error) | Fault::Commit(error))| error));
            }
        }
        Err(Fault::Step(error) | Fault::Commit(error)) => {
            group.into_iter().for_each(|step| step.answer(Err(Arc::clone(&error))));
        }
    }
}

fn attempt<L: Ledger>(ledger: &mut L, steps: &mut [Box<dyn Step<L>>]) -> Result<(), Fault> {
    let outcome = transact(ledger, steps);
    match &outcome {
        Ok(()) => ledger.committed(),
        Err(_) => {
            // Some errors end a transaction by themselves.
            if !ledger.connection().is_autocommit()
                && let Err(error) = execute(ledger, "ROLLBACK")
            {
                tracing::error!(%error, "a transaction on the queue's file cannot be taken back");
            }
            ledger.undone();
        }
    }
    outcome
}

fn transact<L: Ledger>(ledger: &mut L, steps: &mut [Box<dyn Step<L>>]) -> Result<(), Fault> {
    let fault = |error| Fault::Commit(Arc::new(error));
    ledger.refresh().map_err(fault)?;
    execute(ledger, "BEGIN IMMEDIATE").map_err(fault)?;
    for step in steps {
        step.run(ledger).map_err(|error| Fault::Step(Arc::new(error)))?;
    }
    ledger.seal().map_err(|error| Fault::Step(Arc::new(error)))?;
    execute(ledger, "COMMIT").map_err(fault)
}

fn execute<L: Ledger>(ledger: &L, statement: &str) -> rusqlite::Result<()> {
    ledger.connection().prepare_cached(statement)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests;
