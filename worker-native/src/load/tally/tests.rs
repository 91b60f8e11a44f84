use super::*;

fn answered(label: Option<&str>, prediction: &str, model: &str) -> Answer {
    let mut answer = Answer::new(1, None);
    answer.label = label.map(str::to_owned);
    answer.outcome = Outcome::Answered;
    answer.status = Some(200);
    answer.prediction = Some(prediction.to_owned());
    answer.model = Some(model.to_owned());
    answer.model_version = Some(1);
    answer.tier = Some("fast".to_owned());
    answer.latency_ms = Some(2.0);
    answer
}

fn refused(row: u64, pointer: Option<&str>) -> Answer {
    let mut answer = Answer::new(row, None);
    answer.outcome = Outcome::Refused;
    answer.status = Some(422);
    answer.code = Some("invalid-reading".to_owned());
    answer.pointer = pointer.map(str::to_owned);
    answer.error = Some(format!("value {row} is wrong"));
    answer
}

fn tally(answers: &[Answer]) -> Summary {
    let mut tally = Tally::default();
    answers.iter().for_each(|answer| tally.add(answer));
    tally.summary()
}

#[test]
fn percentiles_are_measured_values_by_nearest_rank() {
    assert_eq!(Spread::of(&[]), None);
    let one = Spread::of(&[7.0]).unwrap();
    assert_eq!((one.p50, one.p99, one.max, one.mean), (7.0, 7.0, 7.0, 7.0));
    let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    let spread = Spread::of(&hundred).unwrap();
    assert_eq!((spread.p50, spread.p95, spread.p99, spread.max), (50.0, 95.0, 99.0, 100.0));
    let spread = Spread::of(&[1.0, 2.0, 3.0, 4.0, 1_000.0]).unwrap();
    assert_eq!((spread.p50, spread.p95), (3.0, 1_000.0));
}

#[test]
fn every_row_is_counted_once() {
    let mut failed = Answer::new(9, None);
    failed.fail("connect: refused");
    let summary = tally(&[answered(None, "a", "m"), refused(2, None), refused(3, None), failed]);
    assert_eq!((summary.rows, summary.answered, summary.refused, summary.failed), (4, 1, 2, 1));
    assert_eq!(summary.rows, summary.by_status.values().sum::<u64>());
    assert_eq!(summary.by_status["none"], 1);
    assert_eq!(summary.refused + summary.failed, summary.faults.iter().map(|fault| fault.count).sum::<u64>());
    assert_eq!(summary.answered, summary.by_model.iter().map(|share| share.rows).sum::<u64>());
    assert_eq!(summary.answered, summary.by_reason.values().sum::<u64>());
}

#[test]
fn accuracy_is_told_overall_and_by_model() {
    let summary = tally(&[
        answered(Some("none"), "none", "logreg"),
        answered(Some("none"), "none", "logreg"),
        answered(Some("none"), "none", "logreg"),
        answered(Some("leak"), "none", "logreg"),
        answered(Some("leak"), "leak", "trees"),
        answered(None, "leak", "trees"),
    ]);
    let accuracy = summary.accuracy.unwrap();
    assert_eq!((accuracy.labelled, accuracy.correct), (5, 4));
    assert!((accuracy.accuracy - 0.8).abs() < 1e-12);
    assert!((accuracy.balanced - 0.75).abs() < 1e-12);
    assert_eq!(accuracy.classes, ["leak", "none"]);
    assert_eq!(accuracy.confusion, [[1, 1], [0, 3]]);
    let trees = &summary.by_model[1];
    assert_eq!((trees.rows, trees.accuracy.as_ref().unwrap().labelled), (2, 1));
    assert_eq!(summary.by_tier[0].rows, 6);
}

#[test]
fn classes_that_are_numbers_compare_as_numbers_and_sort_so() {
    let summary = tally(&[answered(Some("100.0"), "100", "m"), answered(Some("73"), "80", "m")]);
    let accuracy = summary.accuracy.unwrap();
    assert_eq!(accuracy.correct, 1);
    assert_eq!(accuracy.classes, ["73", "80", "100"]);
    assert!((accuracy.balanced - 0.5).abs() < 1e-12, "a class no label has is not averaged over");
}

#[test]
fn equal_refusals_are_one_reason_with_an_example() {
    let summary = tally(&[
        refused(4, Some("#/sensor_data/PS1/17")),
        refused(5, Some("#/sensor_data/PS1/3")),
        refused(6, Some("#/sensor_data/FS1")),
    ]);
    assert_eq!(summary.faults.len(), 2);
    let first = &summary.faults[0];
    assert_eq!((first.count, first.pointer.as_deref()), (2, Some("#/sensor_data/PS1")));
    assert_eq!(first.example, "row 4: value 4 is wrong");
    assert!((first.share - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn failures_that_differ_by_a_number_are_one() {
    let failed = |row, text: &str| {
        let mut answer = Answer::new(row, None);
        answer.fail(text);
        answer
    };
    let summary = tally(&[
        failed(1, "line 17 has 2 cells, the header has 3"),
        failed(2, "line 104 has 2 cells, the header has 3"),
    ]);
    assert_eq!(summary.faults.len(), 1);
    assert_eq!(summary.faults[0].reason, "line N has N cells, the header has N");
}
