//! `infer-router dlq`: dead letters from a terminal, asked of a running service.
//!
//! Owns the commands' arguments and how they end; `crate::client` asks, `render` tells. What dead letters are, and which a
//! filter fits, is the service's.

mod render;

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::client::{Client, segment};

const EXAMPLES: &str = "\
Examples:
  infer-router dlq list --task pump-anomaly --error 'took longer'
  infer-router dlq show pump-anomaly.01a1fe7a5e4071a698a44b1dde958cb0
  infer-router dlq requeue --model autoencoder --since 1795270794816
  infer-router dlq drop --all --limit 100

The exit code is 0 when all was done that was asked for, 1 when something was not there or the
service could not be asked, 2 for arguments that cannot be used.";

/// Looks at jobs that were given up, hands them in again, drops them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: Command,
    /// The native service; dead letters are not shown through the edge.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: String,
    /// Print the service's JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// How long an answer may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 30_000, global = true)]
    timeout_ms: u64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters, newest first.
    List(ListArgs),
    /// Show one with its reading, its result and every error.
    Show {
        /// The job's id.
        id: String,
    },
    /// Hand dead letters in again, as new jobs under their old ids.
    Requeue(Which),
    /// Drop dead letters for good.
    Drop(Which),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    limit: u64,
    /// Pass over so many, the newest.
    #[arg(long, default_value_t = 0)]
    skip: u64,
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Of this task.
    #[arg(long)]
    task: Option<String>,
    /// Whose answer was to come from this model.
    #[arg(long)]
    model: Option<String>,
    /// Whose last error has this in it.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Given up at or after this, in Unix milliseconds.
    #[arg(long, value_name = "MS")]
    since: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true)
    .args(["ids", "task", "model", "error", "since", "all"])))]
struct Which {
    /// The jobs' ids.
    #[arg(conflicts_with_all = ["task", "model", "error", "since", "all", "limit"])]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// All there are, as far as the other filters fit.
    #[arg(long)]
    all: bool,
    /// At most so many, the newest; 10000 without it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: Option<u64>,
}

impl Filter {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let texts = [("task", &self.task), ("model", &self.model), ("error", &self.error)];
        let texts = texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        texts.chain(self.since.map(|since| ("since", since.to_string()))).collect()
    }
}

impl Which {
    /// The body of the request.
    fn body(&self) -> Value {
        if !self.ids.is_empty() {
            return json!({"ids": self.ids});
        }
        let Filter { task, model, error, since } = &self.filter;
        let all = self.all.then_some(true);
        let fields = [
            ("task", json!(task)),
            ("model", json!(model)),
            ("error", json!(error)),
            ("since", json!(since)),
            ("all", json!(all)),
            ("limit", json!(self.limit)),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_null());
        Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    }
}

/// Runs one of the commands to its end.
///
/// # Errors
/// What went wrong or was not there, for a person at a terminal.
pub async fn run(args: DlqArgs) -> Result<()> {
    let client = Client::new(&args.url, Duration::from_millis(args.timeout_ms))?;
    match &args.command {
        Command::List(list) => {
            let mut query = list.filter.pairs();
            query.extend([("limit", list.limit.to_string()), ("skip", list.skip.to_string())]);
            let answer = client.get("/v1/dead", &query).await?;
            print(&if args.json { pretty(&answer)? } else { render::list(&answer, crate::clock::now_ms()) })
        }
        Command::Show { id } => {
            let answer = client.get(&format!("/v1/dead/{}", segment(id)?), &[]).await?;
            print(&if args.json { pretty(&answer)? } else { render::one(&answer)? })
        }
        Command::Requeue(which) => handle(&client, which, "requeue", args.json).await,
        Command::Drop(which) => handle(&client, which, "drop", args.json).await,
    }
}

async fn handle(client: &Client, which: &Which, what: &str, json: bool) -> Result<()> {
    let answer = client.post(&format!("/v1/dead/{what}"), &which.body()).await?;
    print(&if json { pretty(&answer)? } else { render::handled(&answer) })?;
    let missing = answer["missing"].as_array().map_or(0, Vec::len);
    if missing > 0 {
        bail!("{missing} of them {} no dead letter (any more)", if missing == 1 { "was" } else { "were" });
    }
    Ok(())
}

fn pretty(answer: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(answer)?)
}

/// Prints to whoever reads standard output; that it has gone away is no fault.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: DlqArgs,
    }

    fn body(line: &str) -> Result<Value, String> {
        let parsed = Line::try_parse_from(std::iter::once("dlq").chain(line.split(' ')));
        match parsed.map_err(|error| error.to_string())?.args.command {
            Command::Requeue(which) | Command::Drop(which) => Ok(which.body()),
            Command::List(list) => Ok(json!(list.filter.pairs())),
            Command::Show { id } => Ok(json!(id)),
        }
    }

    #[test]
    fn a_command_says_which_are_meant() {
        assert_eq!(body("requeue t.1 t.2").unwrap(), json!({"ids": ["t.1", "t.2"]}));
        assert_eq!(body("drop --all --limit 5").unwrap(), json!({"all": true, "limit": 5}));
        assert_eq!(body("requeue --task t --since 7").unwrap(), json!({"task": "t", "since": 7}));
        assert_eq!(body("list --error hung").unwrap(), json!([["error", "hung"]]));
        for wrong in ["requeue", "drop --limit 5", "requeue t.1 --task t", "requeue --all --limit 0", "list --limit 0"]
        {
            assert!(body(wrong).is_err(), "{wrong}");
        }
    }
}
