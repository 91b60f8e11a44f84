//! The account of one run: what was accepted, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::Value;
use tokio::task::JoinSet;
use worker_native::queue::Queue;

use crate::args::Args;
use crate::clients::HandedIn;

const TASK: &str = "pump-anomaly";
/// How long the last jobs may take after the chaos.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Account {
    store: &'static str,
    handed_in: HandedIn,
    pub(crate) kills: usize,
    pub(crate) restarts: usize,
    pub(crate) cuts: usize,
    /// Results by id that are `done`.
    done: usize,
    /// Accepted jobs that have another outcome, by outcome.
    otherwise: BTreeMap<String, usize>,
    /// Accepted jobs without a result.
    lost: usize,
    /// Results of jobs beyond one each, and of jobs that nobody was told of.
    doubled: usize,
    /// Jobs that were started more than once.
    restarted: usize,
    /// What does not add up.
    faults: Vec<String>,
    seconds: f64,
}

impl Account {
    pub(crate) fn open(store: &'static str, handed_in: HandedIn) -> Self {
        Self {
            store,
            handed_in,
            kills: 0,
            restarts: 0,
            cuts: 0,
            done: 0,
            otherwise: BTreeMap::new(),
            lost: 0,
            doubled: 0,
            restarted: 0,
            faults: vec![],
            seconds: 0.0,
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) async fn settle_up(&mut self, url: &str, queue: &dyn Queue, begun: Instant) {
        self.wait_for_the_end(url).await;
        self.read_results(url).await;
        self.read_counters(queue, begun).await;
    }

    /// Asks for each job by its id, until it has a result.
    pub(crate) async fn wait_for_the_end(&mut self, url: &str) {
        let (client, end) = (reqwest::Client::new(), Instant::now() + PATIENCE);
        let mut asking = JoinSet::new();
        for ids in self.handed_in.ids.chunks(self.handed_in.ids.len().div_ceil(16).max(1)) {
            let (client, url, ids) = (client.clone(), url.to_owned(), ids.to_vec());
            asking.spawn(async move {
                let mut outcomes = Vec::with_capacity(ids.len());
                for id in ids {
                    outcomes.push(outcome_of(&client, &format!("{url}/v1/jobs/{id}"), end).await);
                }
                outcomes
            });
        }
        for (outcome, attempts) in asking.join_all().await.into_iter().flatten().flatten() {
            if outcome == "done" {
                self.done += 1;
            } else {
                *self.otherwise.entry(outcome).or_default() += 1;
            }
            self.restarted += usize::from(attempts > 1);
        }
        self.lost = self.handed_in.ids.len() - self.done - self.otherwise.values().sum::<usize>();
    }

    /// Reads the whole history: each accepted job once, and nothing else.
    pub(crate) async fn read_results(&mut self, url: &str) {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let answer = client.get(format!("{url}/results?format=ndjson&limit=1000000")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.unwrap();
        let listed: Vec<String> = text
            .lines()
            .map(|line| {
                let result: Value = serde_json::from_str(line).unwrap();
                result["job_id"].as_str().expect("a job id in a result").to_owned()
            })
            .collect();
        let seen: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        let accepted: BTreeSet<&str> = self.handed_in.ids.iter().map(String::as_str).collect();
        let missing = accepted.difference(&seen).count();
        let unknown = seen.difference(&accepted).count();
        self.doubled = listed.len() - seen.len() + unknown;
        let repeated = self.handed_in.ids.len() - accepted.len();
        let checks = [
            ("accepted jobs without a result", self.lost),
            ("jobs that ended otherwise than done", self.otherwise.values().sum()),
            ("accepted jobs that the export does not show", missing),
            ("results beyond one for each accepted job", self.doubled),
            ("ids that two callers were given", repeated),
        ];
        self.faults.extend(checks.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")));
    }

    /// Everything was settled once, and nothing is left.
    pub(crate) async fn read_counters(&mut self, queue: &dyn Queue, begun: Instant) {
        self.seconds = begun.elapsed().as_secs_f64();
        let counts = queue.counts(TASK).await.unwrap();
        let left: u32 = counts.depths.values().chain(counts.running.values()).sum();
        if left > 0 || counts.delayed > 0 || counts.bytes > 0 || counts.lost > 0 {
            self.faults.push(format!("the counters are not back at nothing: {counts:?}"));
        }
        let accepted = self.handed_in.ids.len() as u64;
        if counts.settled != accepted {
            self.faults.push(format!("{} jobs were settled, not {accepted}", counts.settled));
        }
    }

    fn row(&self) -> Vec<String> {
        let HandedIn { ids, replayed, refused, unanswered } = &self.handed_in;
        #[expect(clippy::cast_precision_loss, reason = "a number of jobs is exact in a double")]
        let rate = ids.len() as f64 / self.seconds;
        let numbers = [ids.len(), *replayed, *refused, *unanswered, self.done, self.lost, self.doubled];
        let chaos = [self.restarted, self.kills, self.restarts, self.cuts];
        let mut row = vec![self.store.to_owned()];
        row.extend(numbers.iter().chain(&chaos).map(usize::to_string));
        row.extend([format!("{:.1}", self.seconds), format!("{rate:.0}")]);
        row
    }
}

/// A job's outcome and starts, as soon as it has ended; `None` where it does not.
async fn outcome_of(client: &reqwest::Client, url: &str, end: Instant) -> Option<(String, u64)> {
    while Instant::now() < end {
        if let Ok(answer) = client.get(url).send().await
            && answer.status() == 200
            && let Ok(job) = answer.json::<Value>().await
            && let Some(outcome) = job["result"]["outcome"].as_str()
        {
            return Some((outcome.to_owned(), job["result"]["attempts"].as_u64().unwrap_or_default()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

pub(crate) fn print(args: &Args, accounts: &[Account]) {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header([
        "queue",
        "accepted",
        "replayed",
        "refused",
        "unanswered",
        "done",
        "lost",
        "doubled",
        "restarted",
        "kills",
        "Redis restarts",
        "cuts",
        "seconds",
        "jobs/s",
    ]);
    for account in accounts {
        table.add_row(account.row());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nchaos: {} jobs at {}/s, seed {}\n{table}", args.jobs, args.rate, args.seed).unwrap();
    for account in accounts {
        for fault in &account.faults {
            writeln!(out, "{}: {fault}", account.store).unwrap();
        }
        if account.is_clean() {
            writeln!(out, "{}: every accepted job has exactly one visible result", account.store).unwrap();
        }
    }
}
