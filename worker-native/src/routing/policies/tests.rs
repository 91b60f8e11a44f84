use super::*;

fn policies(policy_set: bool) -> Policies {
    Policies::new(&RoutingConfig {
        policy: Policy::default(),
        policy_set,
        exploration: 0.02,
        cascade_below: None,
        cascade_fail_accurate: true,
        snapshot_interval: std::time::Duration::from_millis(250),
    })
}

fn put(policy: &str, version: u64) -> String {
    let put = Put { policy: policy.to_owned(), version, ..policies(false).base() };
    serde_json::to_string(&put).unwrap()
}

#[test]
fn a_task_of_its_own_comes_before_all_tasks_and_both_before_the_setting() {
    let policies = policies(true);
    assert_eq!((policies.of("pump").from, policies.of("pump").version), (From::Setting, 0));
    policies.heard(EVERY_TASK, Some(&put("always-fast", 3)));
    assert_eq!((policies.of("pump").from, policies.of("pump").policy.kind), (From::All, PolicyKind::AlwaysFast));
    policies.heard("pump", Some(&put("queue-threshold", 4)));
    assert_eq!((policies.of("pump").from, policies.of("pump").version), (From::Task, 4));
    assert_eq!(policies.of("valve").from, From::All);
    policies.heard("pump", None);
    policies.heard(EVERY_TASK, None);
    assert_eq!(policies.of("pump").from, From::Setting);
}

#[test]
fn what_cannot_be_used_leaves_the_policy_before_it_in_force() {
    let policies = policies(false);
    let wrong = [
        String::new(),
        "{}".to_owned(),
        put("clever", 9),
        put("always-accurate", 9).replace("\"queue_threshold\":5", "\"queue_threshold\":0"),
    ];
    for wrong in &wrong {
        policies.heard("pump", Some(wrong));
        assert_eq!(policies.of("pump").from, From::Default, "{wrong}");
    }
    policies.heard("pump", Some(&put("always-fast", 1)));
    for wrong in &wrong {
        policies.heard("pump", Some(wrong));
        let in_force = policies.of("pump");
        assert_eq!((in_force.policy.kind, in_force.version), (PolicyKind::AlwaysFast, 1), "{wrong}");
    }
    policies.heard("pump", None);
    assert_eq!(policies.of("pump").from, From::Default);
}

#[test]
fn what_cannot_be_used_is_told_once_until_it_changes() {
    let policies = policies(false);
    let told = [Some("a"), Some("a"), Some("b"), None, Some("b")].map(|text| policies.is_news("pump", text));
    assert_eq!(told, [true, false, true, true, true]);
    assert!(policies.is_news("valve", Some("b")), "each place of its own");
}

#[test]
fn names_of_a_later_version_are_passed_over_where_a_policy_is_stored() {
    let policies = policies(false);
    let mut later: serde_json::Value = serde_json::from_str(&put("always-fast", 7)).unwrap();
    later["cascade"] = serde_json::json!({"depth": 3});
    later["slack_split"]["foresight"] = serde_json::json!(0.5);
    later["slack_split"]["fill"] = serde_json::json!(0.25);
    policies.heard("pump", Some(&later.to_string()));
    let in_force = policies.of("pump");
    assert_eq!((in_force.from, in_force.version, in_force.knobs.fill), (From::Task, 7, 0.25));
}

#[test]
fn every_bound_is_told() {
    let knobs =
        Knobs { headroom: 0.0, fill: 2.0, gain: f32::NAN, z: -1.0, rise: 0.0, exploration: 1.5, patience_ms: 0 };
    assert_eq!(knobs.faults().len(), 7);
    assert_eq!(Knobs::default().faults(), []);
    assert_eq!(Knobs::default().tuning(), Tuning::default());
}

#[test]
fn a_cascade_is_in_force_under_two_policies_and_as_it_was_set() {
    let config = |kind, cascade_below, cascade_fail_accurate| RoutingConfig {
        policy: Policy { kind, ..Policy::default() },
        policy_set: true,
        exploration: 0.02,
        cascade_below,
        cascade_fail_accurate,
        snapshot_interval: std::time::Duration::from_millis(250),
    };
    let of = |kind, below, accurate| Policies::new(&config(kind, below, accurate)).of("pump").cascade();
    let knobs = |below, fail| Some(CascadeKnobs { below, fail });
    assert_eq!(of(PolicyKind::SlackSplit, None, true), None);
    assert_eq!(of(PolicyKind::SlackSplit, Some(0.7), true), knobs(0.7, CascadeFail::Accurate));
    assert_eq!(of(PolicyKind::Cascade, None, false), knobs(0.8, CascadeFail::Fast));
    assert_eq!(of(PolicyKind::AlwaysFast, Some(0.7), true), None);
    let policies = Policies::new(&config(PolicyKind::SlackSplit, Some(0.7), true));
    policies.heard("pump", Some(&put("slack-split", 1)));
    assert_eq!(policies.of("pump").cascade(), None, "stored before there were cascades, or without one");
    policies.heard("pump", Some(&put("cascade", 2)));
    assert_eq!(policies.of("pump").cascade(), knobs(0.8, CascadeFail::Accurate));
    let wrong = Put { cascade: knobs(1.5, CascadeFail::Fast), ..policies.base() };
    assert_eq!(wrong.faults().len(), 1);
}
