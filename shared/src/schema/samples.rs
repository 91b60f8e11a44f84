//! Schemas that the tests of this crate share.

use super::{Field, FieldKind, Target, TaskKind, TaskSchema};

pub(crate) fn number(name: &str, min: f64, max: f64) -> Field {
    Field {
        name: name.to_owned(),
        unit: String::new(),
        description: String::new(),
        kind: FieldKind::Number,
        length: 1,
        min: Some(min),
        max: Some(max),
        values: vec![],
        default: None,
        max_length: None,
    }
}

pub(crate) fn pump() -> TaskSchema {
    let state = Field {
        kind: FieldKind::Category,
        min: None,
        max: None,
        values: vec!["normal".to_owned(), "idle".to_owned()],
        default: Some("normal".to_owned()),
        ..number("operational_state", 0.0, 1.0)
    };
    TaskSchema {
        name: "pump".to_owned(),
        title: String::new(),
        description: String::new(),
        kind: TaskKind::Anomaly,
        tiers: vec!["fast".to_owned(), "accurate".to_owned()],
        classes: vec![],
        normal: vec![],
        target: None,
        fields: vec![number("temperature", -40.0, 200.0), number("pressure", 0.0, 50.0), state],
    }
}

pub(crate) fn cycle() -> TaskSchema {
    TaskSchema {
        name: "cycle".to_owned(),
        kind: TaskKind::Classification,
        classes: vec!["bad".to_owned(), "good".to_owned()],
        normal: vec!["good".to_owned()],
        fields: vec![
            Field { length: 3, ..number("PS1", 0.0, 250.0) },
            Field { length: 3, ..number("FS1", -1.0, 50.0) },
        ],
        ..pump()
    }
}

/// Takes at most 20 bytes of text.
pub(crate) fn sentiment() -> TaskSchema {
    let text = Field {
        name: "text".to_owned(),
        kind: FieldKind::Text,
        min: None,
        max: None,
        max_length: Some(20),
        ..number("text", 0.0, 0.0)
    };
    TaskSchema {
        name: "sentiment".to_owned(),
        kind: TaskKind::Classification,
        classes: vec!["negative".to_owned(), "positive".to_owned()],
        fields: vec![text],
        ..pump()
    }
}

pub(crate) fn wear() -> TaskSchema {
    let target = Target { name: "wear".to_owned(), unit: "mm".to_owned(), tolerance: Some(0.5) };
    TaskSchema {
        name: "wear".to_owned(),
        kind: TaskKind::Regression,
        target: Some(target),
        fields: vec![number("force", 0.0, 1e3)],
        ..pump()
    }
}
