//! Our policy in the simulator: `shared::policy`'s own functions, fed with what the simulator lets them see.
//!
//! Owns the translation only; what is reckoned from a snapshot is `facts`'. `plan` runs at each tick, `route` at the edge, `bind` at the worker.

mod facts;

use facts::{Load, deadline_at, priority};
use shared::accuracy::{self, Belief};
use shared::policy::bind::BindTuning;
use shared::policy::plan::rebindable_work_us;
use shared::policy::{
    Batches as Bound, Behind, Claimed as Asked, Draws, JobSpec, Moment, Observations, Plan, Policy as Kind, Profile,
    TierModel, Tuning, bind, plan, route,
};
use shared::snapshot::{TaskLoad, TierLoad};

use super::batching::{patient_hint, serve};
use super::{Batches, Bench, Choice, EdgeJob, Label, Picture, Policy, Seen};
use crate::sim::queue::Claimed;
use crate::sim::rng::mix;
use crate::sim::world::World;

/// Loads kept for isolates with old snapshots; `watch` keeps as many.
const KEPT: usize = 256;
/// Of what waits behind, so many deadlines are looked at.
const SAMPLES: usize = 64;

/// What is taken away from the policy to see what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ablation {
    /// Nothing.
    None,
    /// Workers obey the hint.
    EdgeOnly,
    /// The edge hints at nothing.
    WorkerOnly,
    /// What waits behind is not protected.
    NoProtection,
    /// No job gets a dearer tier than hinted.
    NoUpBind,
    /// No job gets a cheaper tier than hinted.
    NoDownBind,
    /// Old snapshots count as young; workers obey.
    NoFade,
    /// The likelier tier in place of chance; workers obey.
    NoRandom,
    /// Accuracies stay what the manifest says.
    StaticAccuracy,
}

impl Ablation {
    const fn obeys(self) -> bool {
        matches!(self, Self::EdgeOnly | Self::NoFade | Self::NoRandom)
    }
}

/// `slack-split`, or a part of it.
#[derive(Debug)]
pub(crate) struct SlackSplit {
    ablation: Ablation,
    kind: Kind,
    tuning: Tuning,
    binding: BindTuning,
    models: Vec<TierModel>,
    /// The models at the pace of the worker that asks.
    paced: Vec<TierModel>,
    loads: Vec<TaskLoad>,
    beliefs: Vec<Belief>,
    /// Until then tiers are explored more, in milliseconds.
    alarm_until_ms: u64,
    plan: Option<Plan>,
    load: Load,
    asked: Vec<Asked>,
    bound: Bound,
    samples: Vec<u64>,
}

impl SlackSplit {
    /// The policy before its first plan.
    pub(crate) fn new(world: &World, ablation: Ablation) -> Self {
        let models: Vec<TierModel> = world
            .tiers
            .iter()
            .map(|tier| TierModel {
                profile: Profile {
                    alpha_us: tier.alpha_us as f32,
                    beta_us: tier.beta_us as f32,
                    sd_us: (world.noise * tier.batch_us(tier.cap)) as f32,
                    cap: tier.cap as u16,
                },
                accuracy: Some(tier.accuracy as f32),
                n_eff: 1_000.0,
            })
            .collect();
        Self {
            ablation,
            kind: Kind::default(),
            tuning: Tuning::default(),
            binding: BindTuning::default(),
            paced: models.clone(),
            models,
            loads: vec![TaskLoad::default(); KEPT],
            beliefs: vec![Belief::default(); world.tiers.len()],
            alarm_until_ms: 0,
            plan: None,
            load: Load::default(),
            asked: Vec::with_capacity(64),
            bound: Bound::with_capacity(64),
            samples: Vec::with_capacity(2 * SAMPLES),
        }
    }

    /// Takes over what labels have taught; without labels the manifest stands.
    fn believe(&mut self, now_us: u64, world: &World) {
        let settings = accuracy::Settings::default();
        for ((model, belief), tier) in self.models.iter_mut().zip(&self.beliefs).zip(&world.tiers) {
            let prior = accuracy::Prior::new(Some(tier.accuracy), settings.prior_weight);
            let posterior = belief.posterior(&prior, &settings, now_us / 1_000);
            model.accuracy = Some(posterior.mean() as f32);
            model.n_eff = posterior.n_eff as f32;
        }
    }

