//! The simulator against theory, and against itself.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::bound;
use super::engine::{Outcome, run};
use super::goals::goals;
use super::policy::catalog::{ALL, Tuned, make};
use super::policy::fixed::Fixed;
use super::report::charts::charts;
use super::report::{files, html, tables};
use super::study::{Asked, runs, study, with_ends};
use super::workload::{Arrivals, Shape, catalog};
use super::world::{Change, Class, Tier, World};

const TUNED: Tuned = Tuned { threshold: 24, crowds: [8; 4], carries: [4_000.0, 700.0, 0.0, 0.0] };

fn simulate(world: &World, shape: &Shape, jobs: usize, seed: u64, policy: &str) -> (Arrivals, Outcome) {
    let arrivals = Arrivals::new(shape, world, jobs, seed);
    let outcome = run(world, &arrivals, make(policy, world, &TUNED).as_mut(), seed, false);
    (arrivals, outcome)
}

/// One worker, one row a batch, no network, deadlines far away.
fn single() -> World {
    let mut world = World::reference();
    world.tiers = vec![Tier { alpha_us: 0.0, beta_us: 1_000.0, cap: 1, accuracy: 0.9 }];
    (world.workers, world.net_in_us, world.net_out_us, world.noise) = (1, 0, 0, 0.0);
    world.classes = vec![Class { share: 1.0, deadline_us: 1_900_000, value: 1.0 }];
    world
}

#[test]
fn one_worker_waits_as_the_queueing_formula_says() {
    // M/D/1: the mean wait is rho / (2 (1 - rho)) service times; Pollaczek and Khinchine.
    for load in [0.5, 0.8] {
        let world = single();
        let arrivals = Arrivals::new(&Shape::Poisson { load }, &world, 400_000, 1);
        let outcome = run(&world, &arrivals, &mut Fixed { tier: 0 }, 1, false);
        let wanted = 1.0 + load / (2.0 * (1.0 - load));
        let median = outcome.score.answer_ms(0.5);
        let mean = outcome.score.mean_answer_ms();
        assert!((mean / wanted - 1.0).abs() < 0.04, "load {load}: {mean} ms, not {wanted} ms");
        assert!(median < mean, "a queue's waits lean to the long side");
    }
}

#[test]
fn several_workers_wait_less_than_one_and_batches_cost_what_they_should() {
    let mut world = single();
    world.tiers[0] = Tier { alpha_us: 1_000.0, beta_us: 800.0, cap: 8, accuracy: 0.9 };
    // Twice what single rows carry, half of what full batches do: it can only be served in batches.
    let single_rows = 1e6 / 1_800.0;
    let load = 0.6;
    assert!(load * world.capacity(0) > single_rows);
    let arrivals = Arrivals::new(&Shape::Poisson { load }, &world, 100_000, 1);
    let outcome = run(&world, &arrivals, &mut Fixed { tier: 0 }, 1, false);
    assert_eq!(outcome.score.all.on_time, outcome.score.all.offered);
    // A batch of one takes 1.8 ms and a full one 7.4 ms: no answer is faster, and few wait for two batches.
    assert!(outcome.score.answer_ms(0.001) >= 1.8);
    assert!(outcome.score.answer_ms(0.99) < 3.0 * 7.4);
}

#[test]
fn every_offered_job_ends_once() {
    let mut world = World::reference();
    world.classes = vec![
        Class { share: 0.5, deadline_us: 30_000, value: 1.0 },
        Class { share: 0.5, deadline_us: 300_000, value: 2.0 },
    ];
    world.changes = vec![(2_000_000, 3, Change::Die), (3_000_000, 1, Change::Pace(2.0))];
    world.delivery.lost = 0.1;
    for entry in ALL {
        for load in [0.4, 1.3] {
            let (_, outcome) = simulate(&world, &Shape::Bursty { load, cv2: 8.0 }, 15_000, 5, entry.name);
            let score = &outcome.score;
            let ended = score.all.on_time + score.late + score.expired + score.refused;
            assert_eq!(score.all.offered, ended, "{} at {load}", entry.name);
            assert!(score.all.offered > 0);
        }
    }
}

