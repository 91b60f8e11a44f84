use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;

/// A small generator (splitmix64): the tests' labels are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        posterior::to_f64((z ^ (z >> 31)) >> 11) / posterior::to_f64(1 << 53)
    }
}

fn label(job_ms: u64, correct: bool) -> Label {
    Label { job_ms, correct, propensity: None }
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    let one = (0..10 * MINUTE, any::<bool>(), prop::option::of(0.0..=1.0));
    prop::collection::vec(one.prop_map(|(job_ms, correct, propensity)| Label { job_ms, correct, propensity }), 1..60)
}

fn taken_in(labels: &[Label], half_life_ms: f64) -> Evidence {
    let mut evidence = Evidence::default();
    labels.iter().for_each(|one| evidence.add(one.weight(), one.correct, one.job_ms, half_life_ms));
    evidence
}

/// The same but for the last bit of a number, which reading a text may cost.
fn is_as_good_as(one: &Belief, two: &Belief) -> bool {
    let posterior = |belief: &Belief| belief.posterior(&Prior::new(None, 0.0), &Settings::default(), 0);
    let apart = (posterior(one).alpha - posterior(two).alpha).abs() / posterior(two).alpha;
    let rest = |belief: &Belief| (belief.labels(), belief.correct(), belief.window(), belief.alarms(), belief.cuts());
    apart < 1e-12 && rest(one) == rest(two) && one.adwin.rate() == two.adwin.rate()
}

proptest! {
    #[test]
    fn the_order_of_labels_does_not_matter(labels in labels(), seed: u64, half_life in 1_000.0..1e7) {
        let mut shuffled = labels.clone();
        let mut random = Random(seed);
        shuffled.sort_by_cached_key(|_| random.next().to_bits());
        let (one, two) = (taken_in(&labels, half_life), taken_in(&shuffled, half_life));
        let prior = Prior::new(Some(0.9), 20.0);
        let posterior = |evidence: &Evidence| Posterior::new(&prior, &evidence.at(11 * MINUTE, half_life));
        let (one, two) = (posterior(&one), posterior(&two));
        prop_assert!((one.alpha - two.alpha).abs() < 1e-9 && (one.beta - two.beta).abs() < 1e-9, "{one:?} {two:?}");
    }

    #[test]
    fn parts_put_together_are_the_whole(labels in labels(), cut in 0..60_usize) {
        let (one, two) = labels.split_at(cut.min(labels.len()));
        let (mut one, two) = (taken_in(one, 60_000.0), taken_in(two, 60_000.0));
        one.merge(&two, 60_000.0);
        let whole = taken_in(&labels, 60_000.0);
        prop_assert!((one.n_eff() - whole.n_eff()).abs() < 1e-9);
        prop_assert!((one.mean().unwrap() - whole.mean().unwrap()).abs() < 1e-9);
    }

    #[test]
    fn what_is_believed_is_within_bounds(labels in labels(), accuracy in prop::option::of(-1.0..2.0)) {
        let (settings, mut belief) = (Settings::default(), Belief::default());
        for one in &labels {
            belief.learn(one, &settings, 20 * MINUTE);
        }
        let posterior = belief.posterior(&Prior::new(accuracy, settings.prior_weight), &settings, 30 * MINUTE);
        let (low, high) = posterior.interval();
        prop_assert!(0.0 <= low && low <= posterior.mean() && posterior.mean() <= high && high <= 1.0);
        prop_assert!(posterior.n_eff <= posterior::to_f64(belief.labels()) + 1e-6);
        let (head, tail) = belief.to_texts();
        let read = Belief::from_texts(&head, &tail).unwrap();
        prop_assert!(is_as_good_as(&read, &belief), "{read:?} {belief:?}");
    }
}

#[test]
fn with_nothing_known_one_label_in_two_is_right() {
    let (settings, belief) = (Settings::default(), Belief::default());
    let posterior = belief.posterior(&Prior::new(None, settings.prior_weight), &settings, 5);
    assert_eq!((posterior.alpha, posterior.beta, posterior.n_eff), (1.0, 1.0, 0.0));
    let (low, high) = posterior.interval();
    assert!((low - 0.025).abs() < 1e-6 && (high - 0.975).abs() < 1e-6);
    assert_eq!((belief.last_label_ms(), belief.is_alarmed(0)), (None, false));
}

