//! Jobs that enter over HTTP: `POST /v1/jobs` of a service that runs them as well, beside BullMQ's own benchmark.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Runtime;
use worker_native::queue::{self, Counts, Queue};

use super::{QueueArgs, spread, work};
use crate::bench::process::rest;
use crate::bench::report::Section;
use crate::bench::rows::{COUNT, Rows};
use crate::bench::service::{Persistence, Redis, Service};
use crate::bench::spread::Spread;
use crate::bench::wrk::{Requests, Seen, post};
use crate::bench::{facts, peers};

const TASK: &str = "pump-anomaly";
/// Callers at once: what they hand in at one time shares a round trip to Redis.
const CONNECTIONS: [usize; 2] = [32, 128];
/// How many times as many jobs a second as BullMQ's the project promises.
const PROMISED: f64 = 2.0;
/// The backlog must not turn jobs away or move them to another model.
const SETTINGS: [(&str, &str); 4] =
    [("ROLE", "all"), ("ROUTING_POLICY", "always-accurate"), ("LOG_LEVEL", "warn"), ("QUEUE_MAX_DEPTH", "10000000")];
const LIMIT: Duration = Duration::from_secs(120);

/// One load, and what became of its jobs.
#[derive(Debug, Serialize)]
struct Turn {
    seen: Seen,
    /// Jobs settled, and from the first request to the last settlement.
    settled: u64,
    seconds: f64,
    redis_us: u64,
    service_us: u64,
}

impl Turn {
    fn settled_rate(&self) -> f64 {
        self.settled as f64 / self.seconds
    }
}

pub(super) fn measure(args: &QueueArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("Jobs over HTTP");
    let rows = Rows::like_samples(&args.setup.models.join(TASK), 5)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let theirs = args.theirs();
    let (mut turns, mut bullmq) = (CONNECTIONS.map(|_| Vec::new()), Spread::default());
    for _ in 0..args.setup.or_quick(7, 2) {
        for (turns, connections) in turns.iter_mut().zip(CONNECTIONS) {
            turns.push(turn(args, &rows, &runtime, connections)?);
        }
        let redis = Redis::start(&args.setup.redis, Persistence::EverySecond)?;
        match theirs.as_ref().map(|theirs| theirs.bullmq(&redis, args.setup.or_quick(10_000, 2_000))).transpose() {
            Ok(rate) => rate.iter().for_each(|rate| bullmq.push(rate.end_to_end)),
            Err(error) => section.note(format!("A turn without BullMQ: {error:#}.")),
        }
    }
    report(&mut section, args, &turns);
    if bullmq.len() == turns[0].len() {
        section
            .note(format!("BullMQ's script, in turn with these, from end to end: {} jobs a second.", bullmq.show(0)));
        let times = turns.each_ref().map(|turns| spread(turns.iter().map(Turn::settled_rate)).over(&bullmq));
        for (times, connections) in times.iter().zip(CONNECTIONS) {
            section.goal(
                format!(
                    "jobs entering over HTTP, {connections} connections: at least {PROMISED} times BullMQ end to end"
                ),
                format!("{} times", times.show(1)),
                times.median() >= PROMISED,
            );
        }
        section.keep("bullmq", json!({ "end_to_end": bullmq, "times": times }));
    } else {
        section.note("Without BullMQ in every turn there is no ratio.");
    }
    Ok(section)
}

fn report(section: &mut Section, args: &QueueArgs, turns: &[Vec<Turn>; CONNECTIONS.len()]) {
    let row = |(turns, connections): (&Vec<Turn>, usize)| {
        let column = |of: fn(&Turn) -> f64| spread(turns.iter().map(of));
        let (p50, p99) = (column(|turn| turn.seen.p50_us / 1e3), column(|turn| turn.seen.p99_us / 1e3));
        vec![
            connections.to_string(),
            column(|turn| turn.seen.per_second()).show(0),
            column(Turn::settled_rate).show(0),
            p50.show(2),
            p99.show(2),
            column(|turn| turn.redis_us as f64 / turn.settled.max(1) as f64).show(1),
            column(|turn| turn.service_us as f64 / turn.settled.max(1) as f64).show(1),
        ]
    };
    section.table(
        format!(
            "wrk, {TASK}, {} turns of {} s, each with a fresh service and Redis; settled: from the first request until \
             nothing is left; processor time in microseconds a job:",
            turns[0].len(),
            seconds(args)
        ),
        &["connections", "accepted/s", "settled/s", "p50 ms", "p99 ms", "Redis us", "service us"],
        turns.iter().zip(CONNECTIONS).map(row).collect(),
    );
    section.keep("turns", turns);
    let turns = || turns.iter().flatten();
    let faults: u64 = turns().map(|turn| turn.seen.not_ok + turn.seen.broken).sum();
    if faults > 0 {
        section.note(format!("{faults} requests were not answered well."));
    }
    // What wrk had sent but not seen answered at its end is settled as well.
    let unseen: i64 = turns().map(|turn| turn.settled as i64 - turn.seen.requests as i64).sum();
    section.note(format!(
        "Settled jobs less answers that wrk saw, over all turns: {unseen} (requests cut off at its end)."
    ));
}

const fn seconds(args: &QueueArgs) -> u64 {
    args.setup.or_quick(5, 1)
}

fn turn(args: &QueueArgs, rows: &Rows, runtime: &Runtime, connections: usize) -> anyhow::Result<Turn> {
    let redis = Redis::start(&args.setup.redis, Persistence::EverySecond)?;
    let service = Service::start(&args.setup, &redis, &args.setup.models, &SETTINGS, Stdio::null())?;
    let json = "Content-Type: application/json\r\n";
    let request = |index| post(service.port, "/v1/jobs", json, peers::reading(rows, index).as_bytes());
    let requests = Requests::write((0..COUNT).map(request))?;
    let queue =
        runtime.block_on(async { queue::open(&work::config(&redis.url(), &[])?).map_err(anyhow::Error::from) })?;
    requests.load(service.port, connections, 1)?;
    let before = drained(runtime, &queue)?.settled;
    let (redis_before, service_before) = (redis.cpu_us(), facts::cpu_us(service.server.pid()));
    let started = Instant::now();
    let seen = requests.load(service.port, connections, seconds(args))?;
    let settled = drained(runtime, &queue)?.settled - before;
    Ok(Turn {
        seen,
        settled,
        seconds: started.elapsed().as_secs_f64(),
        redis_us: redis.cpu_us() - redis_before,
        service_us: facts::cpu_us(service.server.pid()) - service_before,
    })
}

/// Waits until no job is left; the numbers then.
fn drained(runtime: &Runtime, queue: &Arc<dyn Queue>) -> anyhow::Result<Counts> {
    let started = Instant::now();
    loop {
        let counts = runtime.block_on(queue.counts(TASK)).context("the queue does not answer")?;
        if counts.depths.values().all(|depth| *depth == 0) {
            return Ok(counts);
        }
        anyhow::ensure!(started.elapsed() < LIMIT, "jobs are left over: {counts:?}");
        rest(Duration::from_millis(5));
    }
}
