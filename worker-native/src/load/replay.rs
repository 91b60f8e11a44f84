//! Sends the readings at their intended starts, then reads the jobs' results back.
//!
//! Owns time and concurrency. A feeding thread waits for each start, as a runtime's timer is only
//! good to a millisecond, and never for an answer. Above the cap a reading waits in a short channel with
//! its intended start unchanged, so that the wait shows as latency.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver as Stop, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::answer::Answer;
use super::pace::Pace;
use super::send::{Service, Shot};

/// Readings built ahead of their start.
const AHEAD: usize = 64;
/// Job states asked for at once.
const READERS: usize = 32;
/// Shortest and longest pause before a job that was not done is asked for again.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What the replay tells whoever counts.
pub(super) trait Watch {
    /// A reading left.
    fn sent(&mut self);
    /// A reading's own request was answered and its job is open.
    fn accepted(&mut self, answer: &Answer);
    /// A row's outcome is known.
    fn ended(&mut self, answer: Answer);
}

/// How the sending went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// From the intended start of the first reading to the last one's leaving.
    pub(super) sending: Duration,
    /// To the last answer of a reading's own request.
    pub(super) answering: Duration,
    /// Whether Ctrl-C ended it early.
    pub(super) interrupted: bool,
}

/// Sends every reading at its time; jobs accepted are added to `open`.
///
/// # Errors
/// When the file breaks on the way, or a task of ours ended abnormally.
pub(super) async fn send_all<I>(
    service: &Service,
    readings: I,
    pace: Pace,
    concurrency: usize,
    watch: &mut impl Watch,
    open: &mut VecDeque<Answer>,
) -> Result<Sent>
where
    I: Iterator<Item = Result<(Option<String>, Answer)>> + Send + 'static,
{
    let (shots, mut due) = tokio::sync::mpsc::channel(AHEAD);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut stop = Some(stop);
    // The first bodies are built before the clock starts, not on it.
    let begin = Instant::now() + Duration::from_millis(20);
    let feeding = tokio::task::spawn_blocking(move || feed(readings, &pace, begin, &shots, &stopped));

    let mut flying: JoinSet<Answer> = JoinSet::new();
    let (mut sending, mut answering) = (Duration::ZERO, Duration::ZERO);
    let mut interrupt = Box::pin(interrupted());
    let mut fed = false;
    while !(fed && flying.is_empty()) {
        tokio::select! {
            biased;
            // Dropping the sender wakes the feeding thread; what it has handed over is still sent.
            () = &mut interrupt, if stop.is_some() => stop = None,
            Some(done) = flying.join_next(), if !flying.is_empty() => {
                let answer = done.context("a sending task ended abnormally; this is a bug")?;
                answering = begin.elapsed();
                if answer.job_id.is_some() {
                    watch.accepted(&answer);
                    open.push_back(answer);
                } else {
                    watch.ended(answer);
                }
            }
            shot = due.recv(), if !fed && flying.len() < concurrency => match shot {
                Some(shot) => {
                    sending = begin.elapsed();
                    watch.sent();
                    let service = service.clone();
                    flying.spawn(async move { service.send(shot).await });
                }
                None => fed = true,
            },
        }
    }
    feeding.await.context("the feeding thread ended abnormally; this is a bug")??;
    Ok(Sent { sending, answering, interrupted: stop.is_none() })
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No handler could be set: then Ctrl-C ends the process, as ever.
        std::future::pending::<()>().await;
    }
}

/// Hands each reading over at its intended start.
fn feed<I>(readings: I, pace: &Pace, begin: Instant, shots: &Sender<Shot>, stopped: &Stop<()>) -> Result<()>
where
    I: Iterator<Item = Result<(Option<String>, Answer)>>,
{
    for (index, reading) in (0_u64..).zip(readings) {
        let (body, answer) = reading?;
        let due = begin + pace.at(index);
        let wait = due.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
        if shots.blocking_send(Shot { due, body, answer }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Asks for the open jobs, oldest first, until all ended, `wait` is over, or Ctrl-C.
///
/// It starts after the sending is over: asking while rows leave would be part of the load measured.
///
/// # Errors
/// When a task of ours ended abnormally.
pub(super) async fn read_back(
    service: &Service,
    open: VecDeque<Answer>,
    wait: Duration,
    watch: &mut impl Watch,
) -> Result<()> {
    let end = Instant::now() + wait;
    let mut queue: VecDeque<(Instant, Answer)> = open.into_iter().map(|answer| (Instant::now(), answer)).collect();
    let mut asking: JoinSet<(bool, Answer)> = JoinSet::new();
    let mut interrupt = Box::pin(interrupted());
    let mut over = false;
    while !(queue.is_empty() && asking.is_empty()) {
        while !over && asking.len() < READERS {
            // Pauses are alike, so the front is about the next one due.
            let Some((_, mut answer)) = queue.pop_front_if(|(due, _)| *due <= Instant::now()) else { break };
            let service = service.clone();
            asking.spawn(async move { (service.ask_job(&mut answer).await, answer) });
        }
        if over && asking.is_empty() {
            break;
        }
        let due = queue.front().filter(|_| asking.len() < READERS).map_or(end, |(due, _)| (*due).min(end));
        tokio::select! {
            Some(done) = asking.join_next() => {
                let (ended, answer) = done.context("a task that asks for jobs ended abnormally; this is a bug")?;
                if ended {
                    watch.ended(answer);
                } else {
                    queue.push_back((Instant::now() + pause(queue.len()), answer));
                }
            }
            () = tokio::time::sleep_until(due.into()), if !over => over = Instant::now() >= end,
            () = &mut interrupt, if !over => over = true,
        }
    }
    let why = if Instant::now() >= end { "--wait-s" } else { "Ctrl-C" };
    for (_, mut answer) in queue {
        let state = answer.job_state.clone().unwrap_or_else(|| "unknown".to_owned());
        if answer.error.is_none() {
            answer.fail(&format!("the accepted job had no result when waiting ended ({why}); its state: {state}"));
        }
        watch.ended(answer);
    }
    Ok(())
}

/// One millisecond per open job keeps the asking at about a thousand a second.
fn pause(open: usize) -> Duration {
    let wanted = Duration::from_millis(u64::try_from(open).unwrap_or(u64::MAX));
    wanted.clamp(ASK_AGAIN.0, ASK_AGAIN.1)
}

#[cfg(test)]
mod tests;
