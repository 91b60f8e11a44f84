//! Sends cycles through the edge with `infer-router load`, and joins what it saw with `/results` and the labels.
//!
//! Owns the outcome of each row. The load is open loop: a row's clock starts when it should have been
//! sent. All clocks are this machine's, the results' are good to a millisecond.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde::Deserialize;

use super::args::LiveArgs;
use super::stack::{Stack, service};
use crate::bench::process::rest;

/// How long accepted jobs may take to end after the last was sent.
const SETTLING: Duration = Duration::from_secs(60);

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a prediction.
    Answered,
    /// Given up because its deadline passed.
    Expired,
    /// Not taken.
    Refused,
    /// Anything else: no word, or an error.
    Failed,
}

/// What became of one row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// When it should have been sent, from the begin, in milliseconds.
    pub(crate) offset_ms: f64,
    /// The cycle.
    pub(crate) cycle: String,
    /// How it ended.
    pub(crate) ended: Ended,
    /// Whether the prediction is the true label.
    pub(crate) correct: bool,
    /// Whether the accurate tier answered.
    pub(crate) dear: bool,
    /// Whether another tier answered than was hinted when the job was taken.
    pub(crate) rebound: bool,
    /// Why this tier; empty where there is no result.
    pub(crate) reason: String,
    /// From when it should have been sent to its end; for a refusal to the answer, in milliseconds.
    pub(crate) took_ms: f64,
    /// How late the load sent it, in milliseconds.
    pub(crate) late_sent_ms: f64,
}

/// What is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Drive<'a> {
    /// How often the cycles are replayed, and how many of them each time.
    pub(crate) passes: (usize, usize),
    /// When: a file of offsets, which are those of `offsets_ms`; without it at a steady rate a second.
    pub(crate) trace: Option<(&'a Path, &'a [f64])>,
    /// Rows a second without a trace.
    pub(crate) rate: f64,
    /// A model for all, by its tier's name.
    pub(crate) model: Option<&'a str>,
    /// How long answers are of use.
    pub(crate) deadline_ms: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Told {
    answers: Vec<Answer>,
}

/// A row of `infer-router load --json`.
#[derive(Debug, Deserialize)]
struct Answer {
    row: u64,
    group: Option<String>,
    status: Option<u16>,
    job_id: Option<String>,
    label: Option<String>,
    latency_ms: Option<f64>,
    start_delay_ms: Option<f64>,
}

/// A line of `/results`.
#[derive(Debug, Deserialize)]
struct Outcome {
    job_id: String,
    outcome: String,
    prediction: Option<String>,
    tier: Option<String>,
    hinted_tier: Option<String>,
    reason: Option<String>,
    accepted_at: Option<u64>,
    finished_at: u64,
}

impl Drive<'_> {
    /// Sends all rows and waits for their ends; `bar` moves a step a second.
    ///
    /// # Errors
    /// When the load cannot be run, or jobs that were accepted have no result.
    pub(crate) fn run(&self, args: &LiveArgs, stack: &Stack, bar: &ProgressBar) -> anyhow::Result<Vec<Row>> {
        let dir = tempfile::tempdir()?;
        let told = self.send(args, stack, &dir.path().join("load.json"), bar)?;
        let open: Vec<&str> = told.iter().filter_map(|answer| answer.job_id.as_deref()).collect();
        let ended = results(stack, &open)?;
        let offset = |answer: &Answer| {
            let place = usize::try_from(answer.row.saturating_sub(1)).unwrap_or(usize::MAX);
            match self.trace {
                Some((_, offsets)) => offsets.get(place).copied().unwrap_or(f64::NAN),
                None => 1e3 * place as f64 / self.rate,
            }
        };
        Ok(join(&told, &ended, offset))
    }

    fn send(&self, args: &LiveArgs, stack: &Stack, json: &Path, bar: &ProgressBar) -> anyhow::Result<Vec<Answer>> {
        let mut command = Command::new(service(args)?);
        command.args([
            "load",
            "--quiet",
            "--task",
            super::TASK,
            "--mode",
            "jobs",
            "--wait-s",
            "0",
            "--group-by",
            "cycle",
        ]);
        command.args(["--label", "valve_pct", "--url", &stack.url(), "--concurrency", "4096", "--sensors", "64"]);
        command.arg("--csv").arg(&args.cycles).arg("--labels").arg(&args.labels).arg("--json").arg(json);
        command.args(["--repeat", &self.passes.0.to_string(), "--limit", &self.passes.1.to_string()]);
        match self.trace {
            Some((path, _)) => command.arg("--trace").arg(path),
            None => command.args(["--rate", &self.rate.to_string()]),
        };
        if let Some(model) = self.model {
            command.args(["--model", model]);
        }
        if let Some(deadline) = self.deadline_ms {
            command.args(["--deadline-ms", &deadline.to_string()]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let (started, before) = (Instant::now(), bar.position());
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            bar.set_position(before + started.elapsed().as_secs());
            rest(Duration::from_millis(100));
        };
        let mut fault = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut fault)?;
        }
        ensure!(status.success(), "infer-router load: {}", fault.trim());
        let text = std::fs::read(json).context("infer-router load wrote no answers")?;
        Ok(serde_json::from_slice::<Told>(&text).context("the answers of infer-router load cannot be read")?.answers)
    }
}