    /// What waits behind the claimed jobs.
    fn behind(&mut self, bench: &Bench<'_>) -> Behind {
        let count = bench.queue.len(bench.only);
        let deadline_us =
            bench.world.shortest_deadline_us().saturating_sub(bench.world.net_in_us + bench.world.net_out_us);
        let mut behind = Behind {
            count: count as u32,
            rate: self.load.rate as f32,
            idc: self.load.dispersion as f32,
            deadline_us: deadline_us as f32,
            workers: bench.alive.max(1) as u32,
            ..Behind::default()
        };
        self.samples.clear();
        let step = count.div_ceil(SAMPLES).max(1);
        for lane in bench.queue.lanes(bench.only) {
            self.samples.extend(lane.iter().step_by(step).map(|job| job.finish_by_us));
        }
        self.samples.sort_unstable();
        let last = self.samples.len().saturating_sub(1);
        for (quarter, slack) in behind.slack_us.iter_mut().enumerate() {
            if let Some(by) = self.samples.get(last * quarter / 4) {
                *slack = by.saturating_sub(bench.now_us) as f32;
            }
        }
        behind
    }
}

impl Policy for SlackSplit {
    fn tick(&mut self, seen: &Seen, world: &World) {
        let elapsed = self.load.see(seen, world.delivery.period_us);
        let arrived: u32 = seen.arrived.iter().sum();
        if world.labels.is_some() {
            self.believe(seen.at_us, world);
        }
        let tiers: Vec<shared::policy::plan::TierSeen> = self
            .models
            .iter()
            .enumerate()
            .map(|(tier, model)| shared::policy::plan::TierSeen {
                model: *model,
                profiled: true,
                waiting: seen.waiting[tier],
                in_flight: seen.running[tier],
            })
            .collect();
        let dearest = tiers.len().saturating_sub(1);
        let previous = self.plan;
        let mut by_class = [0.0_f32; 3];
        for (class, jobs) in world.classes.iter().zip(seen.arrived_classes) {
            by_class[priority(class) as usize] += jobs as f32 / arrived.max(1) as f32;
        }
        // What an old plan brought about says nothing of the last one.
        let prompt = 4 * world.delivery.age_us <= world.delivery.period_us;
        let realised = match &previous {
            Some(before) if prompt && before.lower != before.upper => {
                let (low, high) = (seen.arrived[before.lower.min(dearest)], seen.arrived[before.upper.min(dearest)]);
                (low + high > 20).then(|| high as f32 / (low + high) as f32)
            }
            _ => None,
        };
        let observed = Observations {
            tiers: &tiers,
            workers: seen.alive as u32,
            pace: seen.pace as f32,
            last_rate: self.load.last(),
            peak_rate: self.load.peak(),
            isolates: world.delivery.isolates,
            rate: self.load.rate as f32,
            idc: self.load.dispersion as f32,
            period_us: world.delivery.period_us as f32,
            delivery_us: world.delivery.age_us as f32,
            elapsed_us: elapsed as f32,
            // Workers that bind again clear what waits with the cheapest tier where they must: hints are no work.
            work_us: (!self.ablation.obeys()).then(|| rebindable_work_us(&tiers)),
            busy: seen.busy as f32,
            head_age_us: seen.oldest_us as f32,
            deadline_us: Some(deadline_at(seen, world, 0.1)).filter(|deadline| *deadline > 0.0),
            median_deadline_us: Some(deadline_at(seen, world, 0.5)).filter(|deadline| *deadline > 0.0),
            net_us: (world.net_in_us + world.net_out_us) as f32,
            classes: by_class,
            realised,
            alarm: seen.at_us / 1_000 < self.alarm_until_ms,
            previous: previous.as_ref(),
            ..Observations::default()
        };
        let made = plan(&observed, &self.tuning);
        self.plan = Some(made);
        let load = &mut self.loads[seen.seq as usize % KEPT];
        load.tiers.resize(self.models.len(), TierLoad::default());
        for ((place, model), seen) in load.tiers.iter_mut().zip(&self.models).zip(&tiers) {
            place.depth = seen.waiting + seen.in_flight;
            place.accuracy = model.accuracy;
            place.labels = model.n_eff;
            place.measured = Some(model.profile);
        }
        load.plan = Some(made);
    }

