use proptest::prelude::*;

use super::*;
use crate::policy::Policy;

const TEXT: &str = "v=2;e=5f2a;s=42;t=1700000000000;hydraulic-valve=fast:0:110:8131:433:300:1070:25:32,accurate:3:1020:-|\
    5:0:40:64:60000:112000:2400:15000:100:250:1000:0:1:3300:3224:0:100:500:1500:250:0:1:0:0:0:1000:5000:0:500:5:5000";

#[test]
fn many_tasks_still_make_a_text_that_can_be_read() {
    let tier = |tier: &str| TierLoad { tier: tier.to_owned(), depth: 1_000, ..TierLoad::default() };
    let task = |i: usize| TaskLoad {
        task: format!("a-task-with-a-long-name-{i}"),
        tiers: vec![tier("fast"), tier("accurate")],
        plan: Some(crate::policy::Plan::default()),
    };
    let snapshot = Snapshot { boot: 1, seq: 1, at: 1, tasks: (0..MAX_TASKS).map(task).collect() };
    let read = Snapshot::from_text(&snapshot.to_text()).unwrap();
    let planned = read.tasks.iter().filter(|task| task.plan.is_some()).count();
    assert!(planned > 10 && planned < read.tasks.len(), "{planned} of {}", read.tasks.len());
}

#[test]
fn the_documented_text_reads_and_writes() {
    let snapshot = Snapshot::from_text(TEXT).unwrap();
    assert_eq!(snapshot.tasks[0].depth(), 3);
    assert_eq!(snapshot.tasks[0].tiers[0].accuracy, Some(0.8131));
    assert_eq!(snapshot.tasks[0].tiers[1].accuracy, None);
    assert_eq!(snapshot.tasks[0].tiers[0].measured.unwrap().batch_us(10), 30.0 + 1_070.0);
    let plan = snapshot.tasks[0].plan.unwrap();
    assert_eq!((plan.policy, plan.x0, plan.relax_us), (Some(Policy::default()), 0.33, 250_000.0));
    assert_eq!(snapshot.to_text(), TEXT);
}

#[test]
fn a_policy_of_tomorrow_leaves_the_plan_and_the_keepers_own_policy() {
    let plan = |kind: &str| {
        let snapshot = Snapshot::from_text(&TEXT.replace("|5:", &format!("|{kind}:"))).unwrap();
        snapshot.tasks[0].plan.unwrap()
    };
    assert_eq!(plan("6").policy.map(|policy| policy.kind), Some(crate::policy::PolicyKind::Cascade));
    let unknown = plan("7");
    assert_eq!((unknown.policy, unknown.x0), (None, 0.33));
}

#[test]
fn version_1_is_read_as_well() {
    let text = "v=1;e=5f2a;s=42;t=1700000000000;hydraulic-valve=fast:0:110:8131,accurate:3:1020:-";
    let load = &Snapshot::from_text(text).unwrap().tasks[0];
    assert_eq!((load.depth(), load.plan, load.tiers[0].measured), (3, None, None));
}

#[test]
fn a_task_with_four_tiers_and_long_names_fits_into_512_bytes() {
    let tier = |name: &str| TierLoad {
        tier: name.to_owned(),
        depth: 100_000,
        service_us: Some(120_000),
        accuracy: Some(0.9731),
        labels: 14_230.0,
        measured: Some(Profile { alpha_us: 41_234.5, beta_us: 15_678.9, sd_us: 1_234.5, cap: 128 }),
    };
    let plan = Plan {
        policy: Some(Policy { queue_threshold: 1_000, ..Policy::default() }),
        workers: 128.0,
        isolates: 1_000,
        work_us: 9_999_999.0,
        target_us: 9_999_999.0,
        residual_us: 99_999.0,
        rate: 99_999.9,
        idc: 99.99,
        busy: 0.999,
        x0: 0.3333,
        x_inf: 0.6667,
        bias: -2.999,
        usual_us: 9_999_000.0,
        tau0: 0.1234,
        price: 9_999.99,
        relax_us: 5_000_000.0,
        epsilon: 0.1,
        reject: [0.123, 0.456, 0.999],
        kappa: 1.234,
        net_us: 12_345.0,
        net_sd_us: 2_345.0,
        ..Plan::default()
    };
    let tiers = ["fast", "balanced", "accurate", "extra-accurate"].map(tier).to_vec();
    let load = TaskLoad { task: "hydraulic-accumulator-state".to_owned(), tiers, plan: Some(plan) };
    let snapshot = Snapshot { boot: u64::MAX, seq: 4_000_000_000, at: 1_700_000_000_000, tasks: vec![load] };
    let text = snapshot.to_text();
    assert!(text.len() <= 512, "{}: {text}", text.len());
}

