//! The book of a scenario: what was handed in, what was answered, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use reqwest::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::readings::{body, normal, read};
use crate::support::{setting, until};

/// Callers that hand in at the same time.
pub(super) const CALLERS: usize = 4;
/// Each waits so long from one hand-in to the next: a load, and no race.
const PACE: Duration = Duration::from_millis(20);

/// One that got its 202.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub(super) id: String,
    pub(super) sent: Instant,
}

#[derive(Debug, Default)]
struct Entries {
    accepted: Vec<Accepted>,
    refused: usize,
    unanswered: usize,
    slowest_refusal: Duration,
    last_refusal: String,
}

/// What callers saw.
#[derive(Debug, Default)]
pub(super) struct Book {
    client: Client,
    entries: Mutex<Entries>,
}

/// How the book closes.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) accepted: usize,
    /// Refused with a status of 400 or more.
    pub(super) refused: usize,
    /// The connection ended without an answer.
    pub(super) unanswered: usize,
    pub(super) slowest_refusal: Duration,
    /// The words of the last one.
    pub(super) last_refusal: String,
    /// Results by outcome, of what was accepted.
    pub(super) outcomes: BTreeMap<String, usize>,
    /// Results of hand-ins that nobody got a 202 for: what was refused, or not answered, and stored all the same.
    pub(super) unasked: usize,
    /// Accepted, and without a result.
    pub(super) lost: Vec<Accepted>,
    /// Ids with more than one visible result.
    pub(super) doubled: usize,
}

