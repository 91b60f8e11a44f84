//! What binding must never do, over made-up queues; and what it does with the example's profiles.

use std::collections::BTreeSet;

use proptest::prelude::*;
use shared::policy::bind::{BindTuning, bind_with};
use shared::policy::{Batches, Behind, Claimed, Profile, TierModel, bind};
use shared::reading::Priority;

const FAST: TierModel = tier(1_000.0, 800.0, 0.90);
const ACCURATE: TierModel = tier(4_000.0, 5_000.0, 0.97);

const fn tier(alpha_us: f32, beta_us: f32, accuracy: f32) -> TierModel {
    TierModel { profile: Profile { alpha_us, beta_us, sd_us: 0.0, cap: 8 }, accuracy: Some(accuracy), n_eff: 1e6 }
}

fn jobs(slacks_ms: &[f32]) -> Vec<Claimed> {
    slacks_ms.iter().map(|ms| Claimed { slack_us: ms * 1_000.0, ..Claimed::default() }).collect()
}

/// What runs, as (tier, jobs) in order.
fn runs(claimed: &[Claimed], tiers: &[TierModel], behind: &Behind) -> Vec<(u8, Vec<u32>)> {
    let mut out = Batches::with_capacity(claimed.len());
    bind(claimed, tiers, behind, &mut out);
    out.runs.iter().map(|run| (run.tier, out.jobs_of(run).to_vec())).collect()
}

fn alone() -> Behind {
    Behind { deadline_us: 100_000.0, workers: 4, ..Behind::default() }
}

fn waiting(count: u32, head_ms: f32) -> Behind {
    Behind { deadline_us: 100_000.0, workers: 4, ..Behind::between(count, head_ms * 1_000.0, 100_000.0) }
}

#[test]
fn with_nothing_behind_all_that_have_time_run_accurate() {
    assert_eq!(runs(&jobs(&[90.0, 80.0]), &[FAST, ACCURATE], &alone()), [(1, vec![1, 0])]);
}

#[test]
fn the_urgent_run_first_and_fast_and_those_with_slack_accurate() {
    assert_eq!(runs(&jobs(&[90.0, 3.0, 80.0, 95.0]), &[FAST, ACCURATE], &alone()), [(0, vec![1]), (1, vec![2, 0, 3])]);
}

#[test]
fn what_waits_behind_is_protected() {
    let eight = jobs(&[70.0; 8]);
    assert_eq!(runs(&eight, &[FAST, ACCURATE], &waiting(8, 75.0))[0].0, 1);
    // 44 ms for the accurate run and 7.4 ms for the one behind it: a head with 50 ms left would be late.
    assert_eq!(runs(&eight, &[FAST, ACCURATE], &waiting(8, 50.0))[0].0, 0);
    // A long queue takes each worker long even where its head has time.
    assert_eq!(runs(&eight, &[FAST, ACCURATE], &waiting(1_000, 75.0))[0].0, 0);
}

#[test]
fn while_others_wait_only_full_runs_are_accurate() {
    let tiers = [FAST, ACCURATE];
    assert_eq!(runs(&jobs(&[90.0; 3]), &tiers, &waiting(5, 90.0)), [(0, vec![0, 1, 2])]);
    assert_eq!(runs(&jobs(&[90.0; 3]), &tiers, &alone()), [(1, vec![0, 1, 2])]);
}

#[test]
fn what_cannot_be_done_in_time_is_expired_and_nothing_else() {
    let mut out = Batches::default();
    bind(&jobs(&[1.7, 1.9, -5.0, f32::NAN]), &[FAST, ACCURATE], &alone(), &mut out);
    assert_eq!((out.expired.as_slice(), out.jobs.as_slice()), (&[0_u32, 2, 3][..], &[1_u32][..]));
}

