//! Columns of numbers and the few element-by-element operators that exporters put behind a tree.
//!
//! Owns their arithmetic, in the type the graph computes in: a rewritten model then gives the same bits. A column of
//! one value goes with a column of any length. What is not exactly known is `None`.

use std::collections::HashMap;

use super::super::graph::{float, floats, int, ints, values_f32, values_i64};
use super::super::proto::tensor_proto::{data_location, data_type};
use super::super::proto::{NodeProto, TensorProto};

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column {
    /// float32.
    F32(Vec<f32>),
    /// float64.
    F64(Vec<f64>),
    /// int64.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

impl Column {
    /// The values of a tensor, row by row.
    pub(super) fn read(tensor: &TensorProto) -> Option<Self> {
        match tensor.data_type() {
            data_type::FLOAT => values_f32(tensor).ok().map(Self::F32),
            data_type::INT64 => values_i64(tensor).ok().map(Self::I64),
            data_type::DOUBLE if tensor.data_location() == data_location::DEFAULT => {
                let raw = tensor.raw_data.as_deref().unwrap_or_default();
                let (chunks, rest) = raw.as_chunks::<8>();
                let typed = raw.is_empty();
                let values = || chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect();
                rest.is_empty().then(|| if typed { tensor.double_data.clone() } else { values() }).map(Self::F64)
            }
            _ => None,
        }
    }

    /// How many values there are.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// As the weights of a float32 ensemble: every value a number that float32 has.
    pub(super) fn into_weights(self) -> Option<Vec<f32>> {
        let weights = match self {
            Self::F32(values) => values,
            #[expect(clippy::cast_possible_truncation, reason = "ensembles add up in float32 whatever their input is")]
            Self::F64(values) => values.into_iter().map(|value| value as f32).collect(),
            Self::I64(_) | Self::Bool(_) => return None,
        };
        weights.iter().all(|weight| weight.is_finite()).then_some(weights)
    }

    /// `Cast` to one of the four types.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "this is what Cast does")]
    pub(super) fn cast(&self, to: i64) -> Option<Self> {
        let to = i32::try_from(to).ok()?;
        Some(match (self, to) {
            (Self::F32(_), data_type::FLOAT)
            | (Self::F64(_), data_type::DOUBLE)
            | (Self::I64(_), data_type::INT64)
            | (Self::Bool(_), data_type::BOOL) => self.clone(),
            (Self::F32(values), data_type::INT64) => Self::I64(values.iter().map(|value| *value as i64).collect()),
            (Self::F32(values), data_type::DOUBLE) => Self::F64(values.iter().copied().map(f64::from).collect()),
            (Self::F64(values), data_type::FLOAT) => Self::F32(values.iter().map(|value| *value as f32).collect()),
            (Self::F64(values), data_type::INT64) => Self::I64(values.iter().map(|value| *value as i64).collect()),
            (Self::I64(values), data_type::FLOAT) => Self::F32(values.iter().map(|value| *value as f32).collect()),
            (Self::I64(values), data_type::DOUBLE) => Self::F64(values.iter().map(|value| *value as f64).collect()),
            (Self::Bool(values), data_type::FLOAT) => Self::F32(values.iter().map(|yes| f32::from(*yes)).collect()),
            (Self::Bool(values), data_type::DOUBLE) => Self::F64(values.iter().map(|yes| f64::from(*yes)).collect()),
            (Self::Bool(values), data_type::INT64) => Self::I64(values.iter().map(|yes| i64::from(*yes)).collect()),
            _ => return None,
        })
    }

    /// An operator of one input.
    pub(super) fn unary(&self, kind: &str) -> Option<Self> {
        Some(match (kind, self) {
            ("Identity", _) => self.clone(),
            ("Neg", Self::F32(values)) => Self::F32(values.iter().map(|value| -value).collect()),
            ("Neg", Self::F64(values)) => Self::F64(values.iter().map(|value| -value).collect()),
            ("Log", Self::F32(values)) => Self::F32(values.iter().map(|value| value.ln()).collect()),
            ("Log", Self::F64(values)) => Self::F64(values.iter().map(|value| value.ln()).collect()),
            _ => return None,
        })
    }

    /// An operator of two inputs of one type.
    pub(super) fn binary(&self, kind: &str, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::F32(left), Self::F32(right)) => floating(
                kind,
                (left, right),
                [|a, b| a + b, |a, b| a - b, |a, b| a * b, |a, b| a / b, f32::max, f32::min],
                Self::F32,
            ),
            (Self::F64(left), Self::F64(right)) => floating(
                kind,
                (left, right),
                [|a, b| a + b, |a, b| a - b, |a, b| a * b, |a, b| a / b, f64::max, f64::min],
                Self::F64,
            ),
            (Self::I64(left), Self::I64(right)) => compared(kind, left, right),
            _ => None,
        }
    }
}

