//! Two threads that read: looking at jobs waits for no write, and no write for a look.
//!
//! Each has a connection of its own that cannot write. A look sees what was committed when it began.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::file;
use crate::queue::contract::QueueError;

const THREADS: usize = 2;
/// Looks that may wait; callers behind them wait to hand theirs in.
const WAITING: usize = 256;

type Look = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reading threads. Dropping it waits for what they are at.
#[derive(Debug)]
pub(super) struct Readers {
    sender: Option<mpsc::Sender<Look>>,
    /// How long a caller waits for what it asked for.
    limit: Duration,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    pub(super) fn start(path: &Path, limit: Duration) -> Result<Self, QueueError> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut readers = Self { sender: Some(sender), limit, threads: Vec::new() };
        for number in 0..THREADS {
            let (connection, looks) = (file::open_to_read(path)?, Arc::clone(&receiver));
            let name = format!("queue-reader-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || serve(&connection, &looks));
            readers.threads.push(thread.map_err(|error| file::fault(format!("no thread for it: {error}")))?);
        }
        Ok(readers)
    }

    /// Runs `look` on a connection that cannot write.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        let job: Look = Box::new(move |connection| {
            // Whoever asked may have gone, before or meanwhile.
            if !reply.is_closed() {
                drop(reply.send(look(connection)));
            }
        });
        let sender = self.sender.as_ref().ok_or(QueueError::Closed)?;
        let asked = async {
            sender.send(job).await.map_err(|_| QueueError::Closed)?;
            answer.await.map_err(|_| QueueError::Closed)?.map_err(file::failed)
        };
        tokio::time::timeout(self.limit, asked).await.unwrap_or(Err(QueueError::Slow(self.limit)))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.sender = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that reads the queue's file has panicked");
            }
        }
    }
}

fn serve(connection: &Connection, looks: &Mutex<mpsc::Receiver<Look>>) {
    loop {
        // The guard goes before the look is run, so that the other thread can take the next one.
        let next = looks.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(look) = next else { return };
        look(connection);
    }
}