#[test]
fn in_a_crowd_full_runs_come_before_the_last_moment_of_a_few() {
    let mut out = Batches::default();
    let claimed = jobs(&[2.0, 3.0, 20.0, 20.0]);
    bind(&claimed, &[FAST, ACCURATE], &waiting(20, 20.0), &mut out);
    assert_eq!((out.expired.as_slice(), out.jobs.as_slice()), (&[0_u32, 1][..], &[2_u32, 3][..]));
}

#[test]
fn a_cap_that_takes_longer_than_any_deadline_is_not_used() {
    // A full run of 256 takes 206 ms where jobs have 100.
    let wide = TierModel { profile: Profile { cap: 256, ..FAST.profile }, ..FAST };
    let mut out = Batches::default();
    bind(&jobs(&[60.0; 80]), &[wide, ACCURATE], &waiting(400, 60.0), &mut out);
    assert!(out.expired.is_empty(), "{:?}", out.expired);
    let in_time = out.runs.iter().filter(|run| run.done_us <= 60_000.0).map(|run| run.len).sum::<u32>();
    assert!(in_time >= 61, "{:?}", out.runs);
}

#[test]
fn in_an_overload_a_few_are_given_up_so_that_most_are_in_time() {
    let mut out = Batches::default();
    let mut claimed = jobs(&[8.0; 8]);
    claimed[0].slack_us = 2_000.0;
    bind(&claimed, &[FAST, ACCURATE], &alone(), &mut out);
    let first = out.runs[0];
    assert_eq!((first.tier, out.jobs_of(&first).len()), (0, 7));
    assert_eq!(out.jobs.last(), Some(&0), "what is late comes last");
}

#[test]
fn the_dear_places_go_to_those_that_are_worth_most() {
    // Room for one batch of eight beside the other eight.
    let mut claimed = jobs(&[70.0; 16]);
    claimed[2].class = Priority::High;
    claimed[15].class = Priority::Low;
    let runs = runs(&claimed, &[FAST, ACCURATE], &alone());
    let dear: Vec<u32> = runs.iter().filter(|run| run.0 == 1).flat_map(|run| run.1.clone()).collect();
    assert!(dear.contains(&2) && !dear.contains(&15), "{runs:?}");
}

#[test]
fn more_tiers_are_climbed_step_by_step() {
    let tiers = [FAST, tier(2_000.0, 2_000.0, 0.95), ACCURATE];
    assert_eq!(runs(&jobs(&[95.0; 4]), &tiers, &alone()), [(2, vec![0, 1, 2, 3])]);
    assert_eq!(runs(&jobs(&[15.0; 4]), &tiers, &alone()), [(1, vec![0, 1, 2, 3])]);
    assert_eq!(runs(&jobs(&[5.0; 4]), &tiers, &alone()), [(0, vec![0, 1, 2, 3])]);
    // A dear tier that is worse than a cheap one is never climbed to.
    assert_eq!(runs(&jobs(&[95.0; 4]), &[FAST, tier(4_000.0, 5_000.0, 0.5)], &alone())[0].0, 0);
}

fn any_tier() -> impl Strategy<Value = TierModel> {
    let time = prop_oneof![0.0f32..20_000.0, Just(0.0), Just(f32::NAN), Just(f32::INFINITY), Just(-3.0)];
    (time.clone(), time.clone(), time, 0u16..40, proptest::option::of(any::<f32>())).prop_map(
        |(alpha_us, beta_us, sd_us, cap, accuracy)| TierModel {
            profile: Profile { alpha_us, beta_us, sd_us, cap },
            accuracy,
            n_eff: 0.0,
        },
    )
}

fn any_job() -> impl Strategy<Value = Claimed> {
    let slack = prop_oneof![4 => 0.0f32..200_000.0, 1 => any::<f32>()];
    (slack, 0..3usize, proptest::option::weighted(0.2, any::<u8>()), 0u8..4, any::<u8>()).prop_map(
        |(slack_us, class, pinned, floor, hint)| Claimed {
            slack_us,
            class: Priority::ALL[class],
            pinned: pinned.map(|tier| tier % 5),
            floor,
            hint,
        },
    )
}

