//! Callers that hand in, or settle, one job at a time, many at once: how many round trips that takes.

use anyhow::Context;
use serde::Serialize;

use super::halves::CALLERS;
use super::work::Half;
use super::{QueueArgs, child, spread};
use crate::bench::report::Section;
use crate::bench::service::{Persistence, Redis};
use crate::bench::spread::Spread;

/// Most round trips of a hand-in or a settlement, where so many call at once.
const FEW: f64 = 0.1;

/// What one turn took for each job.
#[derive(Debug, Clone, Copy, Serialize)]
struct Took {
    per_second: f64,
    trips: f64,
    redis_us: f64,
}

pub(super) fn measure(args: &QueueArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("Grouping");
    let jobs = args.setup.or_quick(50_000, 2_000);
    let (mut hand_ins, mut settlements) = (Vec::new(), Vec::new());
    for _ in 0..args.setup.or_quick(5, 2) {
        let redis = Redis::start(&args.setup.redis, Persistence::EverySecond)?;
        hand_ins.push(part(&redis, Half::EnqueueSingly, jobs)?);
        settlements.push(part(&redis, Half::SettleSingly, jobs)?);
    }
    let mut table = Vec::new();
    for (name, seen) in [("hand-ins", &hand_ins), ("settlements", &settlements)] {
        let column = |of: fn(&Took) -> f64| -> Spread { spread(seen.iter().map(of)) };
        let trips = column(|took| took.trips);
        let (rate, redis) = (column(|took| took.per_second), column(|took| took.redis_us));
        table.push(vec![name.to_owned(), rate.show(0), trips.show(3), redis.show(1)]);
        section.goal(
            format!("{CALLERS} callers at once share round trips: at most {FEW} of them for one of their {name}"),
            trips.show(3),
            trips.median() <= FEW,
        );
        section.keep(name, seen);
    }
    section.table(
        format!(
            "One job a call, {CALLERS} callers at once in one process, {} turns of {jobs} jobs; round trips are calls of \
             scripts by Redis's own count, those that claim left out; processor time of Redis in microseconds a job:",
            hand_ins.len()
        ),
        &["", "jobs/s", "round trips a job", "Redis us"],
        table,
    );
    section.note("The settlements' rate and processor time have the claims of the jobs in them.");
    Ok(section)
}

fn part(redis: &Redis, half: Half, jobs: u64) -> anyhow::Result<Took> {
    let (calls, cpu) = (script_calls(redis)?, redis.cpu_us());
    let took = child::work(half, &redis.url(), jobs, &[])?;
    let trips = (script_calls(redis)? - calls).saturating_sub(took.claims);
    Ok(Took {
        per_second: jobs as f64 / took.seconds,
        trips: trips as f64 / jobs as f64,
        redis_us: (redis.cpu_us() - cpu) as f64 / jobs as f64,
    })
}

/// How often scripts were called.
fn script_calls(redis: &Redis) -> anyhow::Result<u64> {
    let stats = redis.info("commandstats")?;
    Ok(calls_of(&stats, "evalsha")? + calls_of(&stats, "eval")?)
}

/// Calls of a command, as in `cmdstat_evalsha:calls=42,usec=…`; 0 where it was never called.
fn calls_of(stats: &str, command: &str) -> anyhow::Result<u64> {
    let head = format!("cmdstat_{command}:calls=");
    let Some(rest) = stats.lines().find_map(|line| line.strip_prefix(&head)) else { return Ok(0) };
    let calls = rest.split(',').next().context("no number of calls")?;
    Ok(calls.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_by_command() {
        let stats = "# Commandstats\r\ncmdstat_eval:calls=3,usec=9\r\ncmdstat_evalsha:calls=42,usec=700,x=1\r\n";
        assert_eq!(calls_of(stats, "evalsha").unwrap(), 42);
        assert_eq!(calls_of(stats, "eval").unwrap(), 3);
        assert_eq!(calls_of(stats, "xadd").unwrap(), 0);
    }
}
