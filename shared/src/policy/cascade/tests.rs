use proptest::prelude::*;

use super::*;
use crate::policy::{Draws, Observations, Policy, PolicyKind, Profile, plan, route};
use crate::snapshot::TierLoad;

const CASCADE: Cascade = Cascade { below: 0.8, fail_accurate: true };

/// Tiers as (milliseconds of one run, accuracy), cheapest first.
fn tiers(of: &[(f32, Option<f32>)]) -> Vec<TierModel> {
    let tier = |(ms, accuracy): &(f32, Option<f32>)| {
        let profile = Profile { alpha_us: ms * 1_000.0, beta_us: 0.0, sd_us: ms * 100.0, cap: 1 };
        TierModel { profile, accuracy: *accuracy, n_eff: 50.0 }
    };
    of.iter().map(tier).collect()
}

fn hop(tiers: &[TierModel], said: Said) -> Hop<'_> {
    let (class, left_us) = (Priority::Normal, f32::INFINITY);
    Hop { tiers, answered: 0, said, class, left_us, ahead_us: 0.0, load: None }
}

fn two() -> Vec<TierModel> {
    tiers(&[(1.0, Some(0.9)), (5.0, Some(0.97))])
}

fn calm() -> Plan {
    Plan { mode: Mode::Normal, target_us: 50_000.0, x0: 0.3, ..Plan::default() }
}

#[test]
fn from_the_threshold_on_an_answer_stands() {
    let tiers = two();
    let at = |sure| again(&CASCADE, &hop(&tiers, Said::Confidence(sure)));
    assert_eq!(at(0.79), Verdict::Escalate(1));
    assert_eq!(at(0.8), Verdict::Keep(Kept::Confident));
    let never = Cascade { below: 0.0, ..CASCADE };
    assert_eq!(again(&never, &hop(&tiers, Said::Confidence(0.0))), Verdict::Keep(Kept::Confident));
}

#[test]
fn what_tells_no_confidence_is_asked_again_only_where_it_failed_to() {
    let tiers = two();
    let fast = Cascade { fail_accurate: false, ..CASCADE };
    for (said, accurate) in [
        (Said::Failed, Verdict::Escalate(1)),
        (Said::Confidence(f32::NAN), Verdict::Escalate(1)),
        (Said::Nothing, Verdict::Keep(Kept::Untold)),
    ] {
        assert_eq!(again(&CASCADE, &hop(&tiers, said)), accurate, "{said:?}");
        assert_eq!(again(&fast, &hop(&tiers, said)), Verdict::Keep(Kept::Untold), "{said:?}");
    }
}

#[test]
fn the_dearest_tier_that_earns_its_cost_is_asked_and_none_that_is_worse() {
    let to = |of: &[(f32, Option<f32>)]| again(&CASCADE, &hop(&tiers(of), Said::Confidence(0.1)));
    let (a, b, c) = ((1.0, Some(0.8)), (3.0, Some(0.9)), (9.0, Some(0.97)));
    assert_eq!(to(&[a, b, c]), Verdict::Escalate(2));
    assert_eq!(to(&[a, b, (9.0, Some(0.85))]), Verdict::Escalate(1), "the dearest is beaten by the one before");
    assert_eq!(to(&[a, (3.0, Some(0.7))]), Verdict::Keep(Kept::Top));
    assert_eq!(to(&[a, (3.0, None)]), Verdict::Escalate(1), "what is not known is taken to be better");
    assert_eq!(to(&[a]), Verdict::Keep(Kept::Top));
    assert_eq!(to(&[]), Verdict::Keep(Kept::Top));
    let two = two();
    let top = Hop { answered: 1, ..hop(&two, Said::Confidence(0.1)) };
    assert_eq!(again(&CASCADE, &top), Verdict::Keep(Kept::Top));
}

#[test]
fn a_dearer_tier_is_asked_only_where_it_will_be_in_time() {
    let tiers = two();
    let with = |left_us, ahead_us| again(&CASCADE, &Hop { left_us, ahead_us, ..hop(&tiers, Said::Confidence(0.1)) });
    assert_eq!(with(8_000.0, 0.0), Verdict::Escalate(1));
    assert_eq!(with(5_100.0, 0.0), Verdict::Keep(Kept::Late), "on time only if it is never slower than usual");
    assert_eq!(with(8_000.0, 4_000.0), Verdict::Keep(Kept::Late));
    assert_eq!(with(f32::NAN, 0.0), Verdict::Keep(Kept::Late));
}

