//! The discrete-event engine: arrivals, the edge's decisions, workers, deaths, snapshots, labels.
//!
//! Owns time. It decides nothing about tiers: it asks the policy, and counts what comes of it.
//! Time is in whole microseconds; a run with the same arrivals, seed and policy is the same run.

use std::collections::VecDeque;

use super::events::{Agenda, Event};
use super::isolates::{Isolates, newest};
use super::policy::{Batches, EdgeJob, Label, Picture, Policy};
use super::queue::{Claimed, Queue};
use super::rng::{Rng, of_job, salt};
use super::score::{Ending, Score};
use super::watch::Watch;
use super::workers::{Free, Worker};
use super::workload::{Arrival, Arrivals};
use super::world::{Change, World};

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Counts and sums.
    pub(crate) score: Score,
    /// The course of the run, where it was asked for.
    pub(crate) watch: Option<Watch>,
}

#[derive(Debug)]
struct Engine<'a, P: ?Sized> {
    world: &'a World,
    arrivals: &'a Arrivals,
    policy: &'a mut P,
    seed: u64,
    now: u64,
    agenda: Agenda,
    queue: Queue,
    workers: Vec<Worker>,
    /// Bit `w`: worker `w` lives and has nothing to run.
    idle: u64,
    /// Where the search for an idle worker goes on: no worker is everybody's first choice.
    turn: u32,
    noise: Rng,
    watch: Watch,
    keep_watch: bool,
    isolates: Isolates,
    propensity: Vec<f32>,
    labels: VecDeque<(u64, Label)>,
    score: Score,
    out: Batches,
    next: usize,
}

/// Runs all arrivals through a system under a policy, to the last answer.
pub(crate) fn run<P: Policy + ?Sized>(
    world: &World,
    arrivals: &Arrivals,
    policy: &mut P,
    seed: u64,
    keep_watch: bool,
) -> Outcome {
    let mut engine = Engine {
        world,
        arrivals,
        policy,
        seed,
        now: 0,
        agenda: Agenda::new(),
        queue: Queue::new(world.tiers.len(), world.classes.len()),
        workers: (0..world.workers)
            .map(|worker| Worker::new(world.dedicated.as_ref().and_then(|tiers| tiers.get(worker)).copied()))
            .collect(),
        idle: if world.workers >= 64 { u64::MAX } else { (1 << world.workers) - 1 },
        turn: 0,
        noise: Rng::new(seed, 0x5e4_71ce),
        watch: Watch::new(world),
        keep_watch,
        isolates: Isolates::new(world),
        propensity: vec![1.0; arrivals.jobs.len()],
        labels: VecDeque::new(),
        score: Score::new(world, arrivals),
        out: Batches::default(),
        next: 0,
    };
    for (i, (at_us, ..)) in world.changes.iter().enumerate() {
        engine.agenda.put(*at_us, Event::Change(i as u16));
    }
    engine.agenda.put(0, Event::Tick);
    engine.go();
    Outcome { score: engine.score, watch: keep_watch.then_some(engine.watch) }
}