fn any_behind() -> impl Strategy<Value = Behind> {
    (prop_oneof![Just(0), any::<u32>()], any::<[f32; 5]>(), any::<f32>(), any::<f32>(), any::<f32>(), any::<u32>())
        .prop_map(|(count, slack_us, rate, idc, deadline_us, workers)| Behind {
            count,
            slack_us,
            rate,
            idc,
            deadline_us,
            workers,
        })
}

proptest! {
    #[test]
    fn every_job_is_in_one_run_or_expired_and_runs_are_sound(
        claimed in proptest::collection::vec(any_job(), 0..80),
        tiers in proptest::collection::vec(any_tier(), 1..20),
        behind in any_behind(),
    ) {
        let mut out = Batches::default();
        bind(&claimed, &tiers, &behind, &mut out);
        let all: BTreeSet<u32> = out.jobs.iter().chain(&out.expired).copied().collect();
        prop_assert_eq!(all.len(), claimed.len());
        prop_assert_eq!(out.jobs.len() + out.expired.len(), claimed.len());
        prop_assert_eq!(out.runs.iter().map(|run| run.len as usize).sum::<usize>(), out.jobs.len());
        for run in &out.runs {
            let profile = tiers[usize::from(run.tier)].profile;
            prop_assert!(usize::from(run.tier) < 16 && run.len >= 1 && run.len <= profile.cap());
            for job in out.jobs_of(run) {
                let pinned = claimed[*job as usize].pinned.filter(|tier| usize::from(*tier) < tiers.len().min(16));
                prop_assert!(pinned.is_none_or(|tier| tier == run.tier), "a pinned job left its tier");
            }
        }
        for job in &out.expired {
            let job = claimed[*job as usize];
            let alone = |tier: &TierModel| job.slack_us >= tier.profile.batch_us(1);
            // With a crowd behind, those go too that a full run would make late.
            let full = |tier: &TierModel| {
                job.slack_us >= tier.profile.batch_us(tier.profile.cap()) + 3.0 * tier.profile.sd()
            };
            let tiers = &tiers[..tiers.len().min(16)];
            let done = match job.pinned.and_then(|tier| tiers.get(usize::from(tier))) {
                Some(pinned) => alone(pinned),
                None if behind.count == 0 => tiers.iter().any(alone),
                None => tiers.iter().all(full),
            };
            prop_assert!(!done, "{:?} could be done", job);
        }
    }

    #[test]
    fn more_behind_never_means_more_accurate_answers(
        slacks in proptest::collection::vec(5.0f32..150.0, 1..33), count in 1u32..50, more in 1u32..500, head in 0.0f32..100.0,
    ) {
        let dear = |count| {
            let mut out = Batches::default();
            bind(&jobs(&slacks), &[FAST, ACCURATE], &waiting(count, head), &mut out);
            out.runs.iter().filter(|run| run.tier == 1).map(|run| run.len).sum::<u32>()
        };
        prop_assert!(dear(count + more) <= dear(count));
    }

    #[test]
    fn nobody_is_made_late_for_accuracy(slacks in proptest::collection::vec(1.0f32..200.0, 1..40)) {
        let late = |tuning: &BindTuning| {
            let claimed = jobs(&slacks);
            let mut out = Batches::default();
            bind_with(&claimed, &[FAST, ACCURATE], &alone(), tuning, &mut out);
            let late = |run: &shared::policy::bind::Batch| {
                out.jobs_of(run).iter().filter(|job| claimed[**job as usize].slack_us < run.done_us).count()
            };
            out.runs.iter().map(late).sum::<usize>()
        };
        let cheap = BindTuning { fill: 0.0, ..BindTuning::default() };
        prop_assert!(late(&BindTuning::default()) <= late(&cheap));
    }
}
