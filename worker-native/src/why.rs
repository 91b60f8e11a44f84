//! `infer-router why ID`: why a reading got its tier, asked of a running service.
//!
//! Owns the command's arguments and how it ends; `render` tells. The words are the service's own.

mod render;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;

use crate::client::{Client, segment};

const HELP: &str = "\
ID is what an answer gave: the `job_id` of a receipt (POST /data, /v1/jobs), or the `request_id` of
any answer; it is in the header x-request-id as well. A job can be asked for until its result
expires (RESULT_TTL_SECONDS), also by another process and through the edge. Of a reading that was
answered at once (POST /predict) the process that answered knows, and for a while the others.

What the table shows, for each tier as the service saw it when the reading came in:
  done in    when it would have been done, with what was queued before it
  in time    its chance to be done by the deadline
  accuracy   how often its model is believed to be right
  `chosen` is the tier of the decision, `ran` the one that a worker bound the job to in the end.

Examples:
  infer-router why pump-anomaly.01a1fe7a5e4071a698a44b1dde958cb0
  infer-router why 0192f0c1d2e37a4b8c5d6e7f80910a2b --url http://127.0.0.1:8787
  infer-router why night-shift-7 --json

The exit code is 0 when the decision is told, 1 when it is not known or the service could not be
asked, 2 for arguments that cannot be used.";

/// Tells why a reading got its tier.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct WhyArgs {
    /// The job's id, or the request's.
    id: String,
    /// The native service, or the edge.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Print the service's JSON instead of a story.
    #[arg(long)]
    json: bool,
    /// How long an answer may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    timeout_ms: u64,
}

/// Asks and tells.
///
/// # Errors
/// What went wrong, for a person at a terminal.
pub async fn run(args: WhyArgs) -> Result<()> {
    let client = Client::new(&args.url, Duration::from_millis(args.timeout_ms))?;
    let answer = client.get(&format!("/v1/decisions/{}", segment(&args.id)?), &[]).await?;
    let mut out = std::io::stdout().lock();
    let text =
        if args.json { serde_json::to_string_pretty(&answer)? } else { render::story(&answer, out.is_terminal()) };
    match writeln!(out, "{text}") {
        // That whoever read it has gone away is no fault.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
