//! One example worked by hand, in every number that a plan and its estimates have.
//!
//! Four workers with both models loaded, `S_fast(b) = 1 + 0.8 b` ms and `S_accurate(b) = 4 + 5 b` ms in batches of at most
//! 8, a deadline of 100 ms, a plan every 250 ms, 1,500 jobs a second, 60 ms of work in the queue.

use shared::policy::plan::TierSeen;
use shared::policy::{
    Draws, JobSpec, Mode, Moment, Observations, Plan, Policy, PolicyKind, Profile, Reason, TierModel, Tuning, plan,
    route,
};
use shared::snapshot::{TaskLoad, TierLoad};

const FAST: Profile = Profile { alpha_us: 1_000.0, beta_us: 800.0, sd_us: 0.0, cap: 8 };
const ACCURATE: Profile = Profile { alpha_us: 4_000.0, beta_us: 5_000.0, sd_us: 0.0, cap: 8 };

fn tiers() -> [TierSeen; 2] {
    let tier = |profile, accuracy| TierSeen {
        model: TierModel { profile, accuracy: Some(accuracy), n_eff: 1e6 },
        profiled: true,
        ..TierSeen::default()
    };
    [tier(FAST, 0.90), tier(ACCURATE, 0.97)]
}

fn seen(tiers: &[TierSeen]) -> Observations<'_> {
    Observations {
        tiers,
        workers: 4,
        isolates: 64,
        rate: 1_500.0,
        work_us: Some(60_000.0),
        busy: 1.0,
        deadline_us: Some(100_000.0),
        net_us: 5_000.0,
        ..Observations::default()
    }
}

/// The example plans for the mean: z = 0.
const MEAN: Tuning = Tuning {
    z: 0.0,
    headroom: 0.9,
    fill: 0.5,
    gain: 0.25,
    absorb: 0.9,
    rise: 0.1,
    dead_band: 0.03,
    play: 2.0,
    memory_us: 1e6,
    patience_us: 1e6,
    epsilon: 0.02,
    alarm_epsilon: 0.1,
    labels: 400.0,
};

fn picture(plan: Plan, depth: u32) -> TaskLoad {
    let tier = |name: &str, profile, accuracy| TierLoad {
        tier: name.to_owned(),
        depth,
        accuracy: Some(accuracy),
        measured: Some(profile),
        ..TierLoad::default()
    };
    let tiers = vec![tier("fast", FAST, 0.90), tier("accurate", ACCURATE, 0.97)];
    TaskLoad { task: "pump".to_owned(), tiers, plan: Some(plan) }
}

fn near(got: f32, wanted: f32, digits: f32) {
    assert!((got - wanted).abs() <= digits, "{got} instead of {wanted}");
}

#[test]
fn the_capacities_are_the_profiles() {
    near(FAST.server_us(), 925.0, 0.01);
    near(ACCURATE.server_us(), 5_500.0, 0.01);
    near(4.0 * 1e6 / FAST.server_us(), 4_324.0, 0.5);
    near(4.0 * 1e6 / ACCURATE.server_us(), 727.0, 0.5);
}

#[test]
fn the_plan_has_the_numbers_of_the_example() {
    let tiers = tiers();
    let plan = plan(&seen(&tiers), &MEAN);
    assert_eq!((plan.mode, plan.lower, plan.upper), (Mode::Normal, 0, 1));
    near(plan.target_us, 112_000.0, 1.0);
    near(plan.x_inf, 0.3224, 5e-5);
    near(plan.x0, 0.3300, 5e-5);
    near(plan.residual_us, 2_400.0, 5.0);
    // The count of jobs at which a threshold would do the same: c (D - S_a(8)) / s at that share.
    let mean_us = FAST.server_us() + plan.x_inf * (ACCURATE.server_us() - FAST.server_us());
    near(4.0 * (100_000.0 - ACCURATE.batch_us(8)) / mean_us, 93.0, 0.5);
}

#[test]
fn the_estimates_have_the_numbers_of_the_example() {
    let tiers = tiers();
    let plan = plan(&seen(&tiers), &MEAN);
    let job = JobSpec { deadline_ms: Some(100), ..JobSpec::default() };
    let decision = route(&Policy::default(), &picture(plan, 28), &job, &Moment::default());
    near(decision.completion_us[0], 29_800.0, 5.0);
    near(decision.completion_us[1], 66_400.0, 5.0);
    assert!(decision.on_time[0] > 0.999 && decision.on_time[1] > 0.99, "{:?}", decision.on_time);
    near(decision.share, plan.x0, 1e-6);
}

#[test]
fn an_idle_system_answers_with_the_accurate_tier() {
    let tiers = tiers();
    let idle = Observations { rate: 5.0, work_us: Some(0.0), busy: 0.01, ..seen(&tiers) };
    let plan = plan(&idle, &Tuning::default());
    assert_eq!((plan.x0, plan.x_inf, plan.epsilon), (1.0, 1.0, 0.0));
    let job = JobSpec { deadline_ms: Some(100), ..JobSpec::default() };
    for step in 0..1_000 {
        let moment = Moment { age_ms: 40, sent: 0, draws: Draws::stepped(1, step) };
        let decision = route(&Policy::default(), &picture(plan, 0), &job, &moment);
        assert_eq!((decision.tier, decision.reason, decision.propensity), (1, Reason::SplitDear, 1.0));
    }
}

#[test]
fn a_burst_that_no_picture_shows_yet_goes_to_the_fast_tier_at_once() {
    let tiers = tiers();
    let idle = Observations { rate: 100.0, work_us: Some(0.0), busy: 0.05, isolates: 1, ..seen(&tiers) };
    let plan = plan(&idle, &Tuning::default());
    assert_eq!(plan.x0, 1.0);
    let job = JobSpec { deadline_ms: Some(100), ..JobSpec::default() };
    let tier = |sent| {
        let moment = Moment { age_ms: 50, sent, draws: Draws::stepped(1, 7) };
        route(&Policy::default(), &picture(plan, 0), &job, &moment).tier
    };
    assert_eq!((tier(0), tier(5), tier(400)), (1, 1, 0));
}

#[test]
fn the_share_that_comes_out_is_the_share_that_was_planned() {
    let tiers = tiers();
    let plan = plan(&seen(&tiers), &MEAN);
    let job = JobSpec { deadline_ms: Some(100), ..JobSpec::default() };
    let load = picture(plan, 28);
    let dear = (0..10_000_u32).filter(|id| {
        let moment = Moment { age_ms: 0, sent: 0, draws: Draws::of_job(&id.to_le_bytes(), 0) };
        route(&Policy::default(), &load, &job, &moment).tier == 1
    });
    #[expect(clippy::cast_precision_loss, reason = "at most 10000")]
    let realised = dear.count() as f32 / 10_000.0;
    near(realised, plan.x0, 0.015);
}

#[test]
fn a_policy_set_at_run_time_holds_at_every_keeper() {
    let tiers = tiers();
    let set =
        Observations { policy: Some(Policy { kind: PolicyKind::AlwaysAccurate, ..Policy::default() }), ..seen(&tiers) };
    let load = picture(plan(&set, &MEAN), 9_999);
    let fast = Policy { kind: PolicyKind::AlwaysFast, ..Policy::default() };
    assert_eq!(route(&fast, &load, &JobSpec::default(), &Moment::default()).tier, 1);
}