impl<P: Policy + ?Sized> Engine<'_, P> {
    fn go(&mut self) {
        let net = self.world.net_in_us;
        loop {
            let arrival = self.arrivals.jobs.get(self.next).copied();
            let event_at = self.agenda.next_at();
            match (arrival, event_at) {
                (Some(arrival), at) if at.is_none_or(|at| arrival.at_us + net <= at) => {
                    self.now = arrival.at_us + net;
                    self.arrive(arrival);
                }
                (_, Some(_)) => {
                    if let Some((at, event)) = self.agenda.pop() {
                        self.now = at;
                        self.happen(event);
                    }
                }
                (None, None) => break,
                (Some(_), None) => {}
            }
        }
        // Jobs of which no worker is left to take notice.
        while let Some(job) = self.queue.pop(None) {
            self.score.end(&job, Ending::Expired);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Done { worker, life } if self.workers[usize::from(worker)].life == life => {
                self.finish(usize::from(worker));
            }
            Event::Done { .. } => {}
            Event::Wake { worker } => {
                self.workers[usize::from(worker)].wakes_at = None;
                if self.idle >> worker & 1 == 1 {
                    self.poll(usize::from(worker));
                }
            }
            Event::Tick => self.tick(),
            Event::Change(i) => {
                let (_, worker, change) = self.world.changes[usize::from(i)];
                match change {
                    Change::Pace(pace) => self.workers[worker].true_pace = pace,
                    Change::Die => {
                        self.idle &= !(1 << worker);
                        let state = &mut self.workers[worker];
                        if state.has_run() {
                            let (tier, jobs) = state.running();
                            for job in jobs {
                                self.watch.rebound(tier, usize::from(job.hint));
                            }
                            self.watch.busy(self.now, -1);
                        }
                        state.stop();
                        self.agenda.put(self.now + self.world.lease_us, Event::Missed { worker: worker as u8 });
                    }
                }
            }
            Event::Missed { worker } => {
                let lost = self.workers[usize::from(worker)].surrender();
                self.watch.alive -= 1;
                for job in lost.into_iter().rev() {
                    self.watch.running_less(usize::from(job.hint), 1);
                    self.queue.put_back(job);
                }
                self.offer_all();
            }
        }
    }

    fn tick(&mut self) {
        self.give_labels();
        let living = self.workers.iter().filter(|worker| worker.alive);
        let speeds: Vec<f64> = living.map(|worker| 1.0 / worker.pace.max(0.01)).collect();
        let pace = if speeds.is_empty() { 1.0 } else { speeds.iter().sum::<f64>() / speeds.len() as f64 };
        let seen = self.watch.tick(self.now, &self.queue, pace);
        self.policy.tick(&seen, self.world);
        let split = self.policy.split();
        self.score.split(self.now, split);
        self.watch.remember(&seen, self.keep_watch);
        let over = self.next == self.arrivals.jobs.len()
            && self.queue.len(None) == 0
            && self.workers.iter().all(Worker::rests);
        let alone = self.workers.iter().all(|worker| !worker.alive) && self.next == self.arrivals.jobs.len();
        if !over && !alone {
            self.agenda.put(self.now + self.world.delivery.period_us, Event::Tick);
        }
    }

    fn give_labels(&mut self) {
        while let Some((at, label)) = self.labels.front().copied().filter(|(at, _)| *at <= self.now) {
            self.labels.pop_front();
            self.policy.label(Label { now_us: at, ..label });
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let job = self.next as u32;
        self.next += 1;
        let (class, isolate) = (usize::from(arrival.class), u32::from(arrival.isolate));
        let newest = newest(self.world, &self.watch, self.seed, arrival.at_us, isolate);
        self.isolates.got(isolate, newest.map(|seen| seen.seq));
        let age_us = newest.map_or(0, |seen| arrival.at_us.saturating_sub(seen.at_us));
        let edge = EdgeJob { job, class, now_us: arrival.at_us, seed: self.seed };
        let picture = Picture { seen: newest, age_us, sent: self.isolates.sent(isolate) };
        let choice = self.policy.edge(edge, picture, self.world);
        let spec = &self.world.classes[class];
        let claimed = Claimed {
            job,
            hint: choice.tier as u8,
            class: arrival.class,
            value: spec.value as f32,
            finish_by_us: (arrival.at_us + spec.deadline_us).saturating_sub(self.world.net_out_us),
            arrived_us: arrival.at_us,
        };
        self.score.offer(&claimed);
        if choice.refused {
            self.score.end(&claimed, Ending::Refused);
            return;
        }
        self.isolates.send(isolate, choice.tier);
        self.propensity[job as usize] = choice.propensity as f32;
        self.watch.arrived(self.now, choice.tier, class);
        self.queue.push(claimed);
        self.watch.look(&self.queue);
        self.offer_all();
    }

    /// Lets idle workers look at the queue, until none takes anything.
    fn offer_all(&mut self) {
        if self.queue.len(None) == 0 {
            return;
        }
        let mut left = self.idle;
        while left != 0 && self.queue.len(None) > 0 {
            // From `turn` on, around.
            let after = left >> self.turn.min(63) << self.turn.min(63);
            let worker = if after == 0 { left.trailing_zeros() } else { after.trailing_zeros() };
            left &= !(1 << worker);
            self.turn = (worker + 1) % self.workers.len() as u32;
            self.poll(worker as usize);
        }
    }

    /// A free worker claims, decides and begins.
    fn poll(&mut self, worker: usize) {
        loop {
            let state = &mut self.workers[worker];
            let free = Free { now_us: self.now, worker, pace: state.pace, only: state.only, alive: self.watch.alive };
            let wanted = self.policy.claim(&free.bench(&self.queue, self.world), state.held.len());
            let mut took = false;
            while state.held.len() < wanted
                && let Some(lane) = self.policy.pick(&free.bench(&self.queue, self.world), &state.held)
                && let Some(job) = self.queue.pop_lane(lane)
            {
                self.watch.running_more(usize::from(job.hint), 1);
                state.held.push(job);
                took = true;
            }
            if state.held.is_empty() {
                self.idle |= 1 << worker;
                return;
            }
            if took {
                state.held.sort_unstable_by_key(|job| (job.finish_by_us, job.job));
            }
            self.out.clear();
            let bench = free.bench(&self.queue, self.world);
            self.policy.work(&state.held, &bench, &mut self.out);
            let dropped = !self.out.expired.is_empty();
            for place in &self.out.expired {
                let job = state.held[usize::from(*place)];
                self.watch.running_less(usize::from(job.hint), 1);
                self.score.end(&job, Ending::Expired);
            }
            let anew = self.policy.binds_anew();
            state.take(&self.out, anew);
            if !anew {
                while let Some(job) = state.held.pop() {
                    self.watch.running_less(usize::from(job.hint), 1);
                    self.queue.put_back(job);
                }
            }
            if state.has_run() {
                self.start(worker);
                return;
            }
            if dropped {
                continue;
            }
            self.idle |= 1 << worker;
            if let Some(at) = self.out.wait_until_us.map(|at| at.max(self.now + 1))
                && state.wakes_at.is_none_or(|before| at < before)
            {
                state.wakes_at = Some(at);
                self.agenda.put(at, Event::Wake { worker: worker as u8 });
            }
            return;
        }
    }

    fn start(&mut self, worker: usize) {
        let state = &mut self.workers[worker];
        let (tier, jobs) = state.running();
        let planned = self.world.tiers[tier].many_us(jobs.len());
        // Uniform with the standard deviation asked for, and mean 1.
        let noise = 1.0 + self.world.noise * 3.0_f64.sqrt() * (2.0 * self.noise.unit() - 1.0);
        let takes = (planned * noise * state.true_pace).round().max(1.0);
        for job in jobs {
            self.watch.rebound(usize::from(job.hint), tier);
        }
        state.measure(takes / planned.max(1.0));
        self.idle &= !(1 << worker);
        let life = state.life;
        self.watch.busy(self.now, 1);
        self.agenda.put(self.now + takes as u64, Event::Done { worker: worker as u8, life });
    }

    fn finish(&mut self, worker: usize) {
        self.watch.busy(self.now, -1);
        let state = &mut self.workers[worker];
        let (tier, jobs) = state.running();
        let answered = self.now + self.world.net_out_us;
        for job in jobs {
            let right = self.world.accuracy(tier, job.arrived_us);
            self.score.end(job, Ending::Answered { tier, finished_us: self.now, answered_us: answered, right });
            if let Some(labels) = self.world.labels
                && of_job(self.seed, job.job, salt::LABELLED) < labels.share
            {
                let label = Label {
                    now_us: 0,
                    job_us: job.arrived_us,
                    tier,
                    correct: of_job(self.seed, job.job, salt::CORRECT) < right,
                    propensity: (tier == usize::from(job.hint)).then(|| f64::from(self.propensity[job.job as usize])),
                };
                self.labels.push_back((answered + labels.delay_us, label));
            }
        }
        self.watch.finished(tier, jobs.len());
        state.next_run();
        if state.has_run() {
            self.start(worker);
        } else {
            self.poll(worker);
        }
    }
}
