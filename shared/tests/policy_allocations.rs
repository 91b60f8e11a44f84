//! Deciding allocates nothing: counted by the allocator itself.
#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use shared::policy::plan::TierSeen;
use shared::policy::{
    Batches, Behind, Claimed, Draws, JobSpec, Moment, Observations, Policy, Profile, TierModel, Tuning, bind, plan,
    route,
};
use shared::reading::Priority;
use shared::snapshot::{TaskLoad, TierLoad};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory that is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const MODELS: [TierModel; 2] = [
    TierModel {
        profile: Profile { alpha_us: 1_000.0, beta_us: 800.0, sd_us: 50.0, cap: 8 },
        accuracy: Some(0.90),
        n_eff: 9.0,
    },
    TierModel {
        profile: Profile { alpha_us: 4_000.0, beta_us: 5_000.0, sd_us: 300.0, cap: 8 },
        accuracy: Some(0.97),
        n_eff: 9.0,
    },
];

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn plan_and_route_allocate_nothing() {
    let tiers = MODELS.map(|model| TierSeen { model, profiled: true, waiting: 30, in_flight: 4 });
    let load = |name: &str, model: TierModel| TierLoad {
        tier: name.to_owned(),
        depth: 34,
        accuracy: model.accuracy,
        labels: model.n_eff,
        measured: Some(model.profile),
        ..TierLoad::default()
    };
    let loads = vec![load("fast", MODELS[0]), load("accurate", MODELS[1])];
    let mut load = TaskLoad { task: "pump".to_owned(), tiers: loads, plan: None };
    let seen = Observations { tiers: &tiers, workers: 4, rate: 1_500.0, ..Observations::default() };
    let made = allocations(|| load.plan = Some(plan(&seen, &Tuning::default())));
    let routed = allocations(|| {
        for step in 0..1_000 {
            let moment = Moment { age_ms: step * 7, sent: 3, draws: Draws::stepped(1, step) };
            let job = JobSpec { deadline_ms: Some(step), min_accuracy: Some(0.95), ..JobSpec::default() };
            std::hint::black_box(route(&Policy::default(), &load, &job, &moment));
        }
    });
    assert_eq!((made, routed), (0, 0));
}

#[test]
fn bind_allocates_nothing_in_buffers_that_are_large_enough() {
    let slack = [1_000.0, 9_000.0, 50_000.0, 90_000.0, 200_000.0];
    let claimed: Vec<Claimed> = slack
        .iter()
        .cycle()
        .zip(Priority::ALL.iter().cycle())
        .take(64)
        .map(|(slack_us, class)| Claimed { slack_us: *slack_us, class: *class, ..Claimed::default() })
        .collect();
    let mut out = Batches::with_capacity(64);
    let bound = allocations(|| {
        for count in 0..100 {
            let behind = Behind { deadline_us: 100_000.0, workers: 4, ..Behind::between(count, 60_000.0, 100_000.0) };
            bind(&claimed, &MODELS, &behind, &mut out);
        }
    });
    assert_eq!(bound, 0);
}
