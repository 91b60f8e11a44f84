//! The contract's traits on the file: each request is made ready here, done on a thread of the queue, and read here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::aside::Pause;
use super::books::Page;
use super::claim::{Held, place};
use super::clock::{ms, stored};
use super::hand_in::Parcel;
use super::settle::Verdict;
use super::{Books, SqliteQueue, dead, look};
use crate::queue::contract::{
    Begun, Callback, Cancelled, Change, Counts, DeadLetter, DeadLetters, Enqueued, Facts, JobBook, JobQueue, NewFact,
    NewJob, Outbox, QueueError, Replays, ResultsFilter, ResultsMark, ResultsPage, Retry, Settled, Settlement, Stored,
    Tended,
};
use crate::queue::job::{Claimed, Entry, JobState, Ticket};

/// Most jobs that one request claims.
const MOST: usize = 1_000;
/// Steps of one look after a task, each between other writes.
const STEPS: usize = 8;
/// How often a task's counters are compared with its jobs.
const AUDIT: Duration = Duration::from_secs(60);

fn claimed(held: Vec<Held>) -> Vec<Claimed> {
    held.into_iter().map(Held::into_claimed).collect()
}

/// The answers, or as many times no: nothing is known of a task that the file does not know.
fn or_none(mut answers: Vec<bool>, asked: usize) -> Vec<bool> {
    answers.resize(asked, false);
    answers
}

#[async_trait]
impl JobQueue for SqliteQueue {
    async fn enqueue(&self, task: &str, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, QueueError> {
        if jobs.is_empty() {
            return Ok(vec![]);
        }
        let now = self.now();
        let parcels = jobs.into_iter().map(|job| Parcel::new(job, now)).collect::<Result<Vec<_>, _>>()?;
        let weight = parcels.iter().map(Parcel::weight).sum();
        self.write(task, weight, move |page| page.enqueue(&parcels)).await
    }

    async fn claim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError> {
        let (consumer, limit) = (consumer.to_owned(), limit.min(MOST));
        self.write_known(task, limit, move |page| page.claim(&consumer, limit)).await.map(claimed)
    }

    async fn wait(&self, task: &str, up_to: Duration) -> Result<(), QueueError> {
        self.0.board.signal(task).wait(&self.0.clock, up_to).await;
        Ok(())
    }

    async fn reclaim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError> {
        let (consumer, limit) = (consumer.to_owned(), limit.min(MOST));
        self.write_known(task, limit, move |page| page.reclaim(&consumer, limit)).await.map(claimed)
    }

    async fn renew(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<Vec<bool>, QueueError> {
        let (consumer, tickets, asked) = (consumer.to_owned(), tickets.to_vec(), tickets.len());
        let step = move |page: &mut super::Page<'_>| {
            tickets.iter().map(|ticket| page.renew(&consumer, ticket)).collect::<rusqlite::Result<Vec<_>>>()
        };
        self.write_known(task, 1, step).await.map(|answers| or_none(answers, asked))
    }

    async fn settle(&self, task: &str, settlements: Vec<Settlement>) -> Result<Vec<Settled>, QueueError> {
        if settlements.is_empty() {
            return Ok(vec![]);
        }
        let verdicts = settlements.into_iter().map(Verdict::new).collect::<Result<Vec<_>, _>>()?;
        self.write(task, verdicts.len(), move |page| page.settle(&verdicts)).await
    }

    async fn retry(&self, task: &str, consumer: &str, retries: Vec<Retry>) -> Result<Vec<bool>, QueueError> {
        let pause = |retry: Retry| {
            let Retry { ticket, delay, charged, failures } = retry;
            let failures = serde_json::to_string(&failures).map_err(|error| QueueError::Corrupt(error.to_string()))?;
            Ok(Pause { ticket, delay, charged, failures })
        };
        let pauses = retries.into_iter().map(pause).collect::<Result<Vec<_>, QueueError>>()?;
        let (consumer, asked) = (consumer.to_owned(), pauses.len());
        let step = move |page: &mut super::Page<'_>| {
            pauses.iter().map(|pause| page.put_aside(&consumer, pause)).collect::<rusqlite::Result<Vec<_>>>()
        };
        self.write_known(task, 1, step).await.map(|answers| or_none(answers, asked))
    }

