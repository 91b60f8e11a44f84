//! `lab`: what the parts of Infer Router do, shown and measured with the functions that serve.
//!
//! Owns experiments only; our policy does not live here, its rivals do. It draws the decision table of a policy
//! over backlog and accuracy, compares policies in a simulation and on the real stack, and measures the engine
//! beside what it is built on and what it replaces.

mod bench;
mod live;
mod sim;
mod table;

use std::io::{self, Write};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "lab", about = "Experiments on Infer Router: routing policies and benchmarks", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which tier each policy takes, over backlog and the accurate model's accuracy.
    ///
    /// Example: `lab table --policy adaptive-threshold --threshold 5 --fast-accuracy 0.81`
    Table(table::TableArgs),
    /// Compare routing policies in a simulation: ours, its rivals, and a bound that knows the future.
    ///
    /// Example: `lab compare --quick --html report.html`
    Compare(Box<sim::CompareArgs>),
    /// Compare routing policies on the real stack; `script/bench live` sets everything up and calls this.
    Live(Box<live::LiveArgs>),
    /// Ask what would have been: offers the readings of a decision log again, to other policies or other workers.
    ///
    /// Example: `lab replay decisions.jsonl --policy slack-split --workers 2,4`
    Replay(Box<sim::ReplayArgs>),
    /// Measure; `script/bench` sets everything up and calls this.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<()> {
    let text = match Cli::parse().command {
        Command::Table(args) if args.json => table::json(&args),
        Command::Table(args) => table::text(&args),
        Command::Compare(args) => return sim::compare(&args),
        Command::Live(args) => return live::run(&args),
        Command::Replay(args) => sim::replay(&args)?,
        Command::Bench(bench) => return bench::run(bench),
    };
    Ok(print(&text)?)
}

/// Prints to whoever reads standard output.
fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        // A reader such as `head` that has seen enough is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