#[test]
fn beside_the_load_the_time_must_be_worth_it() {
    let tiers = two();
    let plan = calm();
    let ask = |plan: &Plan, work_us, sure, class| {
        let plan = Plan { work_us, ..*plan };
        again(&CASCADE, &Hop { load: Some(&plan), class, ..hop(&tiers, Said::Confidence(sure)) })
    };
    let (yes, no) = (Verdict::Escalate(1), Verdict::Keep(Kept::Load));
    assert_eq!(ask(&plan, 0.0, 0.5, Priority::Normal), yes);
    assert_eq!(ask(&plan, 60_000.0, 0.5, Priority::Normal), no, "more waits than is aimed at");
    let saturated = Plan { mode: Mode::Saturated, ..plan };
    assert_eq!(ask(&saturated, 0.0, 0.5, Priority::Normal), no);
    // 5 ms at 40 right answers a second are 0.2 of one: what the dear tier adds to a confidence of 0.79 is 0.18.
    let pricey = Plan { price: 40.0, ..plan };
    assert_eq!(ask(&pricey, 0.0, 0.79, Priority::Normal), no);
    assert_eq!(ask(&pricey, 0.0, 0.5, Priority::Normal), yes);
    assert_eq!(ask(&pricey, 0.0, 0.79, Priority::High), yes, "it is worth twice as much");
    // The plan's dearer tier, and not the dearest of all.
    let one = Plan { upper: 0, ..plan };
    assert_eq!(ask(&one, 0.0, 0.5, Priority::Normal), Verdict::Keep(Kept::Top));
    // Work that waits in this process counts where the queue shows none.
    let here = Hop { load: Some(&plan), ahead_us: 60_000.0, ..hop(&tiers, Said::Confidence(0.5)) };
    assert_eq!(again(&CASCADE, &here), no);
}

fn load(tiers: &[TierModel], plan: Option<Plan>) -> TaskLoad {
    let tier = |(at, model): (usize, &TierModel)| TierLoad {
        tier: format!("t{at}"),
        accuracy: model.accuracy,
        measured: Some(model.profile),
        ..TierLoad::default()
    };
    TaskLoad { task: "task".to_owned(), tiers: tiers.iter().enumerate().map(tier).collect(), plan }
}

fn start_of(load: &TaskLoad, job: JobSpec, explore: u64) -> Decision {
    let policy = Policy { kind: PolicyKind::Cascade, ..Policy::default() };
    let moment = Moment { draws: Draws { explore, ..Draws::default() }, ..Moment::default() };
    route(&policy, load, &job, &moment)
}

#[test]
fn everything_starts_on_the_cheapest_tier_that_reaches_what_is_asked() {
    let tiers = tiers(&[(1.0, Some(0.8)), (3.0, Some(0.9)), (9.0, Some(0.97))]);
    let asks = |min_accuracy| JobSpec { min_accuracy, ..JobSpec::default() };
    for plan in [None, Some(calm())] {
        let load = load(&tiers, plan);
        for (asked, want) in [
            (None, (0, Reason::Cascade)),
            (Some(0.7), (0, Reason::Cascade)),
            (Some(0.85), (1, Reason::AccuracyAsked)),
            (Some(0.99), (0, Reason::Cascade)),
        ] {
            let decision = start_of(&load, asks(asked), 0);
            assert_eq!((decision.tier, decision.reason, decision.propensity), (want.0, want.1, 1.0), "{asked:?}");
        }
        let pinned = start_of(&load, JobSpec { pinned_tier: Some(2), ..JobSpec::default() }, 0);
        assert_eq!((pinned.tier, pinned.reason), (2, Reason::CallerPinned));
    }
}

#[test]
fn a_share_goes_straight_to_the_dearest_tier_so_that_its_accuracy_stays_known() {
    let load = load(&two(), Some(Plan { epsilon: 0.25, ..calm() }));
    let explored = start_of(&load, JobSpec::default(), 0);
    assert_eq!((explored.tier, explored.reason, explored.propensity), (1, Reason::Explored, 0.25));
    let usual = start_of(&load, JobSpec::default(), u64::MAX);
    assert_eq!((usual.tier, usual.reason, usual.propensity), (0, Reason::Cascade, 0.75));
    // What the dear tier would make late is not spent on learning.
    let tight = start_of(&load, JobSpec { deadline_ms: Some(3), ..JobSpec::default() }, 0);
    assert_eq!((tight.tier, tight.reason, tight.propensity), (0, Reason::Cascade, 1.0));
    let asked = start_of(&load, JobSpec { min_accuracy: Some(0.95), ..JobSpec::default() }, 0);
    assert_eq!((asked.tier, asked.reason, asked.propensity), (1, Reason::AccuracyAsked, 1.0), "both ways lead there");
}

