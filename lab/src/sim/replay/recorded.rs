//! A decision log as the simulator needs it: who came when, what the system was, how it went.
//!
//! The format is `worker_native::decisions::log`'s. Lines that cannot be read are counted, not refused: after a crash
//! one may be cut short.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use shared::policy::value_of;
use shared::reading::Priority;
use worker_native::decisions::Case;
use worker_native::decisions::log::{Line, Tiers, VERSION};

/// Most readings of one replay.
const MOST: usize = 20_000_000;

/// One reading of the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offered {
    /// When it came, in Unix milliseconds.
    pub(crate) at: u64,
    /// Its deadline, in milliseconds.
    pub(crate) deadline_ms: Option<u64>,
    /// How urgent it was.
    pub(crate) class: Priority,
    /// The tier that answered or was to, by name.
    pub(crate) tier: Option<String>,
    /// Until it was answered, in milliseconds; none where it was not.
    pub(crate) answered_ms: Option<f64>,
}

impl Offered {
    /// What a right answer in time is worth.
    pub(crate) fn value(&self) -> f64 {
        f64::from(value_of(self.class))
    }

    /// Its deadline, or that of readings without.
    pub(crate) fn deadline(&self, patience_ms: u64) -> u64 {
        self.deadline_ms.unwrap_or(patience_ms).max(1)
    }
}

/// One task's part of a log.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// What was last believed of its tiers.
    pub(crate) tiers: Tiers,
    /// Its readings, in the order in which they came.
    pub(crate) offered: Vec<Offered>,
    /// The least share of all readings that a part of the log has.
    pub(crate) sample: f32,
    /// Lines that could not be read.
    pub(crate) unread: usize,
    /// Readings that were called off, or were no model's of a tier: not offered again.
    pub(crate) left_out: usize,
}

#[derive(Debug, Default)]
struct Part {
    tiers: Option<Tiers>,
    offered: Vec<Offered>,
    left_out: usize,
}

/// Reads a task of a log; without a name, that with most readings.
///
/// # Errors
/// The file cannot be read, is of another version, or has nothing of the task.
pub(crate) fn read(path: &Path, task: Option<&str>) -> anyhow::Result<Recorded> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    read_lines(BufReader::new(file), task).with_context(|| format!("in {}", path.display()))
}

fn read_lines(lines: impl BufRead, task: Option<&str>) -> anyhow::Result<Recorded> {
    let (mut parts, mut unread, mut sample, mut count) = (BTreeMap::<String, Part>::new(), 0, 1.0_f32, 0);
    for line in lines.split(b'\n') {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Log(head)) => {
                ensure!(head.version == VERSION, "the log has version {}, known is {VERSION}", head.version);
                sample = sample.min(head.sample);
            }
            Ok(Line::Tiers(tiers)) => {
                let part = parts.entry(tiers.task.clone()).or_default();
                part.tiers = Some(tiers);
            }
            Ok(Line::Case(case)) => {
                let part = parts.entry(case.task.clone()).or_default();
                match offered(*case) {
                    Some(offered) => part.offered.push(offered),
                    None => part.left_out += 1,
                }
                count += 1;
                ensure!(count <= MOST, "more than {MOST} readings; replay a part of the log");
            }
            Err(_) => unread += 1,
        }
    }
    let known: Vec<String> = parts.keys().cloned().collect();
    let name = match task {
        Some(task) => task.to_owned(),
        None => match parts.iter().max_by_key(|(_, part)| part.offered.len()) {
            Some((task, _)) => task.clone(),
            None => bail!("there is no reading in it ({unread} lines could not be read)"),
        },
    };
    let Some(part) = parts.get_mut(&name) else {
        bail!("nothing of task `{name}` is in it; there are: {}", known.join(", "))
    };
    let Part { tiers, mut offered, left_out } = std::mem::take(part);
    let tiers = tiers.with_context(|| format!("no line tells the tiers of task `{name}`"))?;
    ensure!(offered.len() > 1, "task `{name}` has fewer than two readings in it");
    offered.sort_by_key(|offered| offered.at);
    Ok(Recorded { tiers, offered, sample, unread, left_out })
}

