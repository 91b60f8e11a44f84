//! The same work beside BullMQ, arq, Celery and RQ, in turns.
//!
//! Their script runs them one after the other, so a turn is: ours, all of theirs, ours again. Each of our rounds has a
//! Redis of its own, set as their script sets theirs.

use serde_json::json;

use super::theirs::{Rate, Run, Theirs};
use super::{QueueArgs, Round, cpu_cells, enqueue_rates, in_order, rates, spread, together};
use crate::bench::report::Section;
use crate::bench::service::{Persistence, Redis};
use crate::bench::spread::number;

/// How their script calls them, their name, and how many times as many jobs a second the project promises.
const PROMISED: [(&str, &str, f64); 4] =
    [("bullmq", "BullMQ", 5.0), ("arq", "arq", 25.0), ("celery", "Celery", 25.0), ("rq", "RQ", 25.0)];

/// Our rounds of one turn, and what their script said between them.
#[derive(Debug, Default)]
struct Turn {
    together: Vec<Round>,
    in_order: Vec<Round>,
    many: Vec<Round>,
    theirs: Option<Run>,
}

impl Turn {
    fn add(&mut self, args: &QueueArgs, jobs: u64) -> anyhow::Result<()> {
        for _ in 0..args.setup.or_quick(3, 1) {
            self.together.push(together(&redis(args)?, jobs)?);
            self.in_order.push(in_order(&redis(args)?, jobs)?);
        }
        Ok(())
    }
}

fn redis(args: &QueueArgs) -> anyhow::Result<Redis> {
    Redis::start(&args.setup.redis, Persistence::EverySecond)
}

pub(super) fn measure(args: &QueueArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("The queue beside others");
    let (jobs, many) = (args.setup.or_quick(10_000, 2_000), args.setup.or_quick(100_000, 5_000));
    let theirs = args.theirs();
    if theirs.is_none() {
        section.note("No rival was measured: their folder is not there (script/bench --help says where it is sought).");
    }
    // Code and caches come in from the disk.
    together(&redis(args)?, jobs)?;
    let mut turns = Vec::new();
    for _ in 0..args.setup.or_quick(5, 1) {
        let mut turn = Turn::default();
        turn.add(args, jobs)?;
        match theirs.as_ref().map(|theirs| theirs.run(jobs)).transpose() {
            Ok(run) => turn.theirs = run,
            Err(error) => section.note(format!("A turn without rivals: {error:#}.")),
        }
        turn.add(args, jobs)?;
        turn.many.push(together(&redis(args)?, many)?);
        turns.push(turn);
    }
    own_table(&mut section, &turns, jobs, many);
    let pairs: Vec<(&Turn, &Run)> = turns.iter().filter_map(|turn| Some((turn, turn.theirs.as_ref()?))).collect();
    if !pairs.is_empty() {
        beside(&mut section, &pairs);
    }
    section.note(redis(args)?.version()?);
    if let Some(versions) = theirs.as_ref().map(Theirs::versions).filter(|versions| !versions.is_empty()) {
        section.note(format!("{versions}."));
    }
    section.keep("theirs", pairs.iter().map(|(_, run)| run).collect::<Vec<_>>());
    Ok(section)
}

fn own_table(section: &mut Section, turns: &[Turn], jobs: u64, many: u64) {
    let all = |of: fn(&Turn) -> &Vec<Round>| turns.iter().flat_map(of).copied().collect::<Vec<Round>>();
    let ways = [
        (format!("{} jobs, in and out at once", number(jobs as f64, 0)), all(|turn| &turn.together)),
        (format!("{} jobs, all in, then all out", number(jobs as f64, 0)), all(|turn| &turn.in_order)),
        (format!("{} jobs, in and out at once", number(many as f64, 0)), all(|turn| &turn.many)),
    ];
    let mut table = Vec::new();
    for (name, rounds) in &ways {
        let [redis, enqueue, run] = cpu_cells(rounds);
        let cells = [enqueue_rates(rounds).show(0), rates(rounds).show(0), redis, enqueue, run];
        table.push([vec![name.clone()], cells.to_vec()].concat());
        section.keep(name, rounds);
    }
    section.table(
        format!(
            "Infer Router's queue, one process that hands in and one that runs, {} rounds ({} of the last row), each on \
             a fresh Redis; processor time in microseconds a job:",
            ways[0].1.len(),
            ways[2].1.len()
        ),
        &["", "handed in/s", "end to end/s", "Redis us", "handing in us", "running us"],
        table,
    );
}

/// A turn's median of ours.
fn rate(rounds: &[Round]) -> f64 {
    rates(rounds).median()
}

/// Each turn's median of ours, over theirs.
fn beside(section: &mut Section, pairs: &[(&Turn, &Run)]) {
    let mut table = Vec::new();
    for (name, title, promised) in PROMISED {
        let of = |run: &Run| run.queues.iter().find(|rate| rate.name == name).cloned();
        let seen: Vec<(&Turn, Rate)> = pairs.iter().filter_map(|(turn, run)| Some((*turn, of(run)?))).collect();
        if seen.len() < pairs.len() {
            let failed = pairs.len() - seen.len();
            section.note(format!("{title} is not installed, or failed, in {failed} of {} turns.", pairs.len()));
        }
        if seen.is_empty() {
            continue;
        }
        let enqueue = spread(seen.iter().map(|(_, theirs)| theirs.enqueue));
        let end_to_end = spread(seen.iter().map(|(_, theirs)| theirs.end_to_end));
        let times = spread(seen.iter().map(|(turn, theirs)| rate(&turn.together) / theirs.end_to_end));
        let strict = spread(seen.iter().map(|(turn, theirs)| rate(&turn.in_order) / theirs.end_to_end));
        table.push(vec![title.to_owned(), enqueue.show(0), end_to_end.show(0), times.show(1), strict.show(1)]);
        section.goal(
            format!("end to end at least {promised} times {title}"),
            format!("{} times", times.show(1)),
            times.median() >= promised,
        );
        section.keep(title, json!({ "times": times, "times_in_order": strict }));
    }
    section.table(
        format!("The rivals, {} turns, each between rounds of ours; how many times as fast ours was:", pairs.len()),
        &["", "handed in/s", "end to end/s", "ours, at once", "ours, all in, then all out"],
        table,
    );
    let raw: Vec<(&Turn, f64)> = pairs.iter().filter_map(|(turn, run)| Some((*turn, run.raw_xadd?))).collect();
    if !raw.is_empty() {
        let calls = spread(raw.iter().map(|(_, calls)| *calls));
        let share = spread(raw.iter().map(|(turn, calls)| rate(&turn.together) / calls));
        section.note(format!(
            "Pipelined raw XADD of one reading (redis-benchmark, 16 connections, 16 deep): {} a second. A job from end \
             to end runs at {} of that rate: it is handed in, claimed, settled, counted and its result kept.",
            calls.show(0),
            share.show(3)
        ));
        section.keep("raw_xadd", json!({ "per_second": calls, "ours_over_raw": share }));
    }
}