    fn edge(&mut self, job: EdgeJob, picture: Picture<'_>, world: &World) -> Choice {
        if self.ablation == Ablation::WorkerOnly {
            return Choice::sure(0);
        }
        let Some(seen) = picture.seen else {
            // No snapshot yet: the cheap path adds the least load.
            return Choice::sure(0);
        };
        let class = &world.classes[job.class];
        let mut draws = Draws::from_hash(mix(job.seed ^ mix(u64::from(job.job))));
        if self.ablation == Ablation::NoRandom {
            draws.split = u64::MAX / 2;
        }
        let moment = Moment {
            age_ms: if self.ablation == Ablation::NoFade { 0 } else { picture.age_us / 1_000 },
            sent: picture.sent.iter().sum(),
            draws,
        };
        let spec =
            JobSpec { deadline_ms: Some(class.deadline_us / 1_000), class: priority(class), ..JobSpec::default() };
        let decision = route(&self.kind, &self.loads[seen.seq as usize % KEPT], &spec, &moment);
        Choice {
            tier: decision.tier.min(self.models.len() - 1),
            propensity: f64::from(decision.propensity),
            refused: decision.refuse.is_some(),
        }
    }

    fn pick(&mut self, bench: &Bench<'_>, held: &[Claimed]) -> Option<usize> {
        if self.ablation.obeys() {
            let tier = held.first().map(|job| usize::from(job.hint)).or_else(|| patient_hint(bench));
            return bench.queue.most_urgent(tier);
        }
        bench.queue.most_urgent(bench.only)
    }

    fn claim(&mut self, bench: &Bench<'_>, _held: usize) -> usize {
        if self.ablation.obeys() {
            return patient_hint(bench).map_or(1, |tier| bench.world.tiers[tier].cap);
        }
        bench.world.tiers.iter().map(|tier| tier.cap).max().unwrap_or(1)
    }

    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        let hinted = |job: &Claimed| usize::from(job.hint);
        if self.ablation.obeys() || bench.only.is_some() {
            serve(bench.only.unwrap_or_else(|| held.first().map_or(0, hinted)), held, bench, out);
            return;
        }
        let dearest = bench.world.tiers.len() - 1;
        let ablation = self.ablation;
        self.asked.clear();
        self.asked.extend(held.iter().map(|job| Asked {
            slack_us: job.finish_by_us.saturating_sub(bench.now_us) as f32,
            class: priority(&bench.world.classes[usize::from(job.class)]),
            pinned: match ablation {
                Ablation::NoUpBind if hinted(job) == 0 => Some(0),
                Ablation::NoDownBind if hinted(job) == dearest => Some(job.hint),
                _ => None,
            },
            floor: 0,
            hint: job.hint,
        }));
        let behind = self.behind(bench);
        let behind = if ablation == Ablation::NoProtection { Behind::default() } else { behind };
        for (paced, model) in self.paced.iter_mut().zip(&self.models) {
            let pace = bench.pace as f32;
            paced.accuracy = model.accuracy;
            paced.profile.alpha_us = model.profile.alpha_us * pace;
            paced.profile.beta_us = model.profile.beta_us * pace;
        }
        bind::bind_with(&self.asked, &self.paced, &behind, &self.binding, &mut self.bound);
        out.expired.extend(self.bound.expired.iter().map(|place| *place as u16));
        if !out.expired.is_empty() && bench.queue.len(bench.only) > 0 {
            // Claim again first: a run with room left would be waste while others wait.
            return;
        }
        for run in &self.bound.runs {
            let jobs = self.bound.jobs_of(run);
            out.runs.push((run.tier, jobs.len() as u16));
            out.order.extend(jobs.iter().map(|place| *place as u16));
        }
    }

    fn label(&mut self, label: Label) {
        if self.ablation == Ablation::StaticAccuracy {
            return;
        }
        let Some(belief) = self.beliefs.get_mut(label.tier) else { return };
        let told =
            accuracy::Label { job_ms: label.job_us / 1_000, correct: label.correct, propensity: label.propensity };
        let drift = belief.learn(&told, &accuracy::Settings::default(), label.now_us / 1_000);
        if drift.alarm || drift.cut {
            self.alarm_until_ms = label.now_us / 1_000 + accuracy::ALARM_MS;
        }
    }

    fn split(&self) -> Option<f64> {
        self.plan.as_ref().map(|plan| if plan.lower == plan.upper { 0.0 } else { f64::from(plan.x0) })
    }
}
