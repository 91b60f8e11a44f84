//! The plan: how the load of one task is split over its tiers until the next plan, for all keepers at once.
//!
//! Made by one writer every period from what it observes. A share and not a rule is published, so
//! that any number of keepers with the same picture produce the planned mix instead of a herd. Owns
//! what is observed, what is published, and the constants between; `make` has the computation.

mod make;

pub use make::plan;

use super::Policy;
use super::decision::Mode;
use super::math::number;
use super::profile::TierModel;

/// The share of the workers' time that a keeper reckons with in a surge.
pub const HEADROOM: f32 = 0.9;

/// What is published of a plan. Times are in microseconds of the plan's maker, work in microseconds of one worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// The policy that holds for this task, where one was set at run time.
    pub policy: Option<Policy>,
    /// How much was known.
    pub mode: Mode,
    /// Live workers, in workers of the profiles' pace; at least a tenth.
    pub workers: f32,
    /// Keepers of snapshots seen lately; at least 1.
    pub isolates: u32,
    /// Work that waits or runs.
    pub work_us: f32,
    /// The backlog of work that is aimed at.
    pub target_us: f32,
    /// Mean rest of the runs that are going on.
    pub residual_us: f32,
    /// Arrivals a second.
    pub rate: f32,
    /// Index of dispersion of the arrivals' counts; 1 for a Poisson stream.
    pub idc: f32,
    /// Time between two plans.
    pub period_us: f32,
    /// The share of the workers' time that is used, 0..=1.
    pub busy: f32,
    /// The cheaper tier in use.
    pub lower: usize,
    /// The dearer tier in use; the same where one tier beats all mixes.
    pub upper: usize,
    /// The share of the dearer tier while the picture is young, 0..=1.
    pub x0: f32,
    /// The share of the dearer tier that holds without a picture of the queue, 0..=1.
    pub x_inf: f32,
    /// Correction of the share, in logits: what the shares that came out were short of.
    pub bias: f32,
    /// The deadline of the usual job, against whose utility gap the gap of a job is held; 0 where jobs have none.
    pub usual_us: f32,
    /// How sharply the gap of a job tells against the mean: the temperature of the tilt.
    pub tau0: f32,
    /// The price of a worker's time, in right answers a second.
    pub price: f32,
    /// How fast a backlog relaxes: the time constant with which the share fades.
    pub relax_us: f32,
    /// The share that is sent to [`Self::explore`] whatever the split says, 0..=1.
    pub epsilon: f32,
    /// The tier of which least is known.
    pub explore: usize,
    /// The share that is refused, by class in the order of `Priority::ALL`, 0..=1.
    pub reject: [f32; 3],
    /// Correction of the chance on time, learned from how often it came true; 1 where nothing was learned.
    pub kappa: f32,
    /// Mean time between a keeper and the queue, both ways.
    pub net_us: f32,
    /// Standard deviation of it.
    pub net_sd_us: f32,
    /// By how much a dearer tier is taken to be better where accuracies are not known.
    pub rank_gap: f32,
}

impl Default for Plan {
    /// The plan of somebody who knows nothing: a quarter for the dearer of two tiers.
    fn default() -> Self {
        Self {
            policy: None,
            mode: Mode::Unprofiled,
            workers: 1.0,
            isolates: 1,
            work_us: 0.0,
            target_us: 0.0,
            residual_us: 0.0,
            rate: 0.0,
            idc: 1.0,
            period_us: 250_000.0,
            busy: 0.0,
            lower: 0,
            upper: 1,
            x0: 0.25,
            x_inf: 0.25,
            bias: 0.0,
            usual_us: 0.0,
            tau0: 0.05,
            price: 0.0,
            relax_us: 250_000.0,
            epsilon: 0.0,
            explore: 0,
            reject: [0.0; 3],
            kappa: 1.0,
            net_us: 0.0,
            net_sd_us: 0.0,
            rank_gap: Tuning::RANK_GAP,
        }
    }
}

/// One tier as the maker of a plan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TierSeen {
    /// Cost and accuracy.
    pub model: TierModel,
    /// The profile was measured batch by batch and not guessed from a mean.
    pub profiled: bool,
    /// Jobs that wait for it.
    pub waiting: u32,
    /// Jobs that run on it.
    pub in_flight: u32,
}

/// Work before workers that bind again: what waits costs what the cheapest tier takes, for which they can always settle,
/// and what runs costs its own; in microseconds of one worker.
#[must_use]
pub fn rebindable_work_us(tiers: &[TierSeen]) -> f32 {
    let cheapest = tiers.first().map_or(0.0, |tier| tier.model.profile.server_us());
    let waiting = tiers.iter().fold(0_u32, |sum, tier| sum.saturating_add(tier.waiting));
    let running = tiers.iter().map(|tier| number(tier.in_flight) * tier.model.profile.server_us());
    number(waiting) * cheapest + running.sum::<f32>()
}