#[test]
fn labels_move_the_mean_and_are_forgotten_by_half_lives() {
    let (settings, mut belief) = (Settings::default(), Belief::default());
    let prior = Prior::new(Some(0.9), settings.prior_weight);
    for _ in 0..20 {
        belief.learn(&label(1_000, false), &settings, 1_000);
    }
    let at = |now| belief.posterior(&prior, &settings, now);
    assert!((at(1_000).mean() - 0.45).abs() < 1e-9, "20 labels against a prior of 20");
    assert!((at(1_000 + 30 * MINUTE).n_eff - 10.0).abs() < 1e-9);
    assert!((at(1_000 + 600 * MINUTE).mean() - 0.9).abs() < 1e-4, "back to what was measured in training");
}

#[test]
fn the_worth_of_labels_saturates_at_rate_times_half_life_over_ln_2() {
    let (settings, mut belief) = (Settings { half_life_ms: 60_000.0, ..Settings::default() }, Belief::default());
    let mut random = Random(1);
    for i in 0..10_000 {
        belief.learn(&label(i * 200, random.next() < 0.9), &settings, i * 200);
    }
    let n_eff = belief.posterior(&Prior::new(None, 0.0), &settings, 2_000_000).n_eff;
    assert!((n_eff - 433.0).abs() < 2.0, "5 a second for an hour: {n_eff}");
}

#[test]
fn weights_against_the_bias_of_routing_undo_it() {
    // Right in 90 % of easy readings and 50 % of hard ones, half each; easy ones come to this model ten times as often.
    let (settings, mut random) = (Settings::default(), Random(7));
    let (mut plain, mut weighted) = (Evidence::default(), Evidence::default());
    for _ in 0..40_000 {
        let easy = random.next() < 0.5;
        let propensity = if easy { 1.0 } else { 0.1 };
        if random.next() >= propensity {
            continue;
        }
        let correct = random.next() < if easy { 0.9 } else { 0.5 };
        let one = Label { job_ms: 0, correct, propensity: Some(propensity) };
        plain.add(1.0, correct, 0, settings.half_life_ms);
        weighted.add(one.weight(), correct, 0, settings.half_life_ms);
    }
    assert!((weighted.mean().unwrap() - 0.7).abs() < 0.02, "{weighted:?}");
    assert!((plain.mean().unwrap() - 0.7).abs() > 0.1, "{plain:?}");
    assert!(weighted.n_eff() < plain.n_eff() / 2.0, "unequal weights are worth less");
    assert_eq!(Label { propensity: Some(0.001), ..label(0, true) }.weight(), CLIP);
    assert_eq!(Label { propensity: Some(f64::NAN), ..label(0, true) }.weight(), CLIP);
}

#[test]
fn a_job_of_tomorrow_does_not_make_all_else_old() {
    let (settings, mut belief) = (Settings::default(), Belief::default());
    belief.learn(&label(1_000, true), &settings, 1_000);
    belief.learn(&label(u64::MAX, false), &settings, 2_000);
    assert!(belief.posterior(&Prior::new(None, 0.0), &settings, 2_000).n_eff > 1.9);
}

/// Labels after a step of the error rate until each detector speaks, on average over seeds.
fn delays(before: f64, after: f64, seeds: u64) -> (f64, f64) {
    let (mut alarms, mut cuts) = (0, 0);
    for seed in 0..seeds {
        let (settings, mut belief, mut random) = (Settings::default(), Belief::default(), Random(seed));
        for i in 0..2_000 {
            belief.learn(&label(i, random.next() >= before), &settings, i);
        }
        let (mut alarm, mut cut) = (None, None);
        for i in 0..2_000_u64 {
            let drift = belief.learn(&label(2_000 + i, random.next() >= after), &settings, 2_000 + i);
            alarm = alarm.or(drift.alarm.then_some(i));
            cut = cut.or(drift.cut.then_some(i));
        }
        (alarms, cuts) = (alarms + alarm.unwrap(), cuts + cut.unwrap());
    }
    (posterior::to_f64(alarms) / posterior::to_f64(seeds), posterior::to_f64(cuts) / posterior::to_f64(seeds))
}

