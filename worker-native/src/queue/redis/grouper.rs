//! Joins what several callers want of the same task into few round trips.
//!
//! Nobody waits for company: a call goes out at once unless [`AT_ONCE`] groups of the task are on their way; then what
//! comes meanwhile goes out together. Each caller gets its own answers; an error is everybody's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use shared::reading::Input;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::queue::{NewJob, QueueError, Settlement};

/// Groups of a task under way at once: one in Redis while the next is on the wire.
const AT_ONCE: usize = 2;
/// Most items of a group: a script of so many takes Redis a few milliseconds, in which nobody else is served.
const MOST: usize = 512;

/// Most bytes of a group, or one call's: what a script is sent lies in Redis's memory until it has run.
const MOST_BYTES: usize = 8 << 20;

/// What makes a group large.
pub(super) trait Weighed {
    /// About its size on the wire.
    fn bytes(&self) -> usize;
}

impl Weighed for (NewJob, Instant) {
    fn bytes(&self) -> usize {
        let NewJob { entry, once, .. } = &self.0;
        let input = match &entry.input {
            Input::Features(features) => features.len() * size_of::<f32>(),
            Input::Text(text) => text.len(),
        };
        input + once.as_ref().map_or(0, |once| once.answer.body.len())
    }
}

impl Weighed for Settlement {
    fn bytes(&self) -> usize {
        self.result.len()
    }
}

struct Call<I, O> {
    items: Vec<I>,
    bytes: usize,
    answer: oneshot::Sender<Result<Vec<O>, QueueError>>,
}

struct Line<I, O> {
    waiting: Vec<Call<I, O>>,
    under_way: usize,
}

impl<I, O> Default for Line<I, O> {
    fn default() -> Self {
        Self { waiting: vec![], under_way: 0 }
    }
}

/// The calls of one kind, by task.
pub(super) struct Grouper<I, O>(Mutex<HashMap<String, Line<I, O>>>);

impl<I, O> Default for Grouper<I, O> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<I: Weighed + Send + 'static, O: Send + 'static> Grouper<I, O> {
    /// Notes a call; gives what its answer will come by, and whether a group must be sent for it.
    fn join(&self, task: &str, items: Vec<I>) -> (oneshot::Receiver<Result<Vec<O>, QueueError>>, bool) {
        let (answer, receiver) = oneshot::channel();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match lines.get_mut(task) {
            Some(line) => line,
            None => lines.entry(task.to_owned()).or_default(),
        };
        let bytes = items.iter().map(Weighed::bytes).sum();
        line.waiting.push(Call { items, bytes, answer });
        let first = line.under_way < AT_ONCE;
        line.under_way += usize::from(first);
        (receiver, first)
    }

    /// The next group; none when nothing waits, and then the sender's place is free again.
    fn next(&self, task: &str) -> Option<Vec<Call<I, O>>> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.get_mut(task)?;
        // Who has gone was told that it was not done: it is not begun now.
        line.waiting.retain(|call| !call.answer.is_closed());
        if line.waiting.is_empty() {
            line.under_way -= 1;
            return None;
        }
        let (mut items, mut bytes) = (0, 0_usize);
        // At least one call, however large.
        let fit = line.waiting.iter().take_while(|call| {
            let first = items == 0;
            items += call.items.len();
            bytes = bytes.saturating_add(call.bytes);
            first || (items <= MOST && bytes <= MOST_BYTES)
        });
        let count = fit.count();
        Some(line.waiting.drain(..count).collect())
    }

    /// Hands items in and waits for their answers. `send` runs on `tasks`: it ends what it began even if the caller
    /// does not stay for it.
    pub(super) async fn call<F, S>(
        &self,
        tasks: &TaskTracker,
        task: &str,
        items: Vec<I>,
        sender: S,
    ) -> Result<Vec<O>, QueueError>
    where
        S: FnOnce() -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let (receiver, first) = self.join(task, items);
        if first {
            tasks.spawn(sender());
        }
        receiver.await.unwrap_or(Err(QueueError::Closed))
    }

    /// Sends groups until nothing waits.
    pub(super) async fn send_all<F, S>(&self, task: &str, send: S)
    where
        S: Fn(Vec<I>) -> F + Send,
        F: Future<Output = Result<Vec<O>, QueueError>> + Send,
    {
        while let Some(mut calls) = self.next(task) {
            let sizes: Vec<usize> = calls.iter().map(|call| call.items.len()).collect();
            let items = calls.iter_mut().flat_map(|call| std::mem::take(&mut call.items)).collect();
            let answered = send(items).await;
            let mut answers = match answered {
                Ok(answers) => Ok(answers.into_iter()),
                Err(error) => Err(error),
            };
            for (call, size) in calls.into_iter().zip(sizes) {
                let answer = match &mut answers {
                    Ok(answers) => Ok(answers.by_ref().take(size).collect()),
                    Err(error) => Err(error.clone()),
                };
                // Whoever asked may have gone.
                drop(call.answer.send(answer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weighed for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[test]
    fn a_group_is_bounded_by_number_and_by_size_but_for_one_call() {
        let grouper: Grouper<usize, ()> = Grouper::default();
        let calls =
            [vec![1; 300], vec![1; 300], vec![MOST_BYTES * 2], vec![MOST_BYTES / 2], vec![MOST_BYTES / 2], vec![1]];
        let _joined: Vec<_> = calls.into_iter().map(|items| grouper.join("t", items)).collect();
        let groups = std::iter::from_fn(|| grouper.next("t"));
        let sizes: Vec<usize> = groups.map(|group| group.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 2, 1]);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_sent() {
        let grouper: Grouper<usize, ()> = Grouper::default();
        let joined: Vec<_> = (0..4).map(|item| grouper.join("t", vec![item])).collect();
        assert_eq!(joined.iter().filter(|(_, first)| *first).count(), AT_ONCE);
        let mut joined = joined.into_iter();
        let _first = joined.next();
        drop(joined.next());
        let sent: Vec<usize> = grouper.next("t").unwrap().into_iter().flat_map(|call| call.items).collect();
        assert_eq!(sent, [0, 2, 3]);
        assert!(grouper.next("t").is_none());
    }
}
