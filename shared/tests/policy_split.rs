//! What the plan and the split at a keeper promise, over made-up tasks.

use proptest::prelude::*;
use shared::policy::plan::TierSeen;
use shared::policy::{
    Draws, JobSpec, Mode, Moment, Observations, Plan, Policy, Profile, Reason, TierModel, Tuning, plan, route,
};
use shared::reading::Priority;
use shared::snapshot::{TaskLoad, TierLoad};

fn seen(accuracies: &[Option<f32>]) -> Vec<TierSeen> {
    let tier = |(at, accuracy): (u16, &Option<f32>)| {
        let cost = f32::from(at * at * 5 + 1);
        let profile = Profile { alpha_us: 1_000.0 * cost, beta_us: 900.0 * cost, sd_us: 50.0 * cost, cap: 8 };
        TierSeen {
            model: TierModel { profile, accuracy: *accuracy, n_eff: 1e6 },
            profiled: true,
            ..TierSeen::default()
        }
    };
    (0..).zip(accuracies).map(tier).collect()
}

fn load(tiers: &[TierSeen], plan: Plan) -> TaskLoad {
    let tier = |(at, tier): (usize, &TierSeen)| TierLoad {
        tier: format!("t{at}"),
        depth: tier.waiting,
        accuracy: tier.model.accuracy,
        labels: tier.model.n_eff,
        measured: Some(tier.model.profile),
        ..TierLoad::default()
    };
    TaskLoad { task: "pump".to_owned(), tiers: tiers.iter().enumerate().map(tier).collect(), plan: Some(plan) }
}

const TWO: [Option<f32>; 2] = [Some(0.90), Some(0.97)];

fn busy(tiers: &[TierSeen]) -> Observations<'_> {
    Observations { tiers, workers: 4, rate: 1_500.0, deadline_us: Some(100_000.0), ..Observations::default() }
}

fn level(plan: &Plan) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a handful of tiers")]
    let lower = plan.lower as f32;
    if plan.lower == plan.upper { lower } else { lower + plan.x0 }
}

fn decide(load: &TaskLoad, job: &JobSpec, moment: &Moment) -> shared::policy::Decision {
    route(&Policy::default(), load, job, moment)
}

#[test]
fn the_mode_tells_the_age_and_the_share_fades_to_what_needs_no_picture() {
    let tiers = seen(&TWO);
    let made = Plan { x0: 0.0, x_inf: 0.5, relax_us: 100_000.0, ..plan(&busy(&tiers), &Tuning::default()) };
    let load = load(&tiers, made);
    let at = |age_ms| {
        let decision = decide(&load, &JobSpec::default(), &Moment { age_ms, ..Moment::default() });
        (decision.mode, decision.share)
    };
    assert_eq!((at(0), at(250)), ((Mode::Normal, 0.0), (Mode::Normal, 0.0)));
    assert_eq!((at(501).0, at(5_001)), (Mode::Stale, (Mode::Blind, 0.5)));
    assert!((at(4_000).1 - 0.5).abs() < 0.01 && at(400).1 > 0.1 && at(400).1 < at(501).1);
}

