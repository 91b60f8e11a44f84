//! What a job costs while many wait, and while few do: the same rounds on two queues in turn.
//!
//! A round hands bulks in and runs as many of the oldest, so that the backlog stays as it was filled.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use super::work::Half;
use super::{QueueArgs, child, spread};
use crate::bench::process::rest;
use crate::bench::report::Section;
use crate::bench::service::{Persistence, Redis};
use crate::bench::spread::{Spread, number};

/// Most that a job may cost more.
const PROMISED: f64 = 0.1;

/// A queue in which so many jobs wait.
#[derive(Debug)]
struct Standing {
    backlog: u64,
    place: Place,
    taken: Vec<Taken>,
}

#[derive(Debug)]
enum Place {
    Redis(Redis),
    File(TempDir),
}

/// What a round took, a job.
#[derive(Debug, Clone, Copy, Serialize)]
struct Taken {
    wall_us: f64,
    /// Of Redis; of the process where the queue is in a file.
    cpu_us: f64,
}

impl Standing {
    fn new(place: Place, backlog: u64) -> anyhow::Result<Self> {
        let standing = Self { backlog, place, taken: vec![] };
        child::work(Half::Enqueue, &standing.address(), backlog, &[])?;
        Ok(standing)
    }

    fn in_redis(binary: &Path, backlog: u64) -> anyhow::Result<Self> {
        // A rewrite of the file would fall into some rounds and not into others.
        let still = ["--auto-aof-rewrite-percentage", "0"];
        Self::new(Place::Redis(Redis::start_with(binary, Persistence::EverySecond, &still)?), backlog)
    }

    fn in_file(backlog: u64) -> anyhow::Result<Self> {
        Self::new(Place::File(tempfile::tempdir()?), backlog)
    }

    fn address(&self) -> String {
        match &self.place {
            Place::Redis(redis) => redis.url(),
            Place::File(dir) => dir.path().join("queue.sqlite").display().to_string(),
        }
    }

    fn round(&mut self, jobs: u64) -> anyhow::Result<()> {
        let cpu = || if let Place::Redis(redis) = &self.place { redis.cpu_us() } else { 0 };
        let before = cpu();
        let took = child::work(Half::Steady, &self.address(), jobs, &[])?;
        let cpu_us = if matches!(self.place, Place::File(_)) { took.cpu_us } else { cpu() - before };
        self.taken.push(Taken { wall_us: took.seconds * 1e6 / jobs as f64, cpu_us: cpu_us as f64 / jobs as f64 });
        Ok(())
    }

    fn column(&self, of: fn(&Taken) -> f64) -> Spread {
        spread(self.taken.iter().map(of))
    }

    fn cpu(&self) -> f64 {
        self.taken.iter().map(|taken| taken.cpu_us).sum::<f64>() / self.taken.len().max(1) as f64
    }
}

pub(super) fn measure(args: &QueueArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("The cost of a backlog");
    let backlogs = [1_000, args.setup.or_quick(1_000_000, 20_000)];
    let mut redis = backlogs.map(|backlog| Standing::in_redis(&args.setup.redis, backlog));
    if let [Ok(few), Ok(many)] = &mut redis {
        compare(args, &mut section, "Redis", few, many)?;
    }
    for standing in redis {
        standing?;
    }
    match (Standing::in_file(backlogs[0]), Standing::in_file(backlogs[1])) {
        (Ok(mut few), Ok(mut many)) => compare(args, &mut section, "a file", &mut few, &mut many)?,
        (Err(error), _) | (_, Err(error)) => section.note(format!("The queue in a file was not measured: {error:#}.")),
    }
    Ok(section)
}

fn compare(
    args: &QueueArgs,
    section: &mut Section,
    place: &str,
    few: &mut Standing,
    many: &mut Standing,
) -> anyhow::Result<()> {
    let jobs = args.setup.or_quick(20_000, 2_000);
    rest(Duration::from_secs(args.setup.or_quick(2, 0)));
    for turn in 0..args.setup.or_quick(21, 3) {
        // Who comes first changes: what the first leaves to be done (a write to the disk) falls to the second.
        let (first, second) = if turn % 2 == 0 { (&mut *few, &mut *many) } else { (&mut *many, &mut *few) };
        first.round(jobs)?;
        second.round(jobs)?;
    }
    let mut table = Vec::new();
    for standing in [&*few, &*many] {
        let wall = standing.column(|taken| taken.wall_us);
        table.push(vec![number(standing.backlog as f64, 0), wall.show(1), number(standing.cpu(), 1)]);
    }
    let wall = many.column(|taken| taken.wall_us).over(&few.column(|taken| taken.wall_us));
    let cpu = many.cpu() / few.cpu();
    table.push(vec!["ratio".to_owned(), wall.show(3), number(cpu, 3)]);
    let who = if place == "Redis" { "Redis" } else { "the process" };
    section.table(
        format!(
            "In {place}, {} turns of {} jobs in and as many out, in microseconds a job:",
            few.taken.len(),
            number(jobs as f64, 0)
        ),
        &["waiting", "wall time", &format!("processor time of {who}")],
        table,
    );
    let [small, large] = [few.backlog, many.backlog].map(|backlog| number(backlog as f64, 0));
    for (what, ratio) in [("wall time", wall.median()), ("processor time", cpu)] {
        section.goal(
            format!("in {place}, a job with {large} waiting costs the {what} of one with {small} waiting, within 10 %"),
            format!("{:+.1} %", (ratio - 1.0) * 100.0),
            ratio - 1.0 <= PROMISED,
        );
    }
    section.keep(place, json!({ "few": few.taken, "many": many.taken, "wall_ratio": wall, "cpu_ratio": cpu }));
    Ok(())
}