/// The reading of a case; none where nobody waited for its answer any more, or where it has no end.
fn offered(case: Case) -> Option<Offered> {
    let end = case.end.as_ref().filter(|end| end.outcome != "cancelled")?;
    let answered_ms = Some(end.latency_ms).filter(|_| end.outcome == "done");
    let (deadline_ms, class) =
        case.weighed.as_ref().map_or((None, Priority::Normal), |asked| (asked.deadline_ms, asked.priority));
    Some(Offered { at: case.at, deadline_ms, class, tier: case.decision.tier, answered_ms })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A log of a task with two tiers; each reading is `(at, deadline, tier, outcome, latency)`.
    pub(crate) fn log(readings: &[(u64, Option<u64>, &str, &str, f64)]) -> String {
        let tier = |tier: &str, alpha: f32, beta: f32, accuracy: f32| json!({"tier": tier, "accuracy": accuracy, "alpha_us": alpha, "beta_us": beta, "sd_us": 0.0, "cap": 8, "measured": true});
        let mut lines = vec![
            json!({"kind": "log", "version": 1, "service": "test", "at": 0, "sample": 1.0}),
            json!({"kind": "tiers", "task": "t", "at": 0, "policy": "slack-split", "policy_version": 0, "workers": 2,
                "tiers": [tier("fast", 1_000.0, 800.0, 0.9), tier("accurate", 4_000.0, 5_000.0, 0.97)]}),
        ];
        lines.extend(readings.iter().enumerate().map(|(number, (at, deadline, tier, outcome, latency))| {
            json!({"kind": "case", "request_id": format!("r{number}"), "task": "t", "at": at,
                "decision": {"by": "edge", "tier": tier, "reason": "split_cheap", "depth": 0, "accuracy": 0.9, "snapshot_age_ms": 1},
                "weighed": {"policy": "slack-split", "deadline_ms": deadline, "priority": "high"},
                "end": {"outcome": outcome, "model": "m", "model_version": 1, "latency_ms": latency}})
        }));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn parse(text: &str, task: Option<&str>) -> anyhow::Result<Recorded> {
        read_lines(text.as_bytes(), task)
    }

    #[test]
    fn a_log_is_read_in_the_order_of_arrival() {
        let text = log(&[
            (20, Some(100), "fast", "done", 5.0),
            (10, None, "accurate", "expired", 70.0),
            (15, None, "fast", "cancelled", 1.0),
        ]);
        let torn = format!("{text}{{\"kind\": \"case\", \"requ\n\n");
        let read = parse(&torn, None).unwrap();
        assert_eq!((read.offered.len(), read.unread, read.left_out), (2, 1, 1));
        assert_eq!((read.offered[0].at, read.offered[0].answered_ms), (10, None));
        assert_eq!((read.offered[1].deadline_ms, read.offered[1].answered_ms), (Some(100), Some(5.0)));
        assert_eq!((read.offered[1].value(), read.offered[0].deadline(1_000)), (2.0, 1_000));
        assert_eq!(read.tiers.workers, 2);
    }

    #[test]
    fn what_is_no_log_of_the_task_is_refused() {
        let good = log(&[(1, None, "fast", "done", 1.0), (2, None, "fast", "done", 1.0)]);
        assert!(parse(&good, Some("t")).is_ok());
        let error = parse(&good, Some("other")).unwrap_err().to_string();
        assert!(error.contains("there are: t"), "{error}");
        let newer = good.replace("\"version\":1}", "\"version\":2}");
        for text in ["", "no JSON\n", good.lines().next().unwrap(), &newer, &log(&[(1, None, "fast", "done", 1.0)])] {
            assert!(parse(text, None).is_err(), "{text}");
        }
    }
}
