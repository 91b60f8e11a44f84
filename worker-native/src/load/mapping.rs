//! From columns to the fields of a reading.
//!
//! Owns which column fills which field, checked against the task's schema before anything is sent,
//! and the JSON of a reading's `sensor_data`. Values are not judged: a text where a number is
//! wanted is sent as it stands, so that the service refuses it and its words reach the report.

use csv::StringRecord;
use serde_json::value::RawValue;
use shared::schema::{Field, FieldKind, TaskSchema};

use super::args::Pair;
use super::source::Table;

/// How the rows of a group become one reading.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    slots: Vec<Slot>,
    grouped: bool,
}

/// One field of the reading.
#[derive(Debug, Clone)]
struct Slot {
    /// The field's name as a JSON string.
    name: String,
    kind: FieldKind,
    is_array: bool,
    has_default: bool,
    filler: Filler,
}

/// What fills a field.
#[derive(Debug, Clone)]
enum Filler {
    /// Ready JSON.
    Constant(String),
    Columns(Vec<Column>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Column {
    index: usize,
    factor: Option<f64>,
}

/// What the user said about columns and fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes<'a> {
    pub(super) map: &'a [Pair],
    pub(super) constant: &'a [Pair],
    pub(super) scale: &'a [Pair],
    pub(super) grouped: bool,
}

impl Mapping {
    /// Checks the wishes against the file and the schema.
    ///
    /// # Errors
    /// Every fault in words.
    pub(super) fn resolve(wishes: &Wishes<'_>, table: &Table, schema: &TaskSchema) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let map = same_names_unless_given(wishes.map, table, schema);
        let named = map.iter().map(|pair| &pair.right).chain(wishes.constant.iter().map(|pair| &pair.left));
        let unknown = named.filter(|name| !schema.fields.iter().any(|field| field.name == **name));
        faults.extend(unknown.map(|name| {
            format!("field `{name}` is not in task `{}`; its fields: {}", schema.name, schema.field_names())
        }));
        let factors = read_factors(wishes.scale, &map, &mut faults);
        let mut slots = Vec::new();
        for field in &schema.fields {
            let columns = columns_of(field, &map, &factors, table, &mut faults);
            if columns.is_empty() && map.iter().any(|pair| pair.right == field.name) {
                continue; // The column it names is a fault already.
            }
            match filler(field, columns, wishes, table) {
                Ok(Some(filler)) => slots.push(Slot {
                    name: quoted(&field.name),
                    kind: field.kind,
                    is_array: field.length > 1,
                    has_default: field.default.is_some(),
                    filler,
                }),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(Self { slots, grouped: wishes.grouped }) } else { Err(faults) }
    }

    /// Writes the rows as the object of `sensor_data`.
    pub(super) fn write(&self, rows: &[StringRecord], out: &mut String) {
        out.push('{');
        let empty = out.len();
        for slot in &self.slots {
            let before = out.len();
            if before > empty {
                out.push(',');
            }
            out.push_str(&slot.name);
            out.push(':');
            if !self.write_slot(slot, rows, out) {
                out.truncate(before);
            }
        }
        out.push('}');
    }

    /// Says whether there is something to send: an empty cell leaves the field to its default.
    fn write_slot(&self, slot: &Slot, rows: &[StringRecord], out: &mut String) -> bool {
        let columns = match &slot.filler {
            Filler::Constant(json) => {
                out.push_str(json);
                return true;
            }
            Filler::Columns(columns) => columns,
        };
        let first = rows.first().zip(columns.first());
        if !slot.is_array {
            let Some((text, column)) = first.map(|(row, column)| (cell(row, column), column)) else { return false };
            if text.is_empty() && slot.has_default {
                return false;
            }
            write_value(slot.kind, text, column.factor, out);
            return true;
        }
        out.push('[');
        let rows = if self.grouped { rows } else { rows.get(..1).unwrap_or_default() };
        let mut separator = "";
        for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
            out.push_str(separator);
            separator = ",";
            write_value(slot.kind, cell(row, column), column.factor, out);
        }
        out.push(']');
        true
    }
}

/// What fills a field; nothing where its default may.
fn filler(field: &Field, columns: Vec<Column>, wishes: &Wishes<'_>, table: &Table) -> Result<Option<Filler>, String> {
    let name = &field.name;
    let mut constants = wishes.constant.iter().filter(|pair| pair.left == *name);
    match (constants.next(), constants.next()) {
        (Some(_), Some(_)) => Err(format!("field `{name}` has two constants")),
        (Some(_), None) if !columns.is_empty() => Err(format!("field `{name}` has both a column and a constant")),
        (Some(constant), None) => Ok(Some(Filler::Constant(constant_json(field, &constant.right)?))),
        (None, _) if !columns.is_empty() => match shape_fault(field, columns.len(), wishes.grouped) {
            Some(fault) => Err(fault),
            None => Ok(Some(Filler::Columns(columns))),
        },
        (None, _) if field.default.is_some() => Ok(None),
        (None, _) => Err(format!(
            "field `{name}` has no column: use --map COLUMN={name} or --constant {name}=VALUE; the file has: {}",
            table.columns.join(", ")
        )),
    }
}

fn cell<'r>(row: &'r StringRecord, column: &Column) -> &'r str {
    row.get(column.index).unwrap_or_default().trim()
}

