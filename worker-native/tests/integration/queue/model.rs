//! Any order of operations by several consumers, against a model that says what the contract's words say.
//!
//! After every step all numbers are those of the model. Where the contract leaves a choice (who of two late ones
//! settles first) the model takes the answer it gets, and holds the queue to it from then on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use worker_native::queue::{
    AttemptError, Bound, Cancelled, Claimed, Depths, Enqueued, Entry, NewJob, Once, Outcome, Priority, Queue, Retry,
    Settlement, Stored, Tended, Ticket,
};

use super::rig::{Backend, LONG, Rig, SHORT_LEASE, all, counted, entry, result, settlement};

const LANES: [&str; 2] = ["fast", "accurate"];
const MAX_JOBS: usize = 12;
const MAX_OF_TENANT: usize = 6;

#[derive(Debug, Clone)]
enum Op {
    HandIn { kind: usize, key: Option<u8>, print: bool, room: Option<u32> },
    HandInAgain(usize),
    Claim { consumer: usize, limit: usize },
    Reclaim { consumer: usize, limit: usize },
    Renew(usize),
    Settle { ticket: usize, outcome: usize, awaited: bool },
    Retry { ticket: usize, later: bool, charged: bool },
    Release(usize),
    Cancel(usize),
    Requeue(usize),
    Drop(usize),
    Leave(usize),
    Tend,
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0..64_usize;
    let consumer = 0..3_usize;
    prop_oneof![
        6 => (number.clone(), prop::option::weighted(0.2, 0..3_u8), any::<bool>(), prop::option::weighted(0.1, 1..8_u32))
            .prop_map(|(kind, key, print, room)| Op::HandIn { kind, key, print, room }),
        1 => number.clone().prop_map(Op::HandInAgain),
        6 => (consumer.clone(), 1..5_usize).prop_map(|(consumer, limit)| Op::Claim { consumer, limit }),
        1 => (consumer.clone(), 1..5_usize).prop_map(|(consumer, limit)| Op::Reclaim { consumer, limit }),
        1 => number.clone().prop_map(Op::Renew),
        6 => (number.clone(), number.clone(), any::<bool>())
            .prop_map(|(ticket, outcome, awaited)| Op::Settle { ticket, outcome, awaited }),
        3 => (number.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(ticket, later, charged)| Op::Retry { ticket, later, charged }),
        2 => number.clone().prop_map(Op::Release),
        2 => number.clone().prop_map(Op::Cancel),
        1 => number.clone().prop_map(Op::Requeue),
        1 => number.prop_map(Op::Drop),
        1 => consumer.prop_map(Op::Leave),
        1 => Just(Op::Tend),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Waiting,
    Returned,
    /// By the ticket of that number.
    Held(usize),
    Delayed {
        later: bool,
    },
    Ended(Outcome),
}

#[derive(Debug)]
struct Job {
    entry: Entry,
    size: u64,
    place: Place,
    starts: u32,
    failures: usize,
    /// Hand-ins: the first, and each requeue.
    life: u32,
    listed: bool,
    letter: bool,
}

impl Job {
    fn is_unsettled(&self) -> bool {
        !matches!(self.place, Place::Ended(_))
    }
}

#[derive(Debug)]
struct Given {
    job: usize,
    life: u32,
    consumer: usize,
    ticket: Ticket,
}

#[derive(Debug)]
struct Model<'a> {
    queue: &'a dyn Queue,
    task: String,
    jobs: Vec<Job>,
    given: Vec<Given>,
    keys: Vec<(u8, bool, Stored)>,
    settled: u64,
    unrun: u64,
    bytes: u64,
}

fn name(consumer: usize) -> String {
    format!("c{consumer}")
}