impl Book {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap()
    }

    pub(super) fn accepted(&self) -> usize {
        self.entries().accepted.len()
    }

    pub(super) fn refused(&self) -> usize {
        self.entries().refused
    }

    /// Hands one job in; its id where it was accepted.
    pub(super) async fn hand_in(&self, base: &str, reading: &Value, key: Option<&str>) -> Option<String> {
        let sent = Instant::now();
        let mut request = self.client.post(format!("{base}/v1/jobs")).json(reading);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                response.json::<Value>().await.ok().map(|text| (status, text))
            }
            Err(_) => None,
        };
        let mut entries = self.entries();
        match answer {
            Some((202, receipt)) => {
                let id = receipt["job_id"].as_str().unwrap().to_owned();
                entries.accepted.push(Accepted { id: id.clone(), sent });
                return Some(id);
            }
            Some((status, problem)) => {
                assert!(status >= 400 && problem["code"].is_string(), "{status} {problem}");
                entries.refused += 1;
                entries.last_refusal = problem.to_string();
                entries.slowest_refusal = entries.slowest_refusal.max(sent.elapsed());
            }
            None => entries.unanswered += 1,
        }
        None
    }

    /// Hands in readings until so many more are accepted.
    pub(super) async fn accept(&self, base: &str, count: usize, reading: &Value) {
        let one = |_| async { until("a 202", || self.hand_in(base, reading, None)).await };
        stream::iter(0..count).map(one).buffer_unordered(CALLERS).count().await;
    }

    /// Does something while callers hand in.
    pub(super) async fn under_load<T>(&self, base: &str, deed: impl Future<Output = T>) -> T {
        let over = CancellationToken::new();
        let caller = async |reading: Value| {
            let mut pace = tokio::time::interval(PACE);
            while !over.is_cancelled() {
                pace.tick().await;
                self.hand_in(base, &reading, None).await;
            }
        };
        let deed = async {
            let done = deed.await;
            over.cancel();
            done
        };
        tokio::join!(join_all((0..CALLERS).map(|_| caller(body(&normal())))), deed).1
    }

    /// Waits until so many more are accepted than were.
    pub(super) async fn more(&self, count: usize) {
        let enough = self.accepted() + count;
        until("more accepted jobs", || async { (self.accepted() >= enough).then_some(()) }).await;
    }

    /// Waits until so many more are refused than were.
    pub(super) async fn more_refused(&self, count: usize) {
        let enough = self.refused() + count;
        until("more refusals", || async { (self.refused() >= enough).then_some(()) }).await;
    }

    /// Waits until a job handed in from now on has its result; how long that took.
    pub(super) async fn runs_again(&self, base: &str) -> Duration {
        let (since, reading) = (Instant::now(), body(&normal()));
        let id = until("a 202", || self.hand_in(base, &reading, None)).await;
        self.fate(base, &id).await.expect("a job after the fault is not lost");
        since.elapsed()
    }

    /// Waits until it is known what became of a job: its result, or none where the queue knows it no more.
    pub(super) async fn fate(&self, base: &str, id: &str) -> Option<Value> {
        let url = format!("{base}/v1/jobs/{id}");
        until("a job's end", || async {
            let (status, job) = read(self.client.get(&url).send().await.ok()?).await;
            match (status, job["state"].as_str()) {
                (404, _) | (200, Some("lost")) => Some(None),
                (200, _) if job["result"].is_object() => Some(Some(job["result"].clone())),
                _ => None,
            }
        })
        .await
    }

    /// Every result there is, as they are exported.
    pub(super) async fn export(&self, base: &str) -> Vec<Value> {
        let url = format!("{base}/results?format=ndjson");
        let text = until("the export", || async { self.client.get(&url).send().await.ok()?.text().await.ok() }).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sum of a counter over its labels.
    pub(super) async fn metric(&self, base: &str, name: &str) -> u64 {
        let text = self.client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// Waits for the end of every accepted job and counts. `ended`: ids whose end is known although their results are gone.
    pub(super) async fn close(&self, base: &str, ended: &BTreeSet<String>) -> Account {
        let (mut account, accepted) = {
            let entries = self.entries();
            let account = Account {
                accepted: entries.accepted.len(),
                refused: entries.refused,
                unanswered: entries.unanswered,
                slowest_refusal: entries.slowest_refusal,
                last_refusal: entries.last_refusal.clone(),
                ..Account::default()
            };
            (account, entries.accepted.clone())
        };
        let ids: BTreeSet<String> = accepted.iter().map(|one| one.id.clone()).collect();
        assert_eq!(ids.len(), accepted.len(), "no two callers get one id");
        let look = |one: Accepted| async {
            let fate = self.fate(base, &one.id).await;
            (one, fate)
        };
        let fates: Vec<(Accepted, Option<Value>)> =
            stream::iter(accepted).map(look).buffer_unordered(2 * CALLERS).collect().await;
        let mut shown: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for result in self.export(base).await {
            shown.entry(result["job_id"].as_str().unwrap().to_owned()).or_default().push(result);
        }
        account.unasked = shown.keys().filter(|id| !ids.contains(*id)).count();
        account.doubled = shown.values().filter(|results| results.len() > 1).count();
        for (one, fate) in fates {
            match fate {
                Some(result) => {
                    // One result at every door, and it stays the same.
                    let same = shown.get(&one.id).is_some_and(|results| results[0] == result);
                    account.doubled += usize::from(!same);
                    *account.outcomes.entry(result["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
                }
                None if ended.contains(&one.id) => *account.outcomes.entry("done".to_owned()).or_default() += 1,
                None => account.lost.push(one),
            }
        }
        account
    }
}

impl Account {
    /// As it must be after whatever keeps the data: every accepted job done once.
    pub(super) fn assert_whole(&self) {
        assert_eq!((self.lost.len(), self.doubled), (0, 0), "{self:?}");
        assert_eq!(self.outcomes.get("done"), Some(&self.accepted), "{self:?}");
    }

    /// Tells the row: to whoever watches the tests, and to the folder in `FAULTS_DIR`.
    pub(super) fn tell(&self, number: &str, fault: &str, back: Option<Duration>, note: &str) {
        let done = self.outcomes.get("done").copied().unwrap_or_default();
        let other: usize = self.outcomes.values().sum::<usize>() - done;
        let back = back.map_or_else(|| "-".to_owned(), |back| format!("{:.2} s", back.as_secs_f64()));
        let row = format!(
            "| {number} | {fault} | {} | {done} | {other} | {} | {} | {} | {} | {} | {back} | {note} |\n",
            self.accepted,
            self.refused,
            self.unanswered,
            self.unasked,
            self.lost.len(),
            self.doubled
        );
        // The test harness shows what a passing test prints to nobody.
        std::io::stdout().write_all(row.as_bytes()).unwrap();
        if let Some(dir) = setting("FAULTS_DIR") {
            std::fs::write(std::path::Path::new(&dir).join(format!("{number:0>2}.row")), row).unwrap();
        }
    }
}
