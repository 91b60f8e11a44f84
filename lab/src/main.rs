//! `lab`: what the routing policies do, computed with the functions that serve.
//!
//! Owns experiments only; no policy lives here. It draws the decision table of a policy over
//! backlog and accuracy.

mod table;

use std::io::{self, Write};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "lab", about = "Experiments on Infer Router's routing policies", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which tier each policy takes, over backlog and the accurate model's accuracy.
    ///
    /// Example: `lab table --policy adaptive --threshold 5 --fast-accuracy 0.81`
    Table(table::TableArgs),
}

fn main() -> io::Result<()> {
    let Cli { command: Command::Table(args) } = Cli::parse();
    let text = if args.json { table::json(&args) } else { table::text(&args) };
    match writeln!(io::stdout().lock(), "{text}") {
        // A reader such as `head` that has seen enough is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
