//! Ten thousand generated cases as one number, so that wasm and native can be compared bit for bit.
//!
//! The cases come from [`super::draw::mix`], so nothing has to be stored or carried. Nothing calls this in a build that is
//! shipped, so the linker leaves it out.

use super::draw::{Draws, fraction, hash64, mix};
use super::math::{count, number};
use super::plan::TierSeen;
use super::{
    Decision, JobSpec, Mode, Moment, Observations, Plan, Policy, PolicyKind, Profile, TierModel, Tuning, plan, route,
};
use crate::reading::Priority;
use crate::snapshot::{TaskLoad, TierLoad};

/// The number of cases.
pub const CASES: u64 = 10_000;
/// How many cases share one plan.
const PER_PLAN: u64 = 20;

/// A digest of all that [`plan()`] and [`route`] say in [`CASES`] generated cases.
#[must_use]
pub fn selfcheck() -> u64 {
    let mut previous = None;
    let mut digest = 0;
    for round in 0..CASES / PER_PLAN {
        let mut dice = Dice(mix(round));
        let (plan, mut load) = case(&mut dice, previous.as_ref());
        digest = hash64(&plan_bits(&plan), digest);
        load.plan = Some(plan);
        for _ in 0..PER_PLAN {
            let decision = route(&policy(&mut dice), &load, &job(&mut dice), &moment(&mut dice));
            digest = decision_digest(&decision, digest);
        }
        previous = Some(plan);
    }
    digest
}

/// A row of numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = mix(self.0);
        self.0
    }

    fn share(&mut self) -> f32 {
        fraction(self.next())
    }

    /// Small numbers are likelier than large ones.
    fn up_to(&mut self, most: f32) -> f32 {
        let share = self.share();
        most * share * share
    }

    fn below(&mut self, n: u64) -> usize {
        usize::try_from(self.next() % n).unwrap_or(0)
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(4) > 0).then(|| value(self))
    }
}

fn case(dice: &mut Dice, previous: Option<&Plan>) -> (Plan, TaskLoad) {
    const NAMES: [&str; 4] = ["fast", "balanced", "accurate", "extra"];
    let n = 1 + dice.below(4);
    let mut seen = [TierSeen::default(); 4];
    let mut tiers = Vec::new();
    for (place, name) in seen.iter_mut().zip(NAMES).take(n) {
        let profile = Profile {
            alpha_us: dice.up_to(20_000.0),
            beta_us: 1.0 + dice.up_to(10_000.0),
            sd_us: dice.up_to(1_000.0),
            cap: u16::try_from(1 + dice.below(32)).unwrap_or(1),
        };
        let accuracy = dice.maybe(|dice| 0.5 + 0.5 * dice.share());
        let n_eff = dice.up_to(2_000.0);
        *place = TierSeen {
            model: TierModel { profile, accuracy, n_eff },
            profiled: dice.below(8) > 0,
            waiting: count(dice.up_to(300.0)),
            in_flight: count(dice.up_to(64.0)),
        };
        tiers.push(TierLoad {
            tier: name.to_owned(),
            depth: place.waiting + place.in_flight,
            service_us: dice.maybe(|dice| count(dice.up_to(20_000.0))),
            accuracy,
            labels: n_eff,
            measured: dice.maybe(|_| profile),
        });
    }
    let observations = Observations {
        tiers: seen.get(..n).unwrap_or_default(),
        workers: count(1.0 + dice.up_to(31.0)),
        isolates: count(1.0 + dice.up_to(63.0)),
        rate: dice.up_to(8_000.0),
        pace: 0.5 + dice.share(),
        last_rate: dice.maybe(|dice| dice.up_to(8_000.0)),
        peak_rate: dice.maybe(|dice| dice.up_to(9_000.0)),
        median_deadline_us: dice.maybe(|dice| dice.up_to(2_000_000.0)),
        idc: dice.up_to(10.0),
        delivery_us: dice.up_to(100_000.0),
        work_us: dice.maybe(|dice| dice.up_to(2_000_000.0)),
        busy: dice.share(),
        head_age_us: dice.up_to(200_000.0),
        deadline_us: dice.maybe(|dice| dice.up_to(1_000_000.0)),
        net_us: dice.up_to(20_000.0),
        net_sd_us: dice.up_to(5_000.0),
        kappa: 0.5 + dice.share(),
        classes: [dice.share(), dice.share(), dice.share()],
        realised: dice.maybe(Dice::share),
        alarm: dice.below(10) == 0,
        disagreement: dice.maybe(|dice| dice.up_to(0.2)),
        policy: (dice.below(8) == 0).then(|| Policy { kind: PolicyKind::Cascade, ..Policy::default() }),
        previous,
        ..Observations::default()
    };
    (plan(&observations, &Tuning::default()), TaskLoad { task: "task".to_owned(), tiers, plan: None })
}

fn policy(dice: &mut Dice) -> Policy {
    let kind = match dice.below(8) {
        0 => PolicyKind::AdaptiveThreshold,
        1 => PolicyKind::Cascade,
        _ => PolicyKind::SlackSplit,
    };
    Policy { kind, ..Policy::default() }
}

fn job(dice: &mut Dice) -> JobSpec {
    JobSpec {
        pinned_tier: (dice.below(16) == 0).then_some(1),
        deadline_ms: dice.maybe(|dice| u64::from(count(dice.up_to(2_000.0)))),
        min_accuracy: (dice.below(8) == 0).then(|| dice.share()),
        class: Priority::ALL.get(dice.below(3)).copied().unwrap_or_default(),
    }
}

fn moment(dice: &mut Dice) -> Moment {
    Moment {
        age_ms: u64::from(count(dice.up_to(8_000.0))),
        sent: count(dice.up_to(50.0)),
        draws: Draws::from_hash(dice.next()),
    }
}

fn plan_bits(plan: &Plan) -> [u8; 24] {
    let mut bits = [0; 24];
    let numbers = [plan.x0, plan.x_inf, plan.usual_us, plan.price, plan.relax_us, plan.epsilon];
    for (place, number) in bits.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_bits().to_le_bytes());
    }
    bits
}

fn decision_digest(decision: &Decision, digest: u64) -> u64 {
    let word = |number: f32, digest| hash64(&number.to_bits().to_le_bytes(), digest);
    let mode = Mode::number(decision.mode);
    let tier = u8::try_from(decision.tier).unwrap_or(u8::MAX);
    let refuse = decision.refuse.map_or(-1.0, number);
    let mut digest = hash64(decision.reason.name().as_bytes(), hash64(&[tier, mode], digest));
    digest = word(refuse, word(decision.propensity, word(decision.share, digest)));
    for (done, chance) in decision.completion_us.iter().zip(&decision.on_time).take(4) {
        digest = word(*chance, word(*done, digest));
    }
    digest
}