#[test]
fn without_a_picture_only_those_with_three_times_the_time_get_the_dear_tier() {
    let tiers = seen(&TWO);
    let load = load(&tiers, Plan { x_inf: 1.0, ..plan(&busy(&tiers), &Tuning::default()) });
    let alone = tiers[1].model.profile.batch_us(1) / 1_000.0;
    let at = |deadline_ms: f32| {
        let job = JobSpec { deadline_ms: Some(shared_count(deadline_ms)), ..JobSpec::default() };
        let decision = decide(&load, &job, &Moment { age_ms: 60_000, ..Moment::default() });
        (decision.tier, decision.reason, decision.refuse)
    };
    assert_eq!(at(3.0 * alone + 1.0), (1, Reason::SplitDear, None));
    assert_eq!(at(3.0 * alone - 1.0), (0, Reason::DeadlineTight, None));
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn shared_count(ms: f32) -> u64 {
    ms as u64
}

#[test]
fn the_three_ways_to_the_cheap_tier_have_their_own_reasons() {
    let reason = |accuracies: &[Option<f32>], job: JobSpec, change: fn(&mut Plan)| {
        let tiers = seen(accuracies);
        let mut made = plan(&busy(&tiers), &Tuning::default());
        (made.lower, made.upper, made.x0) = (0, 1, 1.0);
        change(&mut made);
        decide(&load(&tiers, made), &job, &Moment::default()).reason
    };
    let urgent = JobSpec { deadline_ms: Some(9), ..JobSpec::default() };
    let low = JobSpec { class: Priority::Low, ..JobSpec::default() };
    assert_eq!(reason(&TWO, JobSpec::default(), |_| ()), Reason::SplitDear);
    assert_eq!(reason(&TWO, urgent, |_| ()), Reason::DeadlineTight);
    assert_eq!(reason(&[Some(0.9), Some(0.8)], JobSpec::default(), |_| ()), Reason::AccuracyLow);
    assert_eq!(reason(&TWO, low, |plan| plan.price = 8.0), Reason::PriceHigh);
    assert_eq!(reason(&TWO, JobSpec::default(), |plan| plan.price = 8.0), Reason::SplitDear);
}

#[test]
fn what_the_caller_asks_for_comes_before_the_split() {
    let tiers = seen(&[Some(0.8), Some(0.9), Some(0.97)]);
    let made = Plan { lower: 0, upper: 1, x0: 0.0, ..plan(&busy(&tiers), &Tuning::default()) };
    let load = load(&tiers, made);
    let asked = JobSpec { min_accuracy: Some(0.95), ..JobSpec::default() };
    let decision = decide(&load, &asked, &Moment::default());
    assert_eq!((decision.tier, decision.reason, decision.propensity), (2, Reason::AccuracyAsked, 1.0));
    let pinned = JobSpec { pinned_tier: Some(1), deadline_ms: Some(1), ..JobSpec::default() };
    let decision = decide(&load, &pinned, &Moment::default());
    assert_eq!((decision.tier, decision.reason), (1, Reason::CallerPinned));
    assert!(decision.refuse.is_some(), "one millisecond is less than the tier takes alone");
    assert_eq!(decision.shed_ms(), None, "that rests on a profile, which only runs can mend");
}

#[test]
fn saturation_sheds_the_lowest_class_first() {
    let tiers = seen(&TWO);
    let over = Observations { rate: 6_000.0, work_us: Some(300_000.0), classes: [0.2, 0.5, 0.3], ..busy(&tiers) };
    let made = plan(&over, &Tuning::default());
    assert_eq!((made.mode, made.x0), (Mode::Saturated, 0.0));
    let [high, normal, low] = made.reject;
    assert!(high <= 0.0 && normal < 0.3 && low >= 1.0, "{:?}", made.reject);
    // What is over for a moment only is queued.
    let brief = plan(&Observations { work_us: Some(10_000.0), ..over }, &Tuning::default());
    assert_eq!(brief.reject, [0.0; 3]);
    // A plan of a burst that may be over sheds nothing.
    let load = load(&tiers, made);
    let job = JobSpec { class: Priority::Low, deadline_ms: Some(10_000), ..JobSpec::default() };
    let refused = |age_ms| decide(&load, &job, &Moment { age_ms, ..Moment::default() }).refuse.is_some();
    assert_eq!([0, 500, 501, 4_000].map(refused), [true, true, false, false]);
    let decision = decide(&load, &job, &Moment::default());
    assert!(decision.shed && decision.shed_ms() == decision.refuse, "{decision:?}");
    let urgent = decide(&load, &JobSpec { class: Priority::High, ..job }, &Moment::default());
    assert_eq!(urgent.shed_ms(), None, "no class is shed that the plan does not name");
}

#[test]
fn the_tier_of_which_least_is_known_is_explored_and_the_propensity_says_how_often() {
    let mut tiers = seen(&TWO);
    tiers[0].model.n_eff = 3.0;
    let idle = Observations { rate: 10.0, ..busy(&tiers) };
    let made = plan(&idle, &Tuning::default());
    assert_eq!((made.explore, made.x0), (0, 1.0));
    let load = load(&tiers, made);
    let job = JobSpec { deadline_ms: Some(100), ..JobSpec::default() };
    let mut explored = 0;
    for id in 0..10_000_u32 {
        let moment = Moment { age_ms: 0, sent: 0, draws: Draws::of_job(&id.to_le_bytes(), 0) };
        let decision = decide(&load, &job, &moment);
        if decision.reason == Reason::Explored {
            explored += 1;
            // 1 where the draw from the accuracies took the same tier anyway.
            let p = decision.propensity;
            assert!((p - 0.02).abs() < 1e-3 || p >= 1.0, "{p}");
        }
    }
    assert!((150..250).contains(&explored), "{explored}");
}

#[test]
fn a_fall_is_at_once_and_a_rise_waits_until_the_backlog_is_gone() {
    let tiers = seen(&TWO);
    let tuning = Tuning::default();
    let high = plan(&Observations { rate: 50.0, ..busy(&tiers) }, &tuning);
    let low = plan(&Observations { rate: 4_000.0, previous: Some(&high), ..busy(&tiers) }, &tuning);
    assert!(high.x0 >= 1.0 && low.x0 < 0.05, "{} {}", high.x0, low.x0);
    let after = |head_age_us| {
        plan(&Observations { rate: 50.0, head_age_us, previous: Some(&low), ..busy(&tiers) }, &tuning).x0 - low.x0
    };
    assert!(after(90_000.0).abs() < 1e-6);
    assert!((after(0.0) - 0.025).abs() < 1e-3, "a tenth a second: {}", after(0.0));
}

#[test]
fn noise_under_constant_load_hardly_turns_the_published_share() {
    let tiers = seen(&TWO);
    let tuning = Tuning::default();
    let mut previous = plan(&busy(&tiers), &tuning);
    let (mut turns, mut direction) = (0, 0.0_f32);
    for step in 0..240_u64 {
        // A Poisson count of 375 has a standard deviation of 19, a twentieth; the sum of draws is nearly normal.
        let noise = (0..12).map(|i| shared::policy::draw::fraction(shared::policy::draw::mix(step * 12 + i)));
        let last = 1_500.0 * (1.0 + (noise.sum::<f32>() - 6.0) / 19.4);
        let next = plan(&Observations { last_rate: Some(last), previous: Some(&previous), ..busy(&tiers) }, &tuning);
        let change = next.x0 - previous.x0;
        if change.abs() > 1e-6 {
            turns += u32::from(change * direction < 0.0);
            direction = change;
        }
        previous = next;
    }
    assert!(turns <= 2, "{turns} turns in a minute");
}

fn any_tier() -> impl Strategy<Value = TierSeen> {
    let number = prop_oneof![0.0f32..20_000.0, any::<f32>()];
    (
        number.clone(),
        number.clone(),
        number,
        any::<u16>(),
        any::<Option<f32>>(),
        any::<f32>(),
        any::<(u32, u32, bool)>(),
    )
        .prop_map(|(alpha_us, beta_us, sd_us, cap, accuracy, n_eff, (waiting, in_flight, profiled))| TierSeen {
            model: TierModel { profile: Profile { alpha_us, beta_us, sd_us, cap }, accuracy, n_eff },
            profiled,
            waiting,
            in_flight,
        })
}

proptest! {
    #[test]
    fn any_observations_make_a_sound_plan_and_any_job_a_sound_decision(
        tiers in proptest::collection::vec(any_tier(), 0..20),
        numbers in any::<[f32; 12]>(), workers in any::<u32>(), age_ms in any::<u64>(), sent in any::<u32>(),
        hash in any::<u64>(), job in any::<(Option<usize>, Option<u64>, Option<f32>)>(),
    ) {
        let [rate, last, peak, idc, period_us, elapsed_us, busy, deadline, pace, kappa, net_us, net_sd_us] = numbers;
        let first = plan(&Observations { tiers: &tiers, ..Observations::default() }, &Tuning::default());
        let observations = Observations {
            tiers: &tiers, workers, pace, rate, last_rate: Some(last), peak_rate: Some(peak), idc, period_us, elapsed_us,
            busy, deadline_us: Some(deadline), kappa, net_us, net_sd_us, previous: Some(&first), realised: Some(rate),
            ..Observations::default()
        };
        let made = plan(&observations, &Tuning::default());
        let n = tiers.len().clamp(1, 16);
        prop_assert!(made.lower < n && made.upper < n, "{made:?}");
        for share in [made.x0, made.x_inf, made.epsilon, made.reject[0], made.reject[1], made.reject[2]] {
            prop_assert!((0.0..=1.0).contains(&share), "{made:?}");
        }
        for number in [made.work_us, made.target_us, made.residual_us, made.price, made.bias, made.relax_us, made.tau0] {
            prop_assert!(number.is_finite(), "{made:?}");
        }
        let load = load(&tiers, made);
        let spec = JobSpec { pinned_tier: job.0, deadline_ms: job.1, min_accuracy: job.2, class: Priority::Low };
        let moment = Moment { age_ms, sent, draws: Draws::from_hash(hash) };
        let decision = decide(&load, &spec, &moment);
        prop_assert!(decision.tier < tiers.len().max(1));
        prop_assert!(decision.propensity > 0.0 && decision.propensity <= 1.0, "{decision:?}");
        prop_assert!(decision.on_time.iter().all(|chance| (0.0..=1.0).contains(chance)), "{decision:?}");
        prop_assert!(decision.completion_us.iter().all(|done| done.is_finite()), "{decision:?}");
    }

    #[test]
    fn more_work_or_more_jobs_never_mean_a_dearer_mix(
        accuracies in proptest::collection::vec(proptest::option::of(0.3f32..1.0), 2..6),
        rate in 1.0f32..6_000.0, work in 0.0f32..400_000.0, more_jobs in 1.0f32..3.0, more_work in 0.0f32..200_000.0,
    ) {
        let at = |tiers: &[TierSeen], rate, work| {
            level(&plan(&Observations { rate, work_us: Some(work), ..busy(tiers) }, &Tuning::default()))
        };
        let tiers = seen(&accuracies);
        prop_assert!(at(&tiers, rate, work + more_work) <= at(&tiers, rate, work) + 1e-4);
        // With more tiers the backlog that is aimed at changes with the pair in use, and with it a little of the share.
        let two = &tiers[..2];
        prop_assert!(at(two, rate * more_jobs, work) <= at(two, rate, work) + 1e-4);
    }
}