impl Model<'_> {
    fn pick(&self, number: usize) -> Option<&Given> {
        self.given.get(number % self.given.len().max(1))
    }

    /// Is a ticket the one its job is held by now? `None` where its consumer holds the job by a later ticket: what the
    /// older one is good for then, the contract does not say.
    fn holds(&self, number: usize) -> Option<bool> {
        let number = number % self.given.len().max(1);
        let given = self.given.get(number)?;
        match self.jobs[given.job].place {
            Place::Held(by) if by == number => Some(true),
            Place::Held(by) if self.given[by].consumer == given.consumer => None,
            Place::Held(_) | Place::Waiting | Place::Returned | Place::Delayed { .. } | Place::Ended(_) => Some(false),
        }
    }

    fn unsettled(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| job.is_unsettled())
    }

    async fn hand_in(&mut self, kind: usize, key: Option<u8>, print: bool, room: Option<u32>) {
        let entry = Entry {
            job_id: Entry::new_id(&self.task),
            task: self.task.clone(),
            lane: LANES[kind % 2].to_owned(),
            priority: Priority::ALL[kind / 2 % 3],
            tenant: [None, Some("a"), Some("b")][kind / 6 % 3].map(str::to_owned),
            sensor_id: Some("s".repeat(kind)),
            ..entry()
        };
        let answer = Stored { status: 202, body: entry.job_id.clone() };
        let fingerprint = if print { "one" } else { "other" }.to_owned();
        let once = key.map(|key| Once { key: format!("key{key}"), fingerprint, answer: answer.clone() });
        let known = key.and_then(|key| self.keys.iter().find(|(known, ..)| *known == key));
        let total = self.unsettled().count();
        let of_tenant = self.unsettled().filter(|job| job.entry.tenant == entry.tenant).count();
        let full = if total >= MAX_JOBS {
            Some(Bound::Jobs)
        } else if room.is_some_and(|room| total >= room as usize) {
            Some(Bound::Wait)
        } else if entry.tenant.is_some() && of_tenant >= MAX_OF_TENANT {
            Some(Bound::Tenant)
        } else {
            None
        };
        let new = NewJob { entry: entry.clone(), left: None, room, once };
        let found = self.queue.enqueue(&self.task, vec![new]).await.unwrap().remove(0);
        match (known, full, found) {
            (Some((_, before, stored)), _, Enqueued::Replayed(found)) if *before == print => assert_eq!(stored, &found),
            (Some((_, before, _)), _, Enqueued::Conflict) if *before != print => {}
            (None, Some(bound), Enqueued::Full(found)) => {
                assert_eq!((found.bound, found.depth as usize, found.bytes), (bound, total, self.bytes));
            }
            (None, None, Enqueued::Accepted(depths)) => {
                let bytes = self.queue.counts(&self.task).await.unwrap().bytes;
                let size = bytes.checked_sub(self.bytes).filter(|size| *size > 0).expect("a job has a size");
                self.bytes = bytes;
                self.keys.extend(key.map(|key| (key, print, answer)));
                self.jobs.push(Job {
                    entry,
                    size,
                    place: Place::Waiting,
                    starts: 0,
                    failures: 0,
                    life: 1,
                    listed: false,
                    letter: false,
                });
                assert_eq!(counted(&depths), self.depths(|_| true));
            }
            (known, full, found) => panic!("{found:?} instead of {known:?} or {full:?}"),
        }
    }

    async fn take(&mut self, consumer: usize, limit: usize) {
        let returned = self.jobs.iter().filter(|job| job.place == Place::Returned).count();
        let can = |job: &&Job| matches!(job.place, Place::Waiting | Place::Returned | Place::Delayed { later: false });
        let waiting = self.jobs.iter().filter(can).count();
        let claimed = self.queue.claim(&self.task, &name(consumer), limit).await.unwrap();
        assert_eq!(claimed.len(), limit.min(waiting), "all that waits, up to the limit");
        for (i, claimed) in claimed.iter().enumerate() {
            let job = self.job_of(claimed);
            let place = self.jobs[job].place;
            assert!(can(&&self.jobs[job]), "claimed while {place:?}");
            assert_eq!(place == Place::Returned, i < returned, "what was handed back comes first");
            self.hold(job, consumer, claimed);
        }
    }

    async fn reclaim(&mut self, consumer: usize, limit: usize) {
        let claimed = self.queue.reclaim(&self.task, &name(consumer), limit).await.unwrap();
        assert!(claimed.len() <= limit);
        for claimed in &claimed {
            let job = self.job_of(claimed);
            let place = self.jobs[job].place;
            assert!(matches!(place, Place::Held(_) | Place::Returned), "taken over while {place:?}");
            self.hold(job, consumer, claimed);
        }
    }

    fn job_of(&self, claimed: &Claimed) -> usize {
        self.jobs.iter().position(|job| job.entry.job_id == claimed.ticket.job_id).expect("a known job")
    }

    fn hold(&mut self, number: usize, consumer: usize, claimed: &Claimed) {
        let place = Place::Held(self.given.len());
        let job = &mut self.jobs[number];
        job.starts += 1;
        assert_eq!(claimed.entry.as_ref().unwrap(), &job.entry);
        assert_eq!((claimed.attempt, claimed.failures.len()), (job.starts, job.failures), "{job:?}");
        job.place = place;
        self.given.push(Given { job: number, life: job.life, consumer, ticket: claimed.ticket.clone() });
    }

    fn end(&mut self, job: usize, outcome: Outcome, listed: bool) {
        let job = &mut self.jobs[job];
        (job.place, job.listed, job.letter) = (Place::Ended(outcome), listed, outcome == Outcome::Dead);
        self.settled += 1;
        self.unrun += u64::from(matches!(outcome, Outcome::Expired | Outcome::Cancelled));
        self.bytes -= job.size;
    }

    async fn settle(&mut self, number: usize, outcome: usize, awaited: bool) {
        let Some(given) = self.pick(number) else { return };
        let outcome = [Outcome::Done, Outcome::Failed, Outcome::Dead, Outcome::Expired][outcome % 4];
        let (job, of_earlier_life) = (given.job, given.life != self.jobs[given.job].life);
        let settlement = Settlement { awaited, ..settlement(&given.ticket, outcome) };
        let settled = self.queue.settle(&self.task, vec![settlement]).await.unwrap().remove(0);
        if of_earlier_life || !self.jobs[job].is_unsettled() {
            assert!(!settled.first, "a second settlement");
        } else if self.holds(number) == Some(true) {
            assert!(settled.first, "the first settlement, by who holds the job");
        }
        if settled.first {
            self.end(job, outcome, !awaited);
        }
        assert_eq!(counted(&settled.depths), self.depths(|_| true));
    }

    async fn retry(&mut self, number: usize, later: bool, charged: bool) {
        let (Some(given), Some(holds)) = (self.pick(number), self.holds(number)) else { return };
        let (job, consumer) = (given.job, name(given.consumer));
        let count = self.jobs[job].failures + 1;
        let failures = vec![AttemptError { attempt: 1, at: 1, error: "e".to_owned() }; count];
        let delay = if later { LONG } else { Duration::ZERO };
        let retry = Retry { ticket: given.ticket.clone(), delay, charged, failures };
        assert_eq!(self.queue.retry(&self.task, &consumer, vec![retry]).await.unwrap(), [holds]);
        if holds {
            let job = &mut self.jobs[job];
            (job.place, job.failures) = (Place::Delayed { later }, count);
            job.starts -= u32::from(!charged);
        }
    }

    async fn release(&mut self, number: usize) {
        let (Some(given), Some(holds)) = (self.pick(number), self.holds(number)) else { return };
        let (job, consumer, ticket) = (given.job, name(given.consumer), [given.ticket.clone()]);
        self.queue.release(&self.task, &consumer, &ticket).await.unwrap();
        if holds {
            let job = &mut self.jobs[job];
            job.place = Place::Returned;
            job.starts -= 1;
        }
    }

    async fn cancel(&mut self, number: usize) {
        let number = number % self.jobs.len().max(1);
        let Some(job) = self.jobs.get(number) else { return };
        let result = result(&job.entry.job_id, Outcome::Cancelled, 1, "");
        let found = self.queue.cancel(&self.task, &job.entry.job_id, &result).await.unwrap();
        if let Place::Ended(outcome) = job.place {
            assert_eq!(found, Cancelled::Ended(outcome.name().to_owned()));
        } else {
            assert_eq!(found, Cancelled::Done { running: matches!(job.place, Place::Held(_)) }, "{job:?}");
            self.end(number, Outcome::Cancelled, true);
        }
    }

    async fn requeue(&mut self, number: usize) {
        let number = number % self.jobs.len().max(1);
        let Some(job) = self.jobs.get_mut(number) else { return };
        let found = self.queue.requeue(&self.task, std::slice::from_ref(&job.entry.job_id)).await.unwrap();
        assert_eq!(found, [job.letter]);
        if job.letter {
            (job.place, job.starts, job.failures) = (Place::Waiting, 0, 0);
            (job.listed, job.letter) = (false, false);
            job.life += 1;
            self.bytes += job.size;
        }
    }

    async fn step(&mut self, op: &Op) {
        match *op {
            Op::HandIn { kind, key, print, room } => self.hand_in(kind, key, print, room).await,
            Op::HandInAgain(number) => {
                let Some(job) = self.jobs.get(number % self.jobs.len().max(1)) else { return };
                let new = super::rig::new(job.entry.clone());
                let found = self.queue.enqueue(&self.task, vec![new]).await.unwrap().remove(0);
                assert!(matches!(found, Enqueued::Accepted(_)), "it is there: {found:?}");
            }
            Op::Claim { consumer, limit } => self.take(consumer, limit).await,
            Op::Reclaim { consumer, limit } => self.reclaim(consumer, limit).await,
            Op::Renew(number) => {
                let (Some(given), Some(holds)) = (self.pick(number), self.holds(number)) else { return };
                let (consumer, ticket) = (name(given.consumer), std::slice::from_ref(&given.ticket));
                assert_eq!(self.queue.renew(&self.task, &consumer, ticket).await.unwrap(), [holds]);
            }
            Op::Settle { ticket, outcome, awaited } => self.settle(ticket, outcome, awaited).await,
            Op::Retry { ticket, later, charged } => self.retry(ticket, later, charged).await,
            Op::Release(number) => self.release(number).await,
            Op::Cancel(number) => self.cancel(number).await,
            Op::Requeue(number) => self.requeue(number).await,
            Op::Drop(number) => {
                let number = number % self.jobs.len().max(1);
                let Some(job) = self.jobs.get_mut(number) else { return };
                let found = self.queue.drop_dead(&self.task, std::slice::from_ref(&job.entry.job_id)).await.unwrap();
                assert_eq!(found, [job.letter]);
                job.letter = false;
            }
            Op::Leave(consumer) => self.queue.leave(&self.task, &name(consumer)).await.unwrap(),
            Op::Tend => assert_eq!(self.queue.tend(&self.task).await.unwrap(), Tended::default()),
        }
    }

    fn depths(&self, which: impl Fn(&Job) -> bool) -> Depths {
        let mut depths = Depths::new();
        for job in self.unsettled().filter(|job| which(job)) {
            *depths.entry(job.entry.lane.clone()).or_default() += 1;
        }
        depths
    }

    async fn check_numbers(&self) {
        let found = self.queue.counts(&self.task).await.unwrap();
        assert_eq!(counted(&found.depths), self.depths(|_| true), "unsettled jobs");
        let held = self.depths(|job| matches!(job.place, Place::Held(_)));
        assert_eq!(counted(&found.running), held, "jobs that a consumer holds");
        assert_eq!((found.bytes, found.settled, found.lost), (self.bytes, self.settled, 0));
        assert_eq!(found.unrun, self.unrun);
        assert_eq!(found.dead as usize, self.jobs.iter().filter(|job| job.letter).count(), "dead letters");
        // What is due may have been put in line again, or not yet.
        let later = self.jobs.iter().filter(|job| job.place == Place::Delayed { later: true }).count() as u64;
        let soon = self.jobs.iter().filter(|job| job.place == Place::Delayed { later: false }).count() as u64;
        assert!((later..=later + soon).contains(&found.delayed), "{} delayed, not {later}+{soon}", found.delayed);
    }

    /// Every job's state, the listing, and that all that is left can be ended.
    async fn check_end(&mut self) {
        for job in &self.jobs {
            let state = self.queue.job(&self.task, &job.entry.job_id).await.unwrap().expect("a known job");
            let wanted: &[&str] = match job.place {
                Place::Waiting | Place::Returned => &["queued"],
                Place::Held(_) => &["running"],
                Place::Delayed { later: true } => &["retrying"],
                Place::Delayed { later: false } => &["retrying", "queued"],
                Place::Ended(outcome) => &[outcome.name()],
            };
            assert!(wanted.contains(&state.state.as_str()), "{} instead of {wanted:?}", state.state);
            if job.is_unsettled() {
                assert_eq!((state.attempt, state.failures.len()), (job.starts, job.failures), "{job:?}");
            }
        }
        let results = self.queue.results(&[self.task.as_str()], &all()).await.unwrap();
        let mut listed: Vec<String> = results
            .iter()
            .map(|result| serde_json::from_str::<serde_json::Value>(result.get()).unwrap()["job_id"].to_string())
            .collect();
        let mut wanted: Vec<String> =
            self.jobs.iter().filter(|job| job.listed).map(|job| format!("{:?}", job.entry.job_id)).collect();
        listed.sort();
        wanted.sort();
        assert_eq!(listed, wanted, "every result once");
        for number in 0..self.jobs.len() {
            if self.jobs[number].is_unsettled() {
                self.cancel(number).await;
            }
        }
        self.check_numbers().await;
        assert_eq!((self.bytes, self.unsettled().count()), (0, 0));
    }
}

pub(crate) async fn every_number_is_that_of_the_model<B: Backend>() {
    let max_jobs = MAX_JOBS.to_string();
    let settings = [SHORT_LEASE, ("QUEUE_MAX_DEPTH", max_jobs.as_str()), ("TENANT_MAX_PERCENT", "50")];
    let rig = Rig::<B>::start(&settings).await;
    let (queue, runs) = (rig.shared(), AtomicUsize::new(0));
    let run = |ops: Vec<Op>| {
        // A task of its own for every run, also while a failure is made smaller.
        let task = format!("t{}", runs.fetch_add(1, Ordering::Relaxed));
        let play = async {
            let mut model = Model {
                queue: &*queue,
                task,
                jobs: vec![],
                given: vec![],
                keys: vec![],
                settled: 0,
                unrun: 0,
                bytes: 0,
            };
            for op in &ops {
                model.step(op).await;
                model.check_numbers().await;
            }
            model.check_end().await;
        };
        tokio::runtime::Handle::current().block_on(play);
        Ok(())
    };
    let config = ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    tokio::task::block_in_place(|| {
        TestRunner::new(config)
            .run(&prop::collection::vec(op(), 1..100), run)
            .unwrap_or_else(|error| panic!("{error}"));
    });
}