#[test]
fn a_step_of_the_error_rate_is_noticed_early() {
    let (alarm, cut) = delays(0.10, 0.25, 40);
    assert!((40.0..100.0).contains(&alarm), "Page-Hinkley after {alarm} labels");
    assert!((100.0..220.0).contains(&cut), "ADWIN after {cut} labels");
}

#[test]
fn steady_errors_cut_nothing_and_alarm_rarely() {
    let (mut alarms, mut cuts) = (0, 0);
    for seed in 0..20 {
        let (settings, mut belief, mut random) = (Settings::default(), Belief::default(), Random(1_000 + seed));
        for i in 0..5_000 {
            belief.learn(&label(i, random.next() >= 0.10), &settings, i);
        }
        (alarms, cuts) = (alarms + belief.alarms(), cuts + belief.cuts());
    }
    assert!(cuts <= 1, "ADWIN cut {cuts} times in 100,000 labels");
    assert!(alarms <= 100, "Page-Hinkley alarmed {alarms} times in 100,000 labels");
}

#[test]
fn a_cut_leaves_the_posterior_of_the_window() {
    let (settings, mut belief, mut random) = (Settings::default(), Belief::default(), Random(3));
    for i in 0..1_000 {
        belief.learn(&label(i, random.next() < 0.95), &settings, i);
    }
    for i in 1_000..1_400 {
        belief.learn(&label(i, random.next() < 0.50), &settings, i);
    }
    assert!(belief.cuts() > 0 && belief.window() < 600, "{} labels are left", belief.window());
    let mean = belief.posterior(&Prior::new(None, 0.0), &settings, 1_400).mean();
    assert!((0.45..0.65).contains(&mean), "0.82 of all labels were right: {mean}");
    assert!(belief.is_alarmed(1_400) && !belief.is_alarmed(1_400 + ALARM_MS));
}

#[test]
fn a_million_labels_are_a_few_kilobytes() {
    let (settings, mut belief, mut random) = (Settings::default(), Belief::default(), Random(9));
    for i in 0..300_000 {
        belief.learn(&label(i * 10, random.next() < 0.9), &settings, i * 10);
    }
    let (head, tail) = belief.to_texts();
    assert!(head.len() < 400 && tail.len() < 20_000, "{} {}", head.len(), tail.len());
    assert!(is_as_good_as(&Belief::from_texts(&head, &tail).unwrap(), &belief));
}

#[test]
fn a_state_of_somebody_elses_is_refused_or_begun_anew() {
    let (settings, mut belief) = (Settings::default(), Belief::default());
    belief.learn(&label(5, true), &settings, 5);
    let (head, tail) = belief.to_texts();
    for poison in [
        "",
        "{}",
        "null",
        "[1]",
        &head.replace("\"v\":1", "\"v\":2"),
        &head.replace("\"weight\":1.0", "\"weight\":-1.0"),
    ] {
        assert!(Belief::from_head(poison).is_err(), "{poison}");
    }
    for poison in
        ["", "{}", &tail.replace("\"labels\":1", "\"labels\":7"), &tail.replace("\"errors\":0", "\"errors\":9")]
    {
        let found = Belief::from_texts(&head, poison).unwrap();
        assert_eq!((found.labels(), found.adwin.width()), (1, 0), "{poison}");
    }
}

#[test]
fn disagreement_bounds_the_difference_of_accuracies() {
    assert_eq!(disagreement_bound(0, 0), None);
    let bound = disagreement_bound(10, 1_000).unwrap();
    assert!((0.01..0.02).contains(&bound), "{bound}");
    assert!(disagreement_bound(0, 10).unwrap() > 0.2, "ten pairs say little");
    assert!(disagreement_bound(5, 5).unwrap() <= 1.0);
}