#[test]
fn jobs_end_even_when_all_workers_die() {
    let mut world = World::reference();
    world.changes = (0..4).map(|worker| (500_000, worker, Change::Die)).collect();
    let (_, outcome) = simulate(&world, &Shape::Poisson { load: 0.5 }, 10_000, 1, "slack-split");
    let score = &outcome.score;
    assert_eq!(score.all.offered, score.all.on_time + score.late + score.expired + score.refused);
    assert!(score.expired > 0);
}

#[test]
fn a_seed_gives_the_same_run_and_another_another() {
    let world = World::reference();
    let shape = Shape::Switching { loads: [0.25, 0.85], sojourns: [1.0, 0.5] };
    for entry in ALL {
        let of = |seed| simulate(&world, &shape, 10_000, seed, entry.name).1.score;
        assert_eq!(of(1), of(1), "{}", entry.name);
        assert_ne!(of(1), of(2), "{}", entry.name);
    }
}

#[test]
fn all_policies_meet_the_same_jobs() {
    let world = World::reference();
    let offered = |policy| simulate(&world, &Shape::Poisson { load: 0.5 }, 10_000, 1, policy).1.score.all.offered;
    assert!(ALL.iter().all(|entry| offered(entry.name) == offered("always-fast")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nobody_is_better_than_the_bound(
        load in 0.05..1.4, cv2 in 1.5..8.0, seed in 0_u64..1_000, workers in 1_usize..6,
        deadlines in (20_u64..80, 80_u64..600), values in (0.5..1.0, 1.0..3.0), policy in 0..ALL.len(),
        drop in proptest::option::of(0.1..0.9),
    ) {
        let mut world = World::reference();
        // Noise has mean 1: it may help a short run, and the bound is on the mean.
        (world.workers, world.noise) = (workers, 0.0);
        world.classes = vec![
            Class { share: 0.6, deadline_us: deadlines.0 * 1_000, value: values.0 },
            Class { share: 0.4, deadline_us: deadlines.1 * 1_000, value: values.1 },
        ];
        if let Some(accuracy) = drop {
            world.accuracies = vec![(1_000_000, 1, accuracy)];
        }
        let (arrivals, outcome) = simulate(&world, &Shape::Bursty { load, cv2 }, 3_000, seed, ALL[policy].name);
        let bound = bound::effective(&world, &arrivals);
        let effective = outcome.score.all.effective();
        prop_assert!(effective <= bound + 1e-9, "{}: {effective} over {bound}", ALL[policy].name);
    }
}

#[test]
fn a_comparison_is_told_in_every_form() {
    let base = World::reference();
    let jobs = 4_000;
    let mut loads = catalog::all(&base, jobs, Path::new("no such folder")).unwrap();
    // Recorded workloads are left out where no trace is; the others are all there.
    let families: std::collections::BTreeSet<&str> = loads.iter().map(|load| load.family.as_str()).collect();
    assert_eq!(families.len(), catalog::FAMILIES.len() - 2);
    loads.retain(|load| ["W2 CV2 8, load 0.35", "W4 MMPP"].contains(&load.title().as_str()));
    let policies = with_ends(vec!["slack-split", "slackfit"]);
    let asked = Asked { seeds: 2, jobs, policies, system: "a test".to_owned() };
    let told = AtomicU64::new(0);
    let wanted = runs(&loads, &asked, true);
    let found = study(&loads, asked, true, 2, &|| {
        told.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(told.into_inner(), wanted);
    assert_eq!(found.rows.len(), 2 * 4);
    let fast = found.overall.iter().find(|overall| overall.policy == "always-fast").unwrap();
    assert_eq!(fast.gap_closed.mean, 0.0);

    let json: serde_json::Value = serde_json::from_str(&files::json(&found).unwrap()).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 8);
    assert!(json["goals"].as_array().unwrap().iter().any(|goal| goal["met"].is_boolean()));
    let csv = files::csv(&found).unwrap();
    assert_eq!(csv.lines().count(), 1 + found.rows.len() + found.staleness.len());
    let page = html::page(&found, &goals(&found), &charts(&found));
    assert!(page.contains("<svg") && page.contains("slack-split-edge") && !page.contains("NaN"));
    assert!(!page.contains("http://") || page.matches("http://").count() == page.matches("http://www.w3.org").count());
    let text = tables::overall(&found.overall) + &tables::staleness(&found.staleness) + &tables::goals(&goals(&found));
    assert!(text.contains("slackfit") && !text.contains("NaN"), "{text}");
}
