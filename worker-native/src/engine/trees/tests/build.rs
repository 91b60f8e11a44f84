//! Small ONNX messages for the tests.

use prost::Message as _;

use crate::onnx::proto::attribute_proto::attribute_type;
use crate::onnx::proto::tensor_proto::data_type;
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::proto::*;

pub(super) fn node(
    domain: &str,
    op: &str,
    input: &[&str],
    output: &[&str],
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        domain: Some(domain.to_owned()),
        op_type: Some(op.to_owned()),
        input: names(input),
        output: names(output),
        attribute,
        ..NodeProto::default()
    }
}

pub(super) fn attribute(name: &str, kind: i32, fill: impl FnOnce(&mut AttributeProto)) -> AttributeProto {
    let mut made = AttributeProto { name: Some(name.to_owned()), r#type: Some(kind), ..AttributeProto::default() };
    fill(&mut made);
    made
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    attribute(name, attribute_type::INT, |it| it.i = Some(value))
}

pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    attribute(name, attribute_type::STRING, |it| it.s = Some(value.as_bytes().to_vec()))
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    attribute(name, attribute_type::INTS, |it| it.ints = values.to_vec())
}

pub(super) fn floats(name: &str, values: &[f32]) -> AttributeProto {
    attribute(name, attribute_type::FLOATS, |it| it.floats = values.to_vec())
}

pub(super) fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    attribute(name, attribute_type::TENSOR, |it| it.t = Some(Box::new(value)))
}

pub(super) fn constant(name: &str, values: &[f32], dims: &[usize]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.iter().map(|dim| i64::try_from(*dim).unwrap()).collect(),
        data_type: Some(data_type::FLOAT),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub(super) fn whole(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![i64::try_from(values.len()).unwrap()],
        data_type: Some(data_type::INT64),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A file of one input `X` of `[rows, width]` and one output.
pub(super) fn model(
    width: usize,
    node: Vec<NodeProto>,
    constants: &[TensorProto],
    output: &str,
    trees_version: i64,
) -> Vec<u8> {
    let value = |name: &str, dims: Option<usize>| {
        let dim = |value| Dimension { value, ..Dimension::default() };
        let columns = dims.map(|width| dimension::Value::DimValue(i64::try_from(width).unwrap()));
        let shape = TensorShapeProto { dim: vec![dim(Some(dimension::Value::DimParam("N".to_owned()))), dim(columns)] };
        let shape = (name == "X").then_some(shape);
        let tensor = type_proto::Tensor { elem_type: Some(data_type::FLOAT), shape };
        let kind = TypeProto { value: Some(type_proto::Value::Tensor(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: Some(name.to_owned()), r#type: Some(kind), ..ValueInfoProto::default() }
    };
    let graph = GraphProto {
        name: Some("trees".to_owned()),
        node,
        initializer: constants.to_vec(),
        input: vec![value("X", Some(width))],
        output: vec![value(output, None)],
        ..GraphProto::default()
    };
    let set = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
    let opset_import = vec![set("", 17), set("ai.onnx.ml", trees_version)];
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..ModelProto::default() }.encode_to_vec()
}
