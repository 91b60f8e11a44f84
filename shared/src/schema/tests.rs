use super::*;

#[test]
fn sound_schemas_have_no_faults() {
    assert_eq!(samples::pump().faults(), Vec::<String>::new());
    assert_eq!(samples::cycle().faults(), Vec::<String>::new());
    assert_eq!(samples::sentiment().faults(), Vec::<String>::new());
    assert_eq!(samples::wear().faults(), Vec::<String>::new());
    assert_eq!((samples::cycle().width(), samples::sentiment().width()), (6, 0));
}

#[test]
fn a_text_stands_alone_in_a_classification() {
    let faults = |change: fn(&mut TaskSchema)| {
        let mut schema = samples::sentiment();
        change(&mut schema);
        schema.faults().join("; ")
    };
    assert!(faults(|schema| schema.fields.push(samples::number("x", 0.0, 1.0))).contains("no other field"));
    let second = faults(|schema| schema.fields.push(Field { name: "b".to_owned(), ..schema.fields[0].clone() }));
    assert!(second.contains("no other field"), "{second}");
    let anomaly = faults(|schema| {
        schema.kind = TaskKind::Anomaly;
        schema.classes.clear();
    });
    assert!(anomaly.contains("is a classification"), "{anomaly}");
    assert!(faults(|schema| schema.fields[0].length = 2).contains("a text has no `length`"));
    assert!(faults(|schema| schema.fields[0].max_length = Some(0)).contains("from 1 to 262144"));
    assert!(faults(|schema| schema.fields[0].max_length = Some(262_145)).contains("from 1 to 262144"));
    assert_eq!(faults(|schema| schema.fields[0].max_length = None), "");
    let mut number = samples::pump();
    number.fields[0].max_length = Some(5);
    assert!(number.faults().concat().contains("`max_length` is for texts"), "{:?}", number.faults());
}

#[test]
fn a_regression_has_a_target_and_no_classes() {
    let mut wear = samples::wear();
    wear.classes = vec!["a".to_owned(), "b".to_owned()];
    wear.target = Some(Target { name: String::new(), unit: String::new(), tolerance: Some(f64::NAN) });
    assert_eq!(wear.faults().len(), 3, "{:#?}", wear.faults());
    let pump = TaskSchema { target: samples::wear().target, ..samples::pump() };
    assert_eq!(pump.faults(), ["target: only a regression has one"]);
}

#[test]
fn every_contradiction_is_named_at_once() {
    let mut schema = samples::cycle();
    schema.name = "a=b".to_owned();
    schema.tiers = vec!["fast".to_owned(), "fast".to_owned(), "auto".to_owned()];
    schema.normal = vec!["fine".to_owned()];
    schema.fields[0].min = Some(300.0);
    schema.fields[1].name = "PS1".to_owned();
    assert_eq!(schema.faults().len(), 6, "{:#?}", schema.faults());
}