#[test]
fn the_plan_of_a_cascade_explores_the_dearest_tier_though_the_split_would_use_it_anyway() {
    let seen =
        two().into_iter().map(|model| crate::policy::plan::TierSeen { model, profiled: true, ..Default::default() });
    let seen: Vec<_> = seen.collect();
    let idle = |kind| {
        let policy = Some(Policy { kind, ..Policy::default() });
        let seen = Observations { tiers: &seen, rate: 1.0, policy, ..Observations::default() };
        plan(&seen, &crate::policy::Tuning::default())
    };
    assert!(idle(PolicyKind::SlackSplit).epsilon <= 0.0 || idle(PolicyKind::SlackSplit).explore == 0);
    let cascade = idle(PolicyKind::Cascade);
    assert_eq!(cascade.explore, 1);
    assert!((cascade.epsilon - 0.02).abs() < 1e-6, "{cascade:?}");
}

fn any_tiers() -> impl Strategy<Value = Vec<TierModel>> {
    let profile = (any::<f32>(), any::<f32>(), any::<f32>(), any::<u16>())
        .prop_map(|(alpha_us, beta_us, sd_us, cap)| Profile { alpha_us, beta_us, sd_us, cap });
    let tier =
        (profile, any::<Option<f32>>()).prop_map(|(profile, accuracy)| TierModel { profile, accuracy, n_eff: 0.0 });
    proptest::collection::vec(tier, 0..20)
}

fn any_said() -> impl Strategy<Value = Said> {
    prop_oneof![any::<f32>().prop_map(Said::Confidence), Just(Said::Nothing), Just(Said::Failed)]
}

proptest! {
    #[test]
    fn every_input_has_a_verdict_and_what_is_asked_exists_and_is_dearer(
        tiers in any_tiers(), said in any_said(), answered in 0usize..20, left_us in any::<f32>(), ahead_us in any::<f32>(),
        below in any::<f32>(), fail_accurate in any::<bool>(), price in any::<f32>(), work_us in any::<f32>(),
        upper in any::<usize>(), beside in any::<bool>(),
    ) {
        let plan = Plan { price, upper, kappa: price, workers: work_us, work_us, rank_gap: below, target_us: left_us, ..Plan::default() };
        let load = beside.then_some(&plan);
        let cascade = Cascade { below, fail_accurate };
        let hop = Hop { answered, left_us, ahead_us, load, ..hop(&tiers, said) };
        if let Verdict::Escalate(to) = again(&cascade, &hop) {
            prop_assert!(to > answered && to < tiers.len());
        }
    }

    #[test]
    fn what_is_asked_again_is_expected_before_the_deadline(
        cheap in 0.1f32..10.0, dear in 0.1f32..100.0, left_us in 0.0f32..200_000.0, ahead_us in 0.0f32..100_000.0,
        sure in 0.0f32..1.0, beside in any::<bool>(),
    ) {
        let tiers = tiers(&[(cheap, Some(0.8)), (cheap + dear, Some(0.97))]);
        let plan = calm();
        let load = beside.then_some(&plan);
        let hop = Hop { left_us, ahead_us, load, ..hop(&tiers, Said::Confidence(sure)) };
        if again(&CASCADE, &hop) == Verdict::Escalate(1) {
            let run = tiers[1].profile;
            prop_assert!(ahead_us + run.batch_us(1) + run.sd() <= left_us, "{hop:?}");
        }
    }

    #[test]
    fn a_surer_answer_is_never_asked_again_where_a_less_sure_one_stands(
        low in 0.0f32..1.0, more in 0.0f32..1.0, below in 0.0f32..1.0, left_us in 0.0f32..50_000.0,
        price in 0.0f32..100.0, work_us in 0.0f32..100_000.0, beside in any::<bool>(),
    ) {
        let tiers = two();
        let plan = Plan { price, work_us, ..calm() };
        let load = beside.then_some(&plan);
        let cascade = Cascade { below, fail_accurate: true };
        let at = |sure| again(&cascade, &Hop { left_us, load, ..hop(&tiers, Said::Confidence(sure)) });
        let high = (low + more).min(1.0);
        prop_assert!(at(low) == Verdict::Escalate(1) || at(high) != Verdict::Escalate(1), "{low} {high}");
    }
}