fn same_names_unless_given(map: &[Pair], table: &Table, schema: &TaskSchema) -> Vec<Pair> {
    if !map.is_empty() {
        return map.to_vec();
    }
    let fields = schema.fields.iter().map(|field| &field.name).filter(|name| table.columns.contains(name));
    fields.map(|name| Pair { left: name.clone(), right: name.clone() }).collect()
}

fn read_factors(scale: &[Pair], map: &[Pair], faults: &mut Vec<String>) -> Vec<(String, f64)> {
    let mut factors = Vec::new();
    for Pair { left: column, right } in scale {
        if !map.iter().any(|pair| pair.left == *column) {
            faults.push(format!("--scale {column}: this column fills no field"));
        }
        match right.parse::<f64>() {
            Ok(factor) if factor.is_finite() => factors.push((column.clone(), factor)),
            _ => faults.push(format!("--scale {column}={right}: the factor must be a number")),
        }
    }
    factors
}

fn columns_of(
    field: &Field,
    map: &[Pair],
    factors: &[(String, f64)],
    table: &Table,
    faults: &mut Vec<String>,
) -> Vec<Column> {
    let mut columns = Vec::new();
    for pair in map.iter().filter(|pair| pair.right == field.name) {
        match table.column(&pair.left) {
            Ok(index) => {
                let factor = factors.iter().find(|(column, _)| *column == pair.left).map(|(_, factor)| *factor);
                columns.push(Column { index, factor });
            }
            Err(fault) => faults.push(fault),
        }
    }
    columns
}

fn shape_fault(field: &Field, columns: usize, grouped: bool) -> Option<String> {
    let Field { name, length, .. } = field;
    match (*length > 1, grouped) {
        (false, _) if columns > 1 => {
            Some(format!("field `{name}` takes one value, {columns} columns are mapped to it"))
        }
        (true, false) if columns != *length => Some(format!(
            "field `{name}` takes {length} numbers, {columns} column{} mapped to it: group rows with --group-by, or map {length} columns",
            if columns == 1 { " is" } else { "s are" }
        )),
        (true, true) if columns > 1 => Some(format!(
            "field `{name}` is filled by the rows of a group, so one column can be mapped to it, not {columns}"
        )),
        _ => None,
    }
}

fn constant_json(field: &Field, value: &str) -> Result<String, String> {
    let Field { name, .. } = field;
    match field.kind {
        FieldKind::Category if field.values.iter().any(|known| known == value) => Ok(quoted(value)),
        FieldKind::Text => Ok(quoted(value)),
        FieldKind::Category => {
            Err(format!("--constant {name}={value}: accepted is one of {}", field.values.join(", ")))
        }
        FieldKind::Number => {
            let mut json = String::new();
            write_value(FieldKind::Number, value, None, &mut json);
            if json.starts_with('"') {
                return Err(format!("--constant {name}={value}: the field takes a number"));
            }
            if field.length > 1 {
                json = format!("[{}]", vec![json; field.length].join(","));
            }
            Ok(json)
        }
    }
}

/// Writes a cell as JSON: a number where one is wanted and there is one, else its text; `null` where it is empty.
fn write_value(kind: FieldKind, text: &str, factor: Option<f64>, out: &mut String) {
    let number = match kind {
        FieldKind::Category | FieldKind::Text => None,
        FieldKind::Number if text.is_empty() => {
            out.push_str("null");
            return;
        }
        // Kept as written: the reading is the file's, digit for digit.
        FieldKind::Number if factor.is_none() && is_json_number(text) => Some(text.to_owned()),
        FieldKind::Number => text.parse::<f64>().ok().and_then(|number| {
            serde_json::Number::from_f64(number * factor.unwrap_or(1.0)).map(|number| number.to_string())
        }),
    };
    out.push_str(&number.unwrap_or_else(|| quoted(text)));
}

fn is_json_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