#[test]
fn a_plan_that_cannot_be_read_is_no_plan() {
    for bad in [
        "",
        "1",
        "5:9:4:64:60000:112000:2400:15000:100:250:1000:0:1:3300:3224:0:0:500:1500:250:0:1:0:0:0:1000:1:1:1:0",
        "x:0",
    ] {
        let text = format!("v=2;e=1;s=1;t=1;task=fast:1:2:3|{bad}");
        assert_eq!(Snapshot::from_text(&text).unwrap().tasks[0].plan, None, "{bad}");
    }
}

#[test]
fn what_cannot_be_read_is_no_snapshot() {
    assert_eq!(Snapshot::from_text("v=3;x=1"), Err(SnapshotError::Version));
    assert_eq!(Snapshot::from_text(&"x".repeat(MAX_TEXT + 1)), Err(SnapshotError::TooLarge));
    for bad in ["", "v=1", "v=1;e=zz;s=1;t=1", "v=1;e=1;s=1;t=1;task=fast:1:2", "v=1;e=1;s=1;t=1;task=fast:1:2:10001"] {
        assert_eq!(Snapshot::from_text(bad), Err(SnapshotError::Malformed), "{bad}");
    }
}

#[test]
fn a_later_version_may_add_parts_and_segments() {
    let text = "v=2;e=1;s=1;t=1;q=anything;task=fast:1:2:3:more";
    assert_eq!(Snapshot::from_text(text).unwrap().tasks.len(), 1);
}

fn tier() -> impl Strategy<Value = TierLoad> {
    let profile = (0u32..4_000_000, 0u32..4_000_000, 0u32..4_000_000, any::<u16>());
    let profile = profile.prop_map(|(alpha, beta, sd, cap)| Profile {
        alpha_us: real(alpha) / TENTHS,
        beta_us: real(beta) / TENTHS,
        sd_us: real(sd) / TENTHS,
        cap,
    });
    let numbers = ("[a-z]{1,8}", any::<u32>(), any::<Option<u32>>(), proptest::option::of(0u32..=10_000));
    (numbers, 0u32..1_000_000, proptest::option::of(profile)).prop_map(
        |((tier, depth, service_us, accuracy), labels, measured)| TierLoad {
            tier,
            depth,
            service_us,
            accuracy: accuracy.map(|value| real(value) / TEN_THOUSAND),
            labels: real(labels),
            measured,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let text = proptest::collection::vec(0i64..30_000, 31).prop_map(|mut numbers| {
        numbers[0] %= 7;
        if numbers[0] == 0 {
            // Not read back where there is no policy.
            (numbers[29], numbers[30]) = (5, 5_000);
        }
        numbers[1] %= 6;
        numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(":")
    });
    text.prop_map(|text| plan_text::read(&text).unwrap())
}

proptest! {
    #[test]
    fn every_snapshot_survives_the_wire(
        boot in any::<u64>(), seq in any::<u64>(), at in any::<u64>(),
        tasks in proptest::collection::vec(
            ("[a-z]{2,8}", proptest::collection::vec(tier(), 1..4), proptest::option::of(plan())), 0..4,
        ),
    ) {
        let tasks = tasks.into_iter().map(|(task, tiers, plan)| TaskLoad { task, tiers, plan }).collect();
        let snapshot = Snapshot { boot, seq, at, tasks };
        prop_assert_eq!(Snapshot::from_text(&snapshot.to_text()), Ok(snapshot));
    }

    #[test]
    fn no_text_can_break_the_reader(text in "(v=[12];e=1;s=1;t=1;)?[a-z0-9:;=,.|-]{0,60}") {
        drop(Snapshot::from_text(&text));
    }
}
