//! Values of a reading against the fields of its task.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, NotANumber, Object, array, excerpt, number, pointer, string};
use super::{Fault, Form, Input, to_f32};
use crate::schema::{Field, FieldKind, TaskSchema};

/// What was read so far, and what is wrong with the rest.
struct Sink<'f> {
    features: Vec<f32>,
    text: Option<String>,
    faults: &'f mut Vec<Fault>,
}

impl Sink<'_> {
    fn fault(&mut self, pointer: impl Into<String>, code: &'static str, detail: String) {
        self.faults.push(Fault::new(pointer, code, detail));
    }
}

/// Reads a reading in any form; what comes back is whole where no fault was added.
pub(super) fn read(schema: &TaskSchema, form: Form<'_>, faults: &mut Vec<Fault>) -> Input {
    let mut sink = Sink { features: Vec::with_capacity(schema.width()), text: None, faults };
    match (form, schema.text_field()) {
        (Form::Named(raw), _) => read_named(schema, raw, &mut sink),
        (Form::Features(raw), None) => read_features(schema, raw, &mut sink),
        (Form::Text(raw), Some(field)) => read_text(field, "text", raw, "#/text", &mut sink),
        (Form::Features(_), Some(_)) => misfit(schema, form, "`text`", &mut sink),
        (Form::Text(_), None) => misfit(schema, form, "`sensor_data` or `features`", &mut sink),
    }
    match sink.text {
        Some(text) => Input::Text(text),
        None => Input::Features(sink.features),
    }
}

fn misfit(schema: &TaskSchema, form: Form<'_>, wanted: &str, sink: &mut Sink<'_>) {
    let (task, fields) = (&schema.name, schema.field_names());
    let detail = format!("task `{task}` takes no `{}` but {wanted}: {fields}", form.name());
    sink.fault(pointer(&[form.name()]), "unexpected", detail);
}

/// The first fault of an input whose numbers are numbers already.
pub(super) fn fault(schema: &TaskSchema, input: &Input) -> Option<String> {
    let features = match (input, schema.text_field()) {
        (Input::Text(text), Some(field)) => {
            let good = (1..=field.max_text_bytes()).contains(&text.len()) && !text.contains('\0');
            return (!good).then(|| format!("`{}` must be {}", field.name, wanted(field)));
        }
        (Input::Features(features), None) if features.len() == schema.width() => features,
        _ => return Some(format!("task `{}` takes {}", schema.name, schema.field_names())),
    };
    let fields = schema.fields.iter().flat_map(|field| std::iter::repeat_n(field, field.length));
    fields.zip(features).find_map(|(field, value)| {
        let number = f64::from(*value);
        let good = match field.kind {
            FieldKind::Category => (0..field.values.len()).any(|i| index_to_f32(i) == *value),
            // float32 and the range's float64 differ in the last digits: an end of the range is within.
            _ => {
                value.is_finite()
                    && field.min.is_none_or(|min| number >= min || *value >= to_f32(min))
                    && field.max.is_none_or(|max| number <= max || *value <= to_f32(max))
            }
        };
        (!good).then(|| format!("`{}` is {value}, accepted is {}", field.name, wanted_one(field)))
    })
}

/// Reads the named form, in the order of the schema's fields.
fn read_named(schema: &TaskSchema, raw: &RawValue, sink: &mut Sink<'_>) {
    let Ok(object) = serde_json::from_str::<Object<'_>>(raw.get()) else {
        let detail = format!("`sensor_data` must be an object of fields, not {}", excerpt(raw));
        sink.fault("#/sensor_data", "wrong_type", detail);
        return;
    };
    for name in &object.duplicates {
        sink.fault(pointer(&["sensor_data", name]), "duplicate", format!("`{name}` is given twice"));
    }
    for (name, _) in &object.entries {
        if !schema.fields.iter().any(|field| field.name == *name) {
            let detail =
                format!("`{name}` is not a field of task `{}`; its fields: {}", schema.name, schema.field_names());
            sink.fault(pointer(&["sensor_data", name]), "unexpected", detail);
        }
    }
    for field in &schema.fields {
        let at = || pointer(&["sensor_data", &field.name]);
        match object.get(&field.name) {
            Some(raw) if field.length > 1 => read_array(field, raw, &at(), sink),
            Some(raw) => read_one(field, &field.name, raw, at, sink),
            None => match default_index(field) {
                Some(index) => sink.features.push(index),
                None => {
                    let detail = format!("`{}` is missing: {}", field.name, wanted(field));
                    sink.fault(at(), "missing", detail);
                }
            },
        }
    }
}

/// Reads the plain vector, whose order is that of the schema's fields.
fn read_features(schema: &TaskSchema, raw: &RawValue, sink: &mut Sink<'_>) {
    let width = schema.width();
    let Some(values) = array(raw, width) else {
        let detail = format!("`features` must be an array of {width} numbers, not {}", excerpt(raw));
        sink.fault("#/features", "wrong_type", detail);
        return;
    };
    if values.length != width {
        let detail = format!(
            "`features` has {} values, task `{}` takes {width}: {}",
            values.length,
            schema.name,
            schema.field_names()
        );
        sink.fault("#/features", "wrong_length", detail);
        return;
    }
    let fields = schema.fields.iter().flat_map(|field| std::iter::repeat_n(field, field.length));
    for (i, (field, raw)) in fields.zip(values.elements).enumerate() {
        let at = || pointer(&["features", &i.to_string()]);
        match field.kind {
            FieldKind::Category => read_index(field, raw, at, sink),
            FieldKind::Number | FieldKind::Text => read_one(field, &field.name, raw, at, sink),
        }
    }
}

