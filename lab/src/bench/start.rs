//! From the process's start to ready, and what the service takes of memory when it idles.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::EngineArgs;
use super::facts::memory;
use super::process::rest;
use super::report::Section;
use super::service::{Persistence, Redis, Service};
use super::spread::Spread;

/// Settings over the defaults, with what they mean.
const WAYS: [(&str, &[(&str, &str)]); 3] = [
    ("all models, one session each", &[("MODEL_SESSIONS", "1")]),
    ("all models, as the defaults say", &[]),
    ("models on first use", &[("LOAD_ALL_MODELS", "false")]),
];

pub(crate) fn measure(args: &EngineArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("Start and memory");
    let redis = Redis::start(&args.setup.redis, Persistence::Off)?;
    let mut measured = WAYS.map(|(name, settings)| (name, settings, [const { Vec::<f64>::new() }; 3]));
    for _ in 0..args.setup.or_quick(9, 3) {
        for (_, settings, columns) in &mut measured {
            let service = Service::start(&args.setup, &redis, &args.setup.models, settings, Stdio::null())?;
            // Until what the start left to do in the background is done.
            rest(Duration::from_secs(args.setup.or_quick(3, 1)));
            let memory = memory(service.server.pid()).context("the service is gone")?;
            columns[0].push(service.ready_after.as_secs_f64() * 1e3);
            columns[1].push(memory.rss as f64 / 1024.0);
            columns[2].push(memory.anonymous as f64 / 1024.0);
        }
    }
    let mut table = Vec::new();
    for (name, _, columns) in measured {
        let spreads = columns.map(|column| {
            let mut spread = Spread::default();
            column.into_iter().for_each(|value| spread.push(value));
            spread
        });
        let [ready, rss, anonymous] = &spreads;
        section.keep(name, json!({ "ready_ms": ready, "rss_mib": rss, "anonymous_mib": anonymous }));
        table.push(vec![name.to_owned(), ready.show(0), rss.show(1), anonymous.show(1)]);
    }
    let caption = "From the process's start to the first 200 of /readyz, and resident memory when idle:";
    section.table(caption, &["", "ready after ms", "RSS MiB", "of it heap and stacks MiB"], table);
    let models = worker_native::engine::repository::Repository::read(&args.setup.models);
    let (tasks, versions) = models.tasks.iter().fold((0, 0), |(tasks, versions), task| {
        (tasks + 1, versions + task.models.iter().map(|model| model.versions.len()).sum::<usize>())
    });
    section.note(format!("The repository has {tasks} tasks with {versions} versions of models."));
    Ok(section)
}
