//! What `lab live` is told.

use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  script/bench live --quick                  builds all of it, makes the dear model, runs a minute
  script/bench live --charts charts/         what docs/routing.md shows
  lab live --workerd WORKERD --cycles held-out.csv --labels held-out-labels.csv \\
    --models DIR --policy queue-threshold --policy slack-split --loads 0.2,1,2 --seconds 30

What happens, on one machine and with the programs that ship:
  1. Each model alone is measured: a run's time, what the stack around it costs, how many jobs a second
     the accurate one carries, and on which cycles each is right.
  2. Arrivals are drawn once (Poisson, one seed): a stair of loads, each a share of what the accurate
     model carries.
  3. For each policy a fresh queue, a fresh service and a fresh edge get the same cycles at the same
     moments, by POST /data with a deadline. /results is read back and compared with the true labels.
  4. The simulator runs the same arrivals with the measured service times; the gap is told.

Effective accuracy counts every offered job: right answers in time over all jobs, from the moment a job
should have been sent. Refused, expired, late and wrong ones count as nothing.

One session for each model, one thread each, batches of 8, no cache: the accurate model is meant to be the
bound, on a machine that also sends the load. Where the report says that HTTP carries less than twice what
the model does, take a dearer model (script/bench live makes one).";

/// The policies that are compared, as the service and the edge call them.
pub(crate) const POLICIES: [&str; 4] = ["always-accurate", "always-fast", "queue-threshold", "slack-split"];

/// Compares policies on the real stack: edge, service, queue, models, labelled cycles
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct LiveArgs {
    /// The model repository; its accurate model should be dearer than HTTP.
    #[arg(long, value_name = "DIR", default_value = "models")]
    pub(crate) models: PathBuf,
    /// The cycles: a CSV of 60 rows each, with a column `cycle`.
    #[arg(long, value_name = "FILE")]
    pub(crate) cycles: PathBuf,
    /// Their labels: a CSV with the columns `cycle` and `valve_pct`.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: PathBuf,
    /// workerd's binary.
    #[arg(long, value_name = "FILE")]
    pub(crate) workerd: PathBuf,
    /// What workerd runs: the edge's configuration, beside its build.
    #[arg(long, value_name = "FILE", default_value = "edge/workerd/config.capnp")]
    pub(crate) edge: PathBuf,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// The service's binary [default: beside this one].
    #[arg(long, value_name = "FILE")]
    pub(crate) service: Option<PathBuf>,
    /// Keep the queue in a Redis of this binary, instead of in a file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "redis-server")]
    pub(crate) redis: Option<PathBuf>,
    /// A policy; may be given again [default: always-accurate, always-fast, queue-threshold, slack-split].
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    pub(crate) policy: Vec<&'static str>,
    /// The stair of loads, as shares of what the accurate model carries.
    #[arg(long, value_name = "LOAD,…", value_delimiter = ',', value_parser = load, default_value = "0.2,0.5,1,1.5,2,0.5")]
    pub(crate) loads: Vec<f64>,
    /// How long each load lasts.
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=3_600))]
    pub(crate) seconds: u32,
    /// How long an answer is of use.
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub(crate) deadline_ms: u32,
    /// The seed of the arrivals.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Loads of 3 s: shows that it works; its figures are worth little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write every figure and curve as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write each policy's figures at each load as CSV.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write the picture of all curves, live.svg and live.png, into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) charts: Option<PathBuf>,
    /// What is measured, for the report.
    #[arg(long, default_value = "unknown")]
    pub(crate) commit: String,
}

impl LiveArgs {
    /// How long each load lasts, in seconds.
    pub(crate) const fn step_s(&self) -> u32 {
        if self.quick { 3 } else { self.seconds }
    }

    /// The policies to compare.
    pub(crate) fn policies(&self) -> &[&'static str] {
        if self.policy.is_empty() { &POLICIES } else { &self.policy }
    }
}

fn policy(name: &str) -> Result<&'static str, String> {
    let known = POLICIES.iter().find(|known| **known == name).copied();
    known.ok_or_else(|| format!("one of {}", POLICIES.join(", ")))
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(load) if load > 0.0 && load <= 20.0 => Ok(load),
        _ => Err("a load is a share of what the accurate model carries, above 0 and at most 20".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        live: LiveArgs,
    }

    fn parse(flags: &str) -> Result<LiveArgs, String> {
        let words = "live --cycles c --labels l --workerd w".split_whitespace().chain(flags.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.live).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_all_policies_climb_to_twice_the_capacity() {
        let args = parse("").unwrap();
        assert_eq!(args.policies(), POLICIES);
        assert_eq!(args.loads, [0.2, 0.5, 1.0, 1.5, 2.0, 0.5]);
        assert_eq!((args.step_s(), args.redis), (20, None));
        assert_eq!(parse("--quick").unwrap().step_s(), 3);
    }

    #[test]
    fn flags_are_checked() {
        assert!(parse("--policy slackfit").unwrap_err().contains("slack-split"));
        assert!(parse("--loads 1,0").unwrap_err().contains("above 0"));
        assert_eq!(parse("--redis").unwrap().redis, Some("redis-server".into()));
        assert_eq!(parse("--loads 0.1,3").unwrap().loads, [0.1, 3.0]);
    }
}
