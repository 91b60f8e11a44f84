//! The queue in a file beside the queue in Redis, at two levels of care each: on the disk before the answer, or soon.

use serde_json::json;
use tempfile::TempDir;

use super::halves::CALLERS;
use super::work::Half;
use super::{QueueArgs, child};
use crate::bench::facts;
use crate::bench::report::Section;
use crate::bench::service::{Persistence, Redis};
use crate::bench::spread::Spread;

/// Where the queue is, and when a write counts as done.
#[derive(Debug, Clone, Copy)]
enum Way {
    File(&'static str),
    Redis(Persistence),
}

const WAYS: [(&str, Way); 4] = [
    ("file, QUEUE_FILE_SYNC=full", Way::File("QUEUE_FILE_SYNC=full")),
    ("Redis, appendfsync always", Way::Redis(Persistence::Always)),
    ("file, QUEUE_FILE_SYNC=normal", Way::File("QUEUE_FILE_SYNC=normal")),
    ("Redis, appendfsync everysec", Way::Redis(Persistence::EverySecond)),
];

/// What was seen of one way, turn by turn, in jobs a second.
#[derive(Debug, Default)]
struct Column {
    bulks: Spread,
    singly: Spread,
    end_to_end: Spread,
    cpu_us: Spread,
}

pub(super) fn measure(args: &QueueArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("The queue in a file");
    let mut columns: [Result<Column, String>; 4] = [const { Ok(Column::new()) }; 4];
    let turns = args.setup.or_quick(5, 1);
    for _ in 0..turns {
        for ((_, way), column) in WAYS.iter().zip(&mut columns) {
            if let Ok(seen) = column
                && let Err(error) = turn(args, *way, seen)
            {
                *column = Err(format!("{error:#}"));
            }
        }
    }
    let mut table = Vec::new();
    for ((name, _), column) in WAYS.iter().zip(&columns) {
        match column {
            Ok(seen) => {
                let cells = [&seen.bulks, &seen.singly, &seen.end_to_end].map(|spread| spread.show(0));
                table.push([&[(*name).to_owned()], &cells[..], &[seen.cpu_us.show(1)]].concat());
                section.keep(
                    name,
                    json!({
                        "bulks": seen.bulks, "singly": seen.singly, "end_to_end": seen.end_to_end,
                        "cpu_us": seen.cpu_us,
                    }),
                );
            }
            Err(error) => section.note(format!("{name} was not measured: {error}.")),
        }
    }
    section.table(
        format!(
            "{turns} turns, each on a fresh store, jobs a second; processor time of the process, and of Redis, in \
             microseconds a job from end to end:"
        ),
        &["", "in by bulks of 500", &format!("in by {CALLERS} callers, singly"), "end to end, one process", "us a job"],
        table,
    );
    for (what, [file, redis]) in [("on the disk before the answer", [0, 1]), ("on the disk soon", [2, 3])] {
        if let (Ok(file), Ok(redis)) = (&columns[file], &columns[redis]) {
            let times = |of: fn(&Column) -> &Spread| of(file).over(of(redis)).show(2);
            section.note(format!(
                "The file over Redis, {what}: {} times by bulks, {} times singly, {} times from end to end.",
                times(|column| &column.bulks),
                times(|column| &column.singly),
                times(|column| &column.end_to_end)
            ));
        }
    }
    section.note(disk());
    Ok(section)
}

impl Column {
    const fn new() -> Self {
        Self { bulks: Spread::new(), singly: Spread::new(), end_to_end: Spread::new(), cpu_us: Spread::new() }
    }
}

/// Where the stores lie: without a disk, a write is done at once.
fn disk() -> String {
    let folder = std::env::temp_dir();
    let kind = facts::file_system(&folder.canonicalize().unwrap_or(folder));
    let warning = if kind == "tmpfs" { ", which is memory: TMPDIR names a folder on a disk" } else { "" };
    format!("The stores lie on {kind}{warning}.")
}

/// A store that does not outlive its turn.
enum Store {
    File(TempDir),
    Redis(Redis),
}

impl Store {
    fn new(args: &QueueArgs, way: Way) -> anyhow::Result<Self> {
        Ok(match way {
            Way::File(_) => Self::File(tempfile::tempdir()?),
            Way::Redis(persistence) => Self::Redis(Redis::start(&args.setup.redis, persistence)?),
        })
    }

    fn address(&self) -> String {
        match self {
            Self::File(dir) => dir.path().join("queue.sqlite").display().to_string(),
            Self::Redis(redis) => redis.url(),
        }
    }

    fn cpu_us(&self) -> u64 {
        if let Self::Redis(redis) = self { redis.cpu_us() } else { 0 }
    }
}

fn turn(args: &QueueArgs, way: Way, seen: &mut Column) -> anyhow::Result<()> {
    let (jobs, single_jobs) = (args.setup.or_quick(50_000, 2_000), args.setup.or_quick(20_000, 1_000));
    let settings: &[&str] = if let Way::File(sync) = &way { &[*sync] } else { &[] };
    let rate = |jobs: u64, seconds: f64| jobs as f64 / seconds;
    let store = Store::new(args, way)?;
    let before = store.cpu_us();
    let both = child::work(Half::Both, &store.address(), jobs, settings)?;
    let cpu_us = both.cpu_us + store.cpu_us() - before;
    let bulks = child::work(Half::Enqueue, &store.address(), jobs, settings)?;
    let singly = child::work(Half::EnqueueSingly, &store.address(), single_jobs, settings)?;
    seen.end_to_end.push(rate(jobs, both.seconds));
    seen.cpu_us.push(cpu_us as f64 / jobs as f64);
    seen.bulks.push(rate(jobs, bulks.seconds));
    seen.singly.push(rate(single_jobs, singly.seconds));
    Ok(())
}
