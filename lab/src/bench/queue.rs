//! The queue beside other people's, in one run; and what it costs by itself.
//!
//! Owns the arguments and what the sections share: the rates of a round of work, and what it takes of the processors.
//! The work is the same for all (`work`): a mean of seven numbers a job, its result kept, on a Redis that appends every
//! command to a file.

mod backlog;
mod child;
mod file;
mod grouping;
mod halves;
mod http;
mod rivals;
mod theirs;
pub(crate) mod work;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Setup;
use super::service::Redis;
use super::spread::{Spread, number};
use child::Child;
use theirs::Theirs;
use work::Half;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Beside BullMQ, arq, Celery and RQ: one process hands jobs in, one runs them.
    Rivals,
    /// Jobs that enter by `POST /v1/jobs`, beside BullMQ.
    Http,
    /// What a job costs with a backlog of a million, and of a thousand.
    Backlog,
    /// The queue in a file beside the queue in Redis.
    File,
    /// Round trips of callers that hand in, or settle, one job at a time.
    Grouping,
}

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// Sections [default: all].
    sections: Vec<Name>,
    #[command(flatten)]
    setup: Setup,
    /// The folder of the rivals' scripts.
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// The folder of the rivals' environments.
    #[arg(long, value_name = "DIR")]
    peers_home: Option<PathBuf>,
}

impl QueueArgs {
    fn theirs(&self) -> Option<Theirs> {
        Some(Theirs { folder: self.peers.clone()?, home: self.peers_home.clone()? })
    }
}

/// Measures the chosen sections.
///
/// # Errors
/// What keeps a section from being measured, other than something that is not installed: then the section says so.
pub(crate) fn run(args: &QueueArgs) -> anyhow::Result<()> {
    super::run_sections(&args.setup, &args.sections, |name| match name {
        Name::Rivals => rivals::measure(args),
        Name::Http => http::measure(args),
        Name::Backlog => backlog::measure(args),
        Name::File => file::measure(args),
        Name::Grouping => grouping::measure(args),
    })
}

/// What jobs took from the first hand-in to the last result.
#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    jobs: u64,
    /// Until all were handed in.
    enqueue_seconds: f64,
    /// Until all were settled.
    seconds: f64,
    /// Processor time of Redis, of what handed in, and of what ran the jobs.
    redis_us: u64,
    enqueue_us: u64,
    run_us: u64,
}

/// One process hands jobs in, one runs them, both at once.
fn together(redis: &Redis, jobs: u64) -> anyhow::Result<Round> {
    round(redis, jobs, true)
}

/// One process hands all jobs in; then one runs them.
fn in_order(redis: &Redis, jobs: u64) -> anyhow::Result<Round> {
    round(redis, jobs, false)
}

fn round(redis: &Redis, jobs: u64, at_once: bool) -> anyhow::Result<Round> {
    let mut enqueue = Child::start(Half::Enqueue, &redis.url(), jobs, &[])?;
    let mut run = Child::start(Half::Run, &redis.url(), jobs, &[])?;
    let (before, started) = (redis.cpu_us(), Instant::now());
    enqueue.go()?;
    if at_once {
        run.go()?;
    }
    let handed_in = enqueue.done()?;
    if !at_once {
        run.go()?;
    }
    let ran = run.done()?;
    Ok(Round {
        jobs,
        enqueue_seconds: handed_in.seconds,
        seconds: started.elapsed().as_secs_f64(),
        redis_us: redis.cpu_us() - before,
        enqueue_us: handed_in.cpu_us,
        run_us: ran.cpu_us,
    })
}

/// Jobs a second of each round.
fn rates(rounds: &[Round]) -> Spread {
    spread(rounds.iter().map(|round| round.jobs as f64 / round.seconds))
}

fn enqueue_rates(rounds: &[Round]) -> Spread {
    spread(rounds.iter().map(|round| round.jobs as f64 / round.enqueue_seconds))
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut spread = Spread::default();
    values.for_each(|value| spread.push(value));
    spread
}

/// Microseconds a job over all rounds: the kernel counts in hundredths of a second, which is much for one round.
fn per_job(rounds: &[Round], of: impl Fn(&Round) -> u64) -> f64 {
    let (time, jobs) = rounds.iter().fold((0, 0), |(time, jobs), round| (time + of(round), jobs + round.jobs));
    time as f64 / jobs.max(1) as f64
}

/// Processor time a job, as three cells of a table.
fn cpu_cells(rounds: &[Round]) -> [String; 3] {
    let cell = |of: fn(&Round) -> u64| number(per_job(rounds, of), 1);
    [cell(|round| round.redis_us), cell(|round| round.enqueue_us), cell(|round| round.run_us)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_told_as_rates_and_processor_time() {
        let round = |redis_us, seconds| Round {
            jobs: 1_000,
            enqueue_seconds: 0.25,
            seconds,
            redis_us,
            enqueue_us: 5_000,
            run_us: 0,
        };
        let rounds = [round(20_000, 0.5), round(30_000, 0.25)];
        assert_eq!(rates(&rounds).median(), 3_000.0);
        assert_eq!(enqueue_rates(&rounds).median(), 4_000.0);
        assert_eq!(cpu_cells(&rounds), ["25.0", "5.0", "0.0"]);
    }
}
