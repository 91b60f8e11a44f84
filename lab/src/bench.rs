//! `lab bench`: the engine and the queue measured beside their rivals, side by side in one run.
//!
//! Owns the arguments, the order of the sections and the report. Every comparison takes turns
//! (A, B, A, B, …) and gives the ratio of each turn, so that a machine that slows down slows both.
//! Inputs rotate through many random rows: a processor that sees one row again and again learns its
//! way through a tree by heart. Setting up (builds, Python environments, files) is `script/bench`'s.

mod engine;
pub(crate) mod facts;
mod floor;
mod forest;
mod http;
mod peers;
pub(crate) mod process;
mod queue;
mod raw;
mod reload;
mod report;
mod rows;
pub(crate) mod service;
mod spread;
mod start;
mod wrk;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use report::Section;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The engine: in process, over HTTP against other servers, trees, start, reloads.
    Engine(Box<EngineArgs>),
    /// The queue: beside other people's, over HTTP, with a long backlog, in a file, and its round trips.
    Queue(Box<queue::QueueArgs>),
    /// One half of a queue's work; for `queue`.
    #[command(hide = true)]
    QueueWork(queue::work::WorkArgs),
    /// A bare axum handler that only parses a reading; serves until it is killed.
    #[command(hide = true)]
    Floor {
        /// Port to listen on.
        #[arg(long)]
        port: u16,
    },
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// In process: saturated, and one caller, against raw ONNX Runtime.
    Engine,
    /// `POST /predict` against Python servers and a bare axum handler.
    Http,
    /// An isolation forest of 100 trees: stock export, optimised, native.
    Trees,
    /// Time from process start to ready, and memory.
    Start,
    /// Reloads under load.
    Reload,
}

/// What every run is told.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// A few seconds a section: shows that it runs; its figures are worth little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the figures to this file as well, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: PathBuf,
    /// The model repository.
    #[arg(long, value_name = "DIR", default_value = "models")]
    pub(crate) models: PathBuf,
    /// The service's binary [default: beside this one].
    #[arg(long, value_name = "FILE")]
    pub(crate) service: Option<PathBuf>,
    /// The Redis server's binary.
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    pub(crate) redis: PathBuf,
    /// What is measured, for the report.
    #[arg(long, default_value = "unknown")]
    pub(crate) commit: String,
}

impl Setup {
    /// `quick` where a short run was asked for, else `real`.
    pub(crate) const fn or_quick<T: Copy>(&self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }

    /// The service's binary.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn service(&self) -> anyhow::Result<PathBuf> {
        let path = match &self.service {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("infer-router"),
        };
        path.canonicalize().with_context(|| format!("no service at {}: build worker-native", path.display()))
    }
}

#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Sections [default: all].
    pub(crate) sections: Vec<Name>,
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// The isolation forest of 100 trees, as skl2onnx exports it.
    #[arg(long, value_name = "FILE")]
    pub(crate) forest: Option<PathBuf>,
    /// The folder of the rivals' servers.
    #[arg(long, value_name = "DIR")]
    pub(crate) peers: Option<PathBuf>,
    /// The folder of the rivals' Python environments.
    #[arg(long, value_name = "DIR")]
    pub(crate) peers_home: Option<PathBuf>,
    /// Measure against this rival only; may be given again.
    #[arg(long, value_name = "PEER")]
    pub(crate) peer: Vec<String>,
}

/// Runs what was asked for, and prints each section as soon as it is done.
///
/// # Errors
/// What keeps a section from being measured.
pub(crate) fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Floor { port } => floor::run(port),
        Bench::Engine(args) => run_sections(&args.setup, &args.sections, |name| match name {
            Name::Engine => engine::measure(&args),
            Name::Http => http::measure(&args),
            Name::Trees => forest::measure(&args),
            Name::Start => start::measure(&args),
            Name::Reload => reload::measure(&args),
        }),
        Bench::Queue(args) => queue::run(&args),
        Bench::QueueWork(args) => queue::work::run(&args),
    }
}

/// Measures the chosen sections, or all, in the order they are declared in.
fn run_sections<N: ValueEnum + PartialEq>(
    setup: &Setup,
    chosen: &[N],
    measure: impl Fn(&N) -> anyhow::Result<Section>,
) -> anyhow::Result<()> {
    let names = N::value_variants().iter().filter(|name| chosen.is_empty() || chosen.contains(name));
    let machine = facts::Machine::read(&setup.commit, setup.quick);
    crate::print(&machine.text())?;
    let mut sections: Vec<Section> = Vec::new();
    for name in names {
        let (before, then) = (facts::load_average(), facts::Ticks::now());
        let mut section = measure(name)?;
        let stolen = facts::Ticks::now().stolen_since(then);
        section.note(format!(
            "Load average before this section: {before}; the host took {stolen:.1} % of the cores' time."
        ));
        crate::print(&section.text())?;
        sections.push(section);
    }
    crate::print(&report::goals(&sections))?;
    if let Some(path) = &setup.json {
        let json = report::json(&machine, &sections);
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