/// The results of all jobs; waits for those that have not ended.
fn results(stack: &Stack, open: &[&str]) -> anyhow::Result<HashMap<String, Outcome>> {
    let url = format!("{}/results?format=ndjson&task={}", stack.url(), super::TASK);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    loop {
        let text = runtime.block_on(async {
            let response = reqwest::Client::builder().no_proxy().build()?.get(&url).send().await?;
            response.error_for_status()?.text().await
        })?;
        let lines =
            text.lines().map(|line| serde_json::from_str::<Outcome>(line).map(|ended| (ended.job_id.clone(), ended)));
        let ended = lines.collect::<Result<HashMap<_, _>, _>>().context("a result cannot be read")?;
        let missing = open.iter().filter(|id| !ended.contains_key(**id)).count();
        if missing == 0 {
            return Ok(ended);
        }
        ensure!(started.elapsed() < SETTLING, "{missing} of {} accepted jobs have no result", open.len());
        rest(Duration::from_millis(500));
    }
}

fn join(told: &[Answer], ended: &HashMap<String, Outcome>, offset: impl Fn(&Answer) -> f64) -> Vec<Row> {
    let result = |answer: &Answer| answer.job_id.as_ref().and_then(|id| ended.get(id));
    // The load does not tell when it began. A job is accepted after it should have been sent and before its answer
    // came, so each row bounds the begin from below; the quickest answer does so to a fraction of a millisecond.
    let begin = told
        .iter()
        .filter_map(|answer| Some(result(answer)?.accepted_at? as f64 - offset(answer) - answer.latency_ms?))
        .fold(f64::NEG_INFINITY, f64::max);
    told.iter()
        .map(|answer| {
            let offset_ms = offset(answer);
            let mut row = Row {
                offset_ms,
                cycle: answer.group.clone().unwrap_or_default(),
                ended: if answer.status.is_some_and(|status| status >= 400) { Ended::Refused } else { Ended::Failed },
                correct: false,
                dear: false,
                rebound: false,
                reason: String::new(),
                took_ms: answer.latency_ms.unwrap_or(f64::NAN),
                late_sent_ms: answer.start_delay_ms.unwrap_or(0.0),
            };
            if let Some(outcome) = result(answer) {
                row.ended = match outcome.outcome.as_str() {
                    "done" => Ended::Answered,
                    "expired" => Ended::Expired,
                    _ => Ended::Failed,
                };
                row.correct = outcome.prediction.is_some() && outcome.prediction == answer.label;
                row.dear = outcome.tier.as_deref() == Some(super::DEAR);
                row.rebound = outcome.hinted_tier.is_some() && outcome.hinted_tier != outcome.tier;
                row.reason = outcome.reason.clone().unwrap_or_default();
                row.took_ms = outcome.finished_at as f64 - begin - offset_ms;
            }
            row
        })
        .collect()
}

/// A file for a run's arrivals, in a folder of its own.
///
/// # Errors
/// When there is no room for it.
pub(crate) fn trace_file(stair: &super::stair::Stair) -> anyhow::Result<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("arrivals_ms.txt");
    stair.write(&path)?;
    Ok((dir, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(row: u64, status: u16, job: Option<&str>, latency: f64) -> Answer {
        Answer {
            row,
            group: Some(row.to_string()),
            status: Some(status),
            job_id: job.map(str::to_owned),
            label: Some("100".to_owned()),
            latency_ms: Some(latency),
            start_delay_ms: Some(0.1),
        }
    }

    fn outcome(job: &str, what: &str, prediction: Option<&str>, accepted: u64, finished: u64) -> (String, Outcome) {
        let ended = Outcome {
            job_id: job.to_owned(),
            outcome: what.to_owned(),
            prediction: prediction.map(str::to_owned),
            tier: Some("accurate".to_owned()),
            hinted_tier: Some(if job == "a" { "fast" } else { "accurate" }.to_owned()),
            reason: Some("split".to_owned()),
            accepted_at: Some(accepted),
            finished_at: finished,
        };
        (job.to_owned(), ended)
    }

    #[test]
    fn rows_are_judged_by_their_result_and_timed_from_when_they_were_due() {
        let told = [answer(1, 202, Some("a"), 2.0), answer(2, 202, Some("b"), 30.0), answer(3, 503, None, 1.5)];
        // The run began at 1000: `a` was accepted at 1002, `b`, due at 1010, at 1015 though its answer took until 1040.
        let ended = HashMap::from([
            outcome("a", "done", Some("100"), 1_002, 1_009),
            outcome("b", "expired", None, 1_015, 1_300),
        ]);
        let rows = join(&told, &ended, |answer| 10.0 * (answer.row - 1) as f64);
        assert_eq!(
            rows.iter().map(|row| row.ended).collect::<Vec<_>>(),
            [Ended::Answered, Ended::Expired, Ended::Refused]
        );
        assert_eq!((rows[0].took_ms, rows[1].took_ms, rows[2].took_ms), (9.0, 290.0, 1.5));
        assert!(rows[0].correct && !rows[1].correct && rows[0].dear);
        assert!(rows[0].rebound && !rows[1].rebound);
        assert_eq!((rows[2].offset_ms, rows[2].cycle.as_str()), (20.0, "3"));
    }
}