    async fn release(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<(), QueueError> {
        let (consumer, tickets) = (consumer.to_owned(), tickets.to_vec());
        let step =
            move |page: &mut super::Page<'_>| tickets.iter().try_for_each(|ticket| page.hand_back(&consumer, ticket));
        self.write_known(task, 1, step).await
    }

    async fn release_unknown(
        &self,
        task: &str,
        consumer: &str,
        held: &[Ticket],
        within: Duration,
    ) -> Result<u64, QueueError> {
        let known: HashSet<i64> = held.iter().filter_map(place).collect();
        let (consumer, since) = (consumer.to_owned(), stored(self.now().saturating_sub(ms(within))));
        // Claims are done in the order in which they were handed in, or not at all: none comes later than this.
        self.write_known(task, 1, move |page| page.hand_back_unknown(&consumer, &known, since)).await
    }

    async fn cancel(&self, task: &str, job_id: &str, result: &str) -> Result<Cancelled, QueueError> {
        let (job_id, verdict) = (job_id.to_owned(), Verdict::cancelled(result));
        let step = move |page: &mut super::Page<'_>| page.cancel(&job_id, &verdict).map(Some);
        Ok(self.write_known(task, 1, step).await?.unwrap_or(Cancelled::Unknown))
    }

    async fn tend(&self, task: &str) -> Result<Tended, QueueError> {
        for _ in 0..STEPS {
            if !self.write_known(task, super::group::GROUP, |page| page.sweep()).await? {
                break;
            }
        }
        for _ in 0..STEPS {
            if !self.0.writer.write(super::group::GROUP, Books::shrink).await? {
                break;
            }
        }
        let lost = if self.audit_is_due(task) { self.audit(task).await? } else { 0 };
        Ok(Tended { lost, groups_remade: 0 })
    }

    async fn leave(&self, _: &str, _: &str) -> Result<(), QueueError> {
        // A consumer is on no books but those of the jobs that it holds.
        Ok(())
    }

    async fn check_writable(&self, _: &[&str]) -> Result<(), QueueError> {
        self.0.writer.write(1, Books::probe).await
    }
}

impl SqliteQueue {
    fn audit_is_due(&self, task: &str) -> bool {
        let (now, mut audited) = (self.now(), self.0.audited.lock().unwrap_or_else(PoisonError::into_inner));
        let due = audited.get(task).is_none_or(|last| now.saturating_sub(*last) >= ms(AUDIT));
        if due {
            audited.insert(task.to_owned(), now);
        }
        due
    }

    /// Compares the counters with the jobs, without holding up writes, and mends them where somebody else wrote.
    async fn audit(&self, task: &str) -> Result<u64, QueueError> {
        let name = task.to_owned();
        let (counted, there) = self.read(move |file| look::audit(file, &name)).await?;
        if counted == there {
            return Ok(0);
        }
        let name = task.to_owned();
        let lost = self.0.writer.write(super::group::GROUP, move |books: &mut Books| books.mend(&name)).await?;
        tracing::error!(
            task,
            counted,
            there,
            lost,
            "somebody else wrote to the queue's file; the counters were made anew"
        );
        Ok(super::clock::number(lost))
    }
}

#[async_trait]
impl JobBook for SqliteQueue {
    async fn job(&self, task: &str, job_id: &str) -> Result<Option<JobState>, QueueError> {
        let (task, job_id, kept) = (task.to_owned(), job_id.to_owned(), self.kept());
        let seen = self.read(move |file| look::job(file, &task, &job_id, kept)).await?;
        seen.map(|seen| seen.into_state(self.now())).transpose()
    }

    async fn entry(&self, task: &str, job_id: &str) -> Result<Option<Entry>, QueueError> {
        let (task, job_id) = (task.to_owned(), job_id.to_owned());
        let body = self.read(move |file| look::body(file, &task, &job_id)).await?;
        body.map(|body| Entry::from_body(&body).map_err(QueueError::Corrupt)).transpose()
    }

    async fn results(&self, tasks: &[&str], filter: &ResultsFilter) -> Result<Vec<Box<RawValue>>, QueueError> {
        let wanted = |task: &&&str| filter.task.as_deref().is_none_or(|only| only == **task);
        let tasks: Vec<String> = tasks.iter().filter(wanted).map(|task| (*task).to_owned()).collect();
        let (limit, asked, history, kept) = (filter.limit, filter.clone(), self.0.config.history, self.kept());
        let look = move |file: &rusqlite::Connection| {
            let of = |task: &String| look::results(file, task, &asked, history, kept);
            tasks.iter().map(of).collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut found: Vec<(i64, String)> = self.read(look).await?.into_iter().flatten().collect();
        found.sort_by_key(|(finished, _)| Reverse(*finished));
        found.truncate(limit);
        found.into_iter().map(|(_, json)| look::raw(json)).collect()
    }

    async fn results_page(
        &self,
        task: &str,
        after: Option<&ResultsMark>,
        limit: usize,
    ) -> Result<ResultsPage, QueueError> {
        let start = (i64::MAX, self.0.config.history);
        let left = |mark: &ResultsMark| mark.listed.first().and_then(|left| left.parse().ok()).unwrap_or(start.1);
        let (before, left) = after.map_or(start, |mark| (stored(mark.position), left(mark)));
        let (task, kept, limit) = (task.to_owned(), self.kept(), u32::try_from(limit).unwrap_or(u32::MAX));
        let page = self.read(move |file| look::page(file, &task, before, left, limit, kept)).await?;
        let next = page.next.map(|(before, left)| ResultsMark {
            position: super::clock::number(before),
            listed: vec![left.to_string()],
        });
        let results: Result<Vec<_>, _> = page.results.into_iter().map(look::raw).collect();
        Ok(ResultsPage { results: results?, next })
    }

    async fn counts(&self, task: &str) -> Result<Counts, QueueError> {
        let task = task.to_owned();
        self.read(move |file| look::counts(file, &task)).await
    }

    async fn watch(&self, task: &str) -> Result<broadcast::Receiver<Change>, QueueError> {
        Ok(self.0.board.signal(task).watch())
    }
}

#[async_trait]
impl DeadLetters for SqliteQueue {
    async fn dead(&self, task: &str, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let (task, since) = (task.to_owned(), self.died_since());
        let letters = self.read(move |file| dead::list(file, &task, since, skip, limit)).await?;
        letters.into_iter().map(dead::Buried::into_letter).collect()
    }