/// A `LabelEncoder`: each value looked up among the keys.
pub(super) fn encode(node: &NodeProto, column: &Column) -> Option<Column> {
    let keys: Vec<u64> = match column {
        Column::I64(_) => ints(node, "keys_int64s").ok()?.iter().map(|key| key.cast_unsigned()).collect(),
        Column::F32(_) => floats(node, "keys_floats").ok()?.iter().map(|key| bits(*key)).collect(),
        Column::F64(_) | Column::Bool(_) => return None,
    };
    let sought: Vec<u64> = match column {
        Column::I64(values) => values.iter().map(|value| value.cast_unsigned()).collect(),
        Column::F32(values) => values.iter().map(|value| bits(*value)).collect(),
        Column::F64(_) | Column::Bool(_) => return None,
    };
    let to_floats = floats(node, "values_floats").ok()?;
    if to_floats.is_empty() {
        let default = int(node, "default_int64").ok()?.unwrap_or(-1);
        return looked_up(&keys, &sought, ints(node, "values_int64s").ok()?, default).map(Column::I64);
    }
    let default = float(node, "default_float").ok()?.unwrap_or(-0.0);
    looked_up(&keys, &sought, to_floats, default).map(Column::F32)
}

/// A float's bits, the two zeros being one key.
fn bits(value: f32) -> u64 {
    u64::from((value + 0.0).to_bits())
}

fn looked_up<T: Copy>(keys: &[u64], sought: &[u64], values: &[T], default: T) -> Option<Vec<T>> {
    if keys.is_empty() || keys.len() != values.len() {
        return None;
    }
    let table: HashMap<u64, T> = keys.iter().copied().zip(values.iter().copied()).collect();
    Some(sought.iter().map(|key| table.get(key).copied().unwrap_or(default)).collect())
}

/// Pairs two columns; one value goes with all of the other side.
fn paired<T: Copy, R>(left: &[T], right: &[T], each: impl Fn(T, T) -> R) -> Option<Vec<R>> {
    Some(match (left, right) {
        ([value], _) => right.iter().map(|other| each(*value, *other)).collect(),
        (_, [value]) => left.iter().map(|other| each(*other, *value)).collect(),
        _ if left.len() == right.len() => left.iter().zip(right).map(|(a, b)| each(*a, *b)).collect(),
        _ => return None,
    })
}

fn compared<T: Copy + PartialOrd>(kind: &str, left: &[T], right: &[T]) -> Option<Column> {
    let compare: fn(&T, &T) -> bool = match kind {
        "Equal" => T::eq,
        "Greater" => T::gt,
        "Less" => T::lt,
        _ => return None,
    };
    paired(left, right, |a, b| compare(&a, &b)).map(Column::Bool)
}

fn floating<T: Copy + PartialOrd>(
    kind: &str,
    (left, right): (&[T], &[T]),
    [add, sub, mul, div, max, min]: [fn(T, T) -> T; 6],
    wrap: fn(Vec<T>) -> Column,
) -> Option<Column> {
    let each = match kind {
        "Add" => add,
        "Sub" => sub,
        "Mul" => mul,
        "Div" => div,
        "Max" => max,
        "Min" => min,
        _ => return compared(kind, left, right),
    };
    paired(left, right, each).map(wrap)
}
