//! Values of a reading against the fields of its task.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, NotANumber, Object, array, excerpt, number, pointer, string};
use super::{Fault, to_f32};
use crate::schema::{Field, FieldKind, TaskSchema};

/// Reads the named form, in the order of the schema's fields.
pub(super) fn read_named(schema: &TaskSchema, raw: &RawValue, features: &mut Vec<f32>, faults: &mut Vec<Fault>) {
    let Ok(object) = serde_json::from_str::<Object<'_>>(raw.get()) else {
        let detail = format!("`sensor_data` must be an object of fields, not {}", excerpt(raw));
        faults.push(Fault::new("#/sensor_data", "wrong_type", detail));
        return;
    };
    for name in &object.duplicates {
        faults.push(Fault::new(pointer(&["sensor_data", name]), "duplicate", format!("`{name}` is given twice")));
    }
    for (name, _) in &object.entries {
        if !schema.fields.iter().any(|field| field.name == *name) {
            let detail =
                format!("`{name}` is not a field of task `{}`; its fields: {}", schema.name, schema.field_names());
            faults.push(Fault::new(pointer(&["sensor_data", name]), "unexpected", detail));
        }
    }
    for field in &schema.fields {
        let at = || pointer(&["sensor_data", &field.name]);
        match object.get(&field.name) {
            Some(raw) if field.length > 1 => read_array(field, raw, &at(), features, faults),
            Some(raw) => read_one(field, &field.name, raw, at, features, faults),
            None => match default_index(field) {
                Some(index) => features.push(index),
                None => {
                    let detail = format!("`{}` is missing: {}", field.name, wanted(field));
                    faults.push(Fault::new(at(), "missing", detail));
                }
            },
        }
    }
}

/// Reads the plain vector, whose order is that of the schema's fields.
pub(super) fn read_features(schema: &TaskSchema, raw: &RawValue, features: &mut Vec<f32>, faults: &mut Vec<Fault>) {
    let width = schema.width();
    let Some(values) = array(raw, width) else {
        let detail = format!("`features` must be an array of {width} numbers, not {}", excerpt(raw));
        faults.push(Fault::new("#/features", "wrong_type", detail));
        return;
    };
    if values.length != width {
        let detail = format!(
            "`features` has {} values, task `{}` takes {width}: {}",
            values.length,
            schema.name,
            schema.field_names()
        );
        faults.push(Fault::new("#/features", "wrong_length", detail));
        return;
    }
    let fields = schema.fields.iter().flat_map(|field| std::iter::repeat_n(field, field.length));
    for (i, (field, raw)) in fields.zip(values.elements).enumerate() {
        let at = || pointer(&["features", &i.to_string()]);
        match field.kind {
            FieldKind::Number => read_one(field, &field.name, raw, at, features, faults),
            FieldKind::Category => read_index(field, raw, at, features, faults),
        }
    }
}

fn read_array(field: &Field, raw: &RawValue, at: &str, features: &mut Vec<f32>, faults: &mut Vec<Fault>) {
    let Some(values) = array(raw, field.length) else {
        let detail = format!("`{}` must be {}, not {}", field.name, wanted(field), excerpt(raw));
        faults.push(Fault::new(at, "wrong_type", detail));
        return;
    };
    if values.length != field.length {
        let detail = format!("`{}` has {} values, it takes {}", field.name, values.length, field.length);
        faults.push(Fault::new(at, "wrong_length", detail));
        return;
    }
    for (i, raw) in values.elements.iter().enumerate() {
        let name = format!("{}[{i}]", field.name);
        read_one(field, &name, raw, || format!("{at}/{i}"), features, faults);
    }
}

fn read_one(
    field: &Field,
    name: &str,
    raw: &RawValue,
    at: impl Fn() -> String,
    features: &mut Vec<f32>,
    faults: &mut Vec<Fault>,
) {
    match field.kind {
        FieldKind::Number => match number(raw) {
            Ok(value) if field.min.is_some_and(|min| value < min) || field.max.is_some_and(|max| value > max) => {
                let detail = format!("`{name}` is {}, accepted is {}", raw.get(), range(field));
                faults.push(Fault::new(at(), "out_of_range", detail));
            }
            Ok(value) if !to_f32(value).is_finite() => faults.push(not_finite(name, raw, at())),
            Ok(value) => features.push(to_f32(value)),
            Err(NotANumber::NotFinite) => faults.push(not_finite(name, raw, at())),
            Err(NotANumber::WrongType) => {
                let detail = format!("`{name}` must be {}, not {}", wanted_one(field), excerpt(raw));
                faults.push(Fault::new(at(), "wrong_type", detail));
            }
        },
        FieldKind::Category => {
            let text = string(raw);
            match text.as_deref().and_then(|text| field.values.iter().position(|value| value == text)) {
                Some(index) => features.push(index_to_f32(index)),
                None => {
                    let code = if text.is_some() { "not_a_value" } else { "wrong_type" };
                    let detail = format!("`{name}` must be {}, not {}", wanted_one(field), excerpt(raw));
                    faults.push(Fault::new(at(), code, detail));
                }
            }
        }
    }
}

/// A category in the plain vector: its index, as the model sees it.
fn read_index(
    field: &Field,
    raw: &RawValue,
    at: impl Fn() -> String,
    features: &mut Vec<f32>,
    faults: &mut Vec<Fault>,
) {
    let index = number(raw).ok().and_then(|value| (0..field.values.len()).find(|i| index_to_f64(*i) == value));
    match index {
        Some(index) => features.push(index_to_f32(index)),
        None => {
            let codes: Vec<String> =
                field.values.iter().enumerate().map(|(i, value)| format!("{i} = {value}")).collect();
            let detail = format!("`{}` must be one of {}, not {}", field.name, codes.join(", "), excerpt(raw));
            faults.push(Fault::new(at(), "not_a_value", detail));
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