/// What is observed of one task. Numbers that are not known have the value that says so, or their neutral one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observations<'a> {
    /// The tiers, cheapest first; what is behind the [`MAX_TIERS`](super::MAX_TIERS)th is ignored.
    pub tiers: &'a [TierSeen],
    /// Live workers that share the work.
    pub workers: u32,
    /// How fast they are, as a multiple of the profiles' pace: below 1 where one is slow or shares its processor.
    pub pace: f32,
    /// Keepers of snapshots seen lately.
    pub isolates: u32,
    /// Arrivals a second, smoothed.
    pub rate: f32,
    /// Arrivals a second in the last period alone; a rise shows here first.
    pub last_rate: Option<f32>,
    /// The highest of such rates lately (a minute or so): what may come again before the next plan.
    pub peak_rate: Option<f32>,
    /// Index of dispersion of the arrivals' counts.
    pub idc: f32,
    /// Time until the next plan.
    pub period_us: f32,
    /// Mean age at which a plan reaches a decision.
    pub delivery_us: f32,
    /// Time since the previous plan.
    pub elapsed_us: f32,
    /// Work that waits or runs, where it was measured; else it is reckoned from the counts of the tiers.
    pub work_us: Option<f32>,
    /// The share of the workers' time in use, 0..=1.
    pub busy: f32,
    /// How long the oldest waiting job has waited.
    pub head_age_us: f32,
    /// The 10th percentile of recent relative deadlines.
    pub deadline_us: Option<f32>,
    /// The median of them.
    pub median_deadline_us: Option<f32>,
    /// Mean time between a keeper and the queue, both ways.
    pub net_us: f32,
    /// Standard deviation of it.
    pub net_sd_us: f32,
    /// Correction of the chance on time.
    pub kappa: f32,
    /// Shares of the classes in the arrivals, in the order of `Priority::ALL`.
    pub classes: [f32; 3],
    /// The share of the dearer tier that the previous plan brought about.
    pub realised: Option<f32>,
    /// How often the cheapest and the dearest tier disagree, 0..=1: accuracies cannot differ by more.
    pub disagreement: Option<f32>,
    /// A drift detector has raised an alarm lately.
    pub alarm: bool,
    /// The policy that was set for the task at run time.
    pub policy: Option<Policy>,
    /// The plan before this one.
    pub previous: Option<&'a Plan>,
}

impl Default for Observations<'_> {
    fn default() -> Self {
        Self {
            tiers: &[],
            workers: 1,
            pace: 1.0,
            isolates: 1,
            rate: 0.0,
            last_rate: None,
            peak_rate: None,
            idc: 1.0,
            period_us: 250_000.0,
            delivery_us: 0.0,
            elapsed_us: 250_000.0,
            work_us: None,
            busy: 0.0,
            head_age_us: 0.0,
            deadline_us: None,
            median_deadline_us: None,
            net_us: 0.0,
            net_sd_us: 0.0,
            kappa: 1.0,
            classes: [0.0, 1.0, 0.0],
            realised: None,
            disagreement: None,
            alarm: false,
            policy: None,
            previous: None,
        }
    }
}

/// The constants of planning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// Standard deviations of the arrivals' count to plan for.
    pub z: f32,
    /// The share of the workers' time to plan with.
    pub headroom: f32,
    /// The share of what the deadline leaves that the backlog may fill.
    pub fill: f32,
    /// How much of the backlog's error one period corrects; below 1 is stable with a delay of one period.
    pub gain: f32,
    /// The share of what workers and deadline can absorb that a peak may fill.
    pub absorb: f32,
    /// The fastest rise of the share, a second.
    pub rise: f32,
    /// Changes smaller than this are not published.
    pub dead_band: f32,
    /// Nor those within this many standard deviations of the arrivals' noise.
    pub play: f32,
    /// The time over which the arrival rate is smoothed.
    pub memory_us: f32,
    /// The deadline of jobs that name none, for the backlog that is aimed at.
    pub patience_us: f32,
    /// The share of exploration.
    pub epsilon: f32,
    /// The share of exploration after an alarm.
    pub alarm_epsilon: f32,
    /// Labels, in effective number, behind which a tier needs no exploration.
    pub labels: f32,
}

impl Tuning {
    /// By how much a dearer tier is taken to be better where nothing is known.
    pub const RANK_GAP: f32 = 0.05;
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            z: 0.5,
            headroom: 1.0,
            fill: 0.5,
            gain: 0.25,
            absorb: 1.0,
            rise: 0.10,
            dead_band: 0.03,
            play: 2.0,
            memory_us: 1e6,
            patience_us: 1e6,
            epsilon: 0.02,
            alarm_epsilon: 0.10,
            labels: 400.0,
        }
    }
}
