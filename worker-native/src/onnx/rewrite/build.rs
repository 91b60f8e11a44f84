//! Builds nodes, attributes and constants. Owns the spelling of messages, nothing else.

use super::super::proto::attribute_proto::attribute_type;
use super::super::proto::tensor_proto::data_type;
use super::super::proto::{AttributeProto, NodeProto, TensorProto};

/// A node without attributes.
pub(super) fn node(kind: &str, domain: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(kind.to_owned()),
        domain: (!domain.is_empty()).then(|| domain.to_owned()),
        input: input.iter().map(|name| (*name).to_owned()).collect(),
        output: output.iter().map(|name| (*name).to_owned()).collect(),
        name: output.first().map(|name| format!("{kind}_{name}")),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind), ..AttributeProto::default() }
}

/// An integer.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, attribute_type::INT) }
}

/// A text.
pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, attribute_type::STRING) }
}

/// Integers.
pub(super) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, attribute_type::INTS) }
}

/// Floats.
pub(super) fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { floats, ..attribute(name, attribute_type::FLOATS) }
}

/// Byte strings.
pub(super) fn strings(name: &str, strings: Vec<Vec<u8>>) -> AttributeProto {
    AttributeProto { strings, ..attribute(name, attribute_type::STRINGS) }
}

/// A one-axis constant of whole numbers; whoever adds it names it.
pub(super) fn whole_numbers(values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![i64::try_from(values.len()).unwrap_or(i64::MAX)],
        data_type: Some(data_type::INT64),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

/// A constant of float32, or of float64 where `double`; whoever adds it names it.
pub(super) fn reals(shape: &[usize], values: &[f64], double: bool) -> TensorProto {
    #[expect(clippy::cast_possible_truncation, reason = "the model computes in float32")]
    let single = |value: &f64| (*value as f32).to_le_bytes();
    TensorProto {
        dims: shape.iter().map(|axis| i64::try_from(*axis).unwrap_or(i64::MAX)).collect(),
        data_type: Some(if double { data_type::DOUBLE } else { data_type::FLOAT }),
        raw_data: Some(if double {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        } else {
            values.iter().flat_map(single).collect()
        }),
        ..TensorProto::default()
    }
}