fn read_array(field: &Field, raw: &RawValue, at: &str, sink: &mut Sink<'_>) {
    let Some(values) = array(raw, field.length) else {
        let detail = format!("`{}` must be {}, not {}", field.name, wanted(field), excerpt(raw));
        sink.fault(at, "wrong_type", detail);
        return;
    };
    if values.length != field.length {
        let detail = format!("`{}` has {} values, it takes {}", field.name, values.length, field.length);
        sink.fault(at, "wrong_length", detail);
        return;
    }
    for (i, raw) in values.elements.iter().enumerate() {
        let name = format!("{}[{i}]", field.name);
        read_one(field, &name, raw, || format!("{at}/{i}"), sink);
    }
}

fn read_one(field: &Field, name: &str, raw: &RawValue, at: impl Fn() -> String, sink: &mut Sink<'_>) {
    match field.kind {
        FieldKind::Number => match number(raw) {
            Ok(value) if field.min.is_some_and(|min| value < min) || field.max.is_some_and(|max| value > max) => {
                let detail = format!("`{name}` is {}, accepted is {}", raw.get(), range(field));
                sink.fault(at(), "out_of_range", detail);
            }
            Ok(value) if !to_f32(value).is_finite() => sink.faults.push(not_finite(name, raw, at())),
            Ok(value) => sink.features.push(to_f32(value)),
            Err(NotANumber::NotFinite) => sink.faults.push(not_finite(name, raw, at())),
            Err(NotANumber::WrongType) => {
                let detail = format!("`{name}` must be {}, not {}", wanted_one(field), excerpt(raw));
                sink.fault(at(), "wrong_type", detail);
            }
        },
        FieldKind::Category => {
            let text = string(raw);
            match text.as_deref().and_then(|text| field.values.iter().position(|value| value == text)) {
                Some(index) => sink.features.push(index_to_f32(index)),
                None => {
                    let code = if text.is_some() { "not_a_value" } else { "wrong_type" };
                    let detail = format!("`{name}` must be {}, not {}", wanted_one(field), excerpt(raw));
                    sink.fault(at(), code, detail);
                }
            }
        }
        FieldKind::Text => read_text(field, name, raw, &at(), sink),
    }
}

fn read_text(field: &Field, name: &str, raw: &RawValue, at: &str, sink: &mut Sink<'_>) {
    let Some(text) = string(raw) else {
        let detail = format!("`{name}` must be {}, not {}", wanted_one(field), excerpt(raw));
        return sink.fault(at, "wrong_type", detail);
    };
    if text.is_empty() || text.len() > field.max_text_bytes() {
        let detail = format!("`{name}` has {} bytes of UTF-8, it must be {}", text.len(), wanted_one(field));
        sink.fault(at, "wrong_length", detail);
    } else if let Some(place) = text.bytes().position(|byte| byte == 0) {
        let detail = format!("`{name}` has the character NUL at byte {place}, where the model would see its end");
        sink.fault(at, "not_a_value", detail);
    } else {
        sink.text = Some(text.into_owned());
    }
}

/// A category in the plain vector: its index, as the model sees it.
fn read_index(field: &Field, raw: &RawValue, at: impl Fn() -> String, sink: &mut Sink<'_>) {
    let index = number(raw).ok().and_then(|value| (0..field.values.len()).find(|i| index_to_f64(*i) == value));
    match index {
        Some(index) => sink.features.push(index_to_f32(index)),
        None => {
            let codes: Vec<String> =
                field.values.iter().enumerate().map(|(i, value)| format!("{i} = {value}")).collect();
            let detail = format!("`{}` must be one of {}, not {}", field.name, codes.join(", "), excerpt(raw));
            sink.fault(at(), "not_a_value", detail);
        }
    }
}

fn default_index(field: &Field) -> Option<f32> {
    let default = field.default.as_ref()?;
    field.values.iter().position(|value| value == default).map(index_to_f32)
}

fn not_finite(name: &str, raw: &RawValue, at: String) -> Fault {
    Fault::new(at, "not_finite", format!("`{name}` is {}, which is not a finite 32-bit float", json::excerpt(raw)))
}

fn wanted(field: &Field) -> Cow<'static, str> {
    if field.length > 1 {
        return Cow::Owned(format!("an array of {} numbers, each {}", field.length, range(field)));
    }
    wanted_one(field)
}

fn wanted_one(field: &Field) -> Cow<'static, str> {
    match field.kind {
        FieldKind::Number => Cow::Owned(format!("a number {}", range(field))),
        FieldKind::Category => Cow::Owned(format!("one of {}", field.values.join(", "))),
        FieldKind::Text => Cow::Owned(format!("a string of 1 to {} bytes", field.max_text_bytes())),
    }
}

fn range(field: &Field) -> String {
    let unit = if matches!(field.unit.as_str(), "" | "1") { String::new() } else { format!(" {}", field.unit) };
    match (field.min, field.max) {
        (Some(min), Some(max)) => format!("from {min} to {max}{unit}"),
        (Some(min), None) => format!("from {min}{unit}"),
        (None, Some(max)) => format!("up to {max}{unit}"),
        (None, None) => "that is finite".to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a category has far fewer values than a float has integers")]
const fn index_to_f32(index: usize) -> f32 {
    index as f32
}

#[expect(clippy::cast_precision_loss, reason = "a category has far fewer values than a float has integers")]
const fn index_to_f64(index: usize) -> f64 {
    index as f64
}