    async fn dead_letter(&self, task: &str, job_id: &str) -> Result<Option<DeadLetter>, QueueError> {
        let (task, job_id, since) = (task.to_owned(), job_id.to_owned(), self.died_since());
        let letter = self.read(move |file| dead::letter(file, &task, since, &job_id)).await?;
        letter.map(dead::Buried::into_letter).transpose()
    }

    async fn requeue(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError> {
        let ids = job_ids.to_vec();
        let step = move |page: &mut super::Page<'_>| {
            ids.iter().map(|id| page.requeue(id)).collect::<rusqlite::Result<Vec<_>>>()
        };
        let answers = self.write_known(task, job_ids.len(), step).await?;
        Ok(or_none(answers, job_ids.len()))
    }

    async fn drop_dead(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError> {
        let ids = job_ids.to_vec();
        let step = move |page: &mut super::Page<'_>| {
            ids.iter().map(|id| page.drop_dead(id)).collect::<rusqlite::Result<Vec<_>>>()
        };
        let answers = self.write_known(task, job_ids.len(), step).await?;
        Ok(or_none(answers, job_ids.len()))
    }
}

impl SqliteQueue {
    /// Dead letters from then on are kept.
    fn died_since(&self) -> i64 {
        stored(self.now()).saturating_sub(stored(ms(self.0.config.dead_ttl)))
    }
}

#[async_trait]
impl Outbox for SqliteQueue {
    async fn callbacks(&self, task: &str, limit: usize, lease: Duration) -> Result<Vec<Callback>, QueueError> {
        let limit = limit.min(MOST);
        let due = self.write_known(task, limit, move |page| page.callbacks(limit, lease)).await?;
        due.into_iter().map(super::outbox::Due::into_callback).collect()
    }

    async fn callback_done(&self, task: &str, callback: &Callback, note: &str) -> Result<(), QueueError> {
        let (job_id, ended_at, note) = (callback.job_id.clone(), callback.ended_at, note.to_owned());
        self.write_known(task, 1, move |page| page.callback_done(&job_id, ended_at, &note)).await
    }

    async fn callback_later(
        &self,
        task: &str,
        callback: &Callback,
        delay: Duration,
        note: &str,
    ) -> Result<(), QueueError> {
        let (job_id, ended_at, note) = (callback.job_id.clone(), callback.ended_at, note.to_owned());
        self.write_known(task, 1, move |page| page.callback_later(&job_id, ended_at, delay, &note)).await
    }
}

#[async_trait]
impl Replays for SqliteQueue {
    async fn begin(&self, task: &str, key: &str, fingerprint: &str, patience: Duration) -> Result<Begun, QueueError> {
        let (key, fingerprint) = (key.to_owned(), fingerprint.to_owned());
        self.write(task, 1, move |page| page.begin(&key, &fingerprint, patience)).await
    }

    async fn finish(&self, task: &str, key: &str, fingerprint: &str, answer: Option<Stored>) -> Result<(), QueueError> {
        let (key, fingerprint) = (key.to_owned(), fingerprint.to_owned());
        self.write(task, 1, move |page| page.finish(&key, &fingerprint, answer.as_ref())).await
    }
}

#[async_trait]
impl Facts for SqliteQueue {
    async fn facts(&self, task: &str, name: &str) -> Result<Vec<(String, String)>, QueueError> {
        let (task, name) = (task.to_owned(), name.to_owned());
        self.read(move |file| look::facts(file, &task, &name)).await
    }

    async fn set_fact(&self, task: &str, name: &str, field: &str, value: Option<&str>) -> Result<(), QueueError> {
        let (name, field, value) = (name.to_owned(), field.to_owned(), value.map(str::to_owned));
        self.write(task, 1, move |page| page.set_fact(&name, &field, value.as_deref())).await
    }

    /// A step for each task; what waits together the writing thread writes together.
    async fn set_facts(&self, facts: Vec<NewFact>) -> Result<(), QueueError> {
        let mut tasks: BTreeMap<String, Vec<NewFact>> = BTreeMap::new();
        for fact in facts {
            tasks.entry(fact.task.clone()).or_default().push(fact);
        }
        let steps = tasks.into_iter().map(|(task, facts)| async move {
            let set = move |page: &mut Page<'_>| {
                facts.iter().try_for_each(|fact| page.set_fact(&fact.name, &fact.field, fact.value.as_deref()))
            };
            self.write(&task, 1, set).await
        });
        join_all(steps).await.into_iter().collect()
    }
}
