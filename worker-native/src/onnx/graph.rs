//! Reads meaning out of ONNX messages: attributes, constants, who makes a value.
//!
//! Owns careful reading only: every size and type is checked, nothing is changed, nothing is run. A file is as
//! hostile as its sender, so a fault is an error with the names in it, never a panic.

use std::collections::HashMap;

use prost::Message as _;

use super::proto::attribute_proto::attribute_type;
use super::proto::tensor_proto::{data_location, data_type};
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// A file that cannot be read as the ONNX format has it; the text names node, attribute or tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GraphError(pub String);

type Read<T> = Result<T, GraphError>;

fn fault<T>(text: String) -> Read<T> {
    Err(GraphError(text))
}

/// Decodes a file of at most `max_bytes`.
///
/// # Errors
/// [`GraphError`] for a larger file, for bytes that are no ONNX model, and for a model without a graph.
pub fn decode(bytes: &[u8], max_bytes: usize) -> Read<ModelProto> {
    if bytes.len() > max_bytes {
        return fault(format!("the file has {} bytes, at most {max_bytes} are read", bytes.len()));
    }
    let model = ModelProto::decode(bytes).map_err(|error| GraphError(format!("it is no ONNX model: {error}")))?;
    if model.graph.is_none() { fault("the model has no graph".to_owned()) } else { Ok(model) }
}

/// The version of a domain's operators that the model asks for; the standard domain is `""` (or `ai.onnx`).
#[must_use]
pub fn opset(model: &ModelProto, domain: &str) -> Option<i64> {
    let plain = |name: &str| if name == "ai.onnx" { String::new() } else { name.to_owned() };
    let versions = model.opset_import.iter().filter(|set| plain(set.domain()) == plain(domain));
    versions.map(|set| set.version()).max()
}

/// The nodes of a graph, those of its subgraphs included.
#[must_use]
pub fn node_count(graph: &GraphProto) -> usize {
    let inner = graph.node.iter().flat_map(|node| &node.attribute).flat_map(subgraphs);
    graph.node.len() + inner.map(node_count).sum::<usize>()
}

/// The graphs that an attribute holds.
pub fn subgraphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.as_deref().into_iter().chain(&attribute.graphs)
}

/// One graph with an index of its names; borrows the messages.
#[derive(Debug)]
pub struct Graph<'a> {
    proto: &'a GraphProto,
    initialisers: HashMap<&'a str, &'a TensorProto>,
    producers: HashMap<&'a str, usize>,
}

impl<'a> Graph<'a> {
    /// Indexes a graph.
    ///
    /// # Errors
    /// [`GraphError`] when two nodes or initialisers make the same name.
    pub fn new(proto: &'a GraphProto) -> Read<Self> {
        let mut graph = Self { proto, initialisers: HashMap::new(), producers: HashMap::new() };
        for tensor in &proto.initializer {
            if graph.initialisers.insert(tensor.name(), tensor).is_some() {
                return fault(format!("two initialisers are named {:?}", tensor.name()));
            }
        }
        for (number, node) in proto.node.iter().enumerate() {
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if graph.producers.insert(name, number).is_some() || graph.initialisers.contains_key(name.as_str()) {
                    return fault(format!("{name:?} is made twice"));
                }
            }
        }
        Ok(graph)
    }

    /// The message behind this.
    #[must_use]
    pub const fn proto(&self) -> &'a GraphProto {
        self.proto
    }

    /// The node that makes a value.
    #[must_use]
    pub fn producer(&self, value: &str) -> Option<&'a NodeProto> {
        self.producers.get(value).and_then(|number| self.proto.node.get(*number))
    }

    /// The tensor of an initialiser, or of a `Constant` node with a `value`.
    #[must_use]
    pub fn constant(&self, value: &str) -> Option<&'a TensorProto> {
        self.initialisers.get(value).copied().or_else(|| {
            let node = self.producer(value).filter(|node| node.op_type() == "Constant" && is_standard(node))?;
            attribute(node, "value").and_then(|value| value.t.as_deref())
        })
    }

    /// The graph's inputs that are not initialisers with a default.
    pub fn inputs(&self) -> impl Iterator<Item = &'a ValueInfoProto> {
        self.proto.input.iter().filter(|input| !self.initialisers.contains_key(input.name()))
    }

    /// An output of the graph.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&'a ValueInfoProto> {
        self.proto.output.iter().find(|output| output.name() == name)
    }
}

/// Is the node's operator one of the standard domain?
#[must_use]
pub fn is_standard(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

/// A node in words, for messages.
#[must_use]
pub fn describe(node: &NodeProto) -> String {
    let made = node.output.first().map_or("", String::as_str);
    format!("{} (making {made:?})", node.op_type())
}

/// An attribute by its name, whatever its type.
#[must_use]
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

fn typed<'a>(node: &'a NodeProto, name: &str, wanted: i32) -> Read<Option<&'a AttributeProto>> {
    let Some(found) = attribute(node, name) else { return Ok(None) };
    if !found.ref_attr_name().is_empty() {
        return fault(format!("{}: {name} refers to a function's attribute", describe(node)));
    }
    // Files before IR version 2 may leave the type out.
    if found.r#type() != wanted && found.r#type() != attribute_type::UNDEFINED {
        return fault(format!("{}: {name} is of type {}, wanted is {wanted}", describe(node), found.r#type()));
    }
    Ok(Some(found))
}

/// An integer attribute.
///
/// # Errors
/// [`GraphError`] when it has another type; so for all readers of attributes below.
pub fn int(node: &NodeProto, name: &str) -> Read<Option<i64>> {
    Ok(typed(node, name, attribute_type::INT)?.map(AttributeProto::i))
}

/// A float attribute.
///
/// # Errors
/// As [`int`].
pub fn float(node: &NodeProto, name: &str) -> Read<Option<f32>> {
    Ok(typed(node, name, attribute_type::FLOAT)?.map(AttributeProto::f))
}

/// A text attribute.
///
/// # Errors
/// As [`int`], and for bytes that are not UTF-8.
pub fn text<'a>(node: &'a NodeProto, name: &str) -> Read<Option<&'a str>> {
    let Some(found) = typed(node, name, attribute_type::STRING)? else { return Ok(None) };
    std::str::from_utf8(found.s()).map(Some).or_else(|_| fault(format!("{}: {name} is not UTF-8", describe(node))))
}

/// A list of integers; empty where the attribute is missing.
///
/// # Errors
/// As [`int`].
pub fn ints<'a>(node: &'a NodeProto, name: &str) -> Read<&'a [i64]> {
    Ok(typed(node, name, attribute_type::INTS)?.map_or(&[], |found| &found.ints))
}

/// A list of floats; empty where the attribute is missing.
///
/// # Errors
/// As [`int`].
pub fn floats<'a>(node: &'a NodeProto, name: &str) -> Read<&'a [f32]> {
    Ok(typed(node, name, attribute_type::FLOATS)?.map_or(&[], |found| &found.floats))
}

/// A list of byte strings; empty where the attribute is missing.
///
/// # Errors
/// As [`int`].
pub fn strings<'a>(node: &'a NodeProto, name: &str) -> Read<&'a [Vec<u8>]> {
    Ok(typed(node, name, attribute_type::STRINGS)?.map_or(&[], |found| &found.strings))
}

/// A tensor attribute.
///
/// # Errors
/// As [`int`].
pub fn tensor<'a>(node: &'a NodeProto, name: &str) -> Read<Option<&'a TensorProto>> {
    Ok(typed(node, name, attribute_type::TENSOR)?.and_then(|found| found.t.as_deref()))
}

/// A tensor's shape.
///
/// # Errors
/// [`GraphError`] for a negative axis.
pub fn dims(tensor: &TensorProto) -> Read<Vec<usize>> {
    let axis = |dim: &i64| usize::try_from(*dim);
    tensor
        .dims
        .iter()
        .map(axis)
        .collect::<Result<_, _>>()
        .or_else(|_| fault(format!("tensor {:?} has the shape {:?}", tensor.name(), tensor.dims)))
}

/// How many values the shape promises; checks that they lie in this file.
fn promised(tensor: &TensorProto, wanted: &[i32]) -> Read<usize> {
    if !wanted.contains(&tensor.data_type()) {
        return fault(format!("tensor {:?} is of type {}, wanted is {wanted:?}", tensor.name(), tensor.data_type()));
    }
    if tensor.data_location() == data_location::EXTERNAL || tensor.segment.is_some() {
        return fault(format!("tensor {:?} lies in another file", tensor.name()));
    }
    let count = dims(tensor)?.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim));
    count.map_or_else(|| fault(format!("tensor {:?} is too large", tensor.name())), Ok)
}

/// Takes `count` values either from the typed list or from `raw_data`, where each has `N` bytes.
fn values<T: Copy, const N: usize>(
    tensor: &TensorProto,
    count: usize,
    typed: &[T],
    read: fn([u8; N]) -> T,
) -> Read<Vec<T>> {
    let found = match tensor.raw_data.as_deref() {
        Some(raw) if !raw.is_empty() => {
            let (chunks, rest) = raw.as_chunks::<N>();
            if rest.is_empty() { chunks.iter().map(|chunk| read(*chunk)).collect() } else { Vec::new() }
        }
        _ => typed.to_vec(),
    };
    if found.len() == count {
        return Ok(found);
    }
    fault(format!("tensor {:?} of shape {:?} has {} values", tensor.name(), tensor.dims, found.len()))
}

/// The values of a float32 tensor, row by row.
///
/// # Errors
/// [`GraphError`] for another type, for values in another file, and for a count that is not the shape's.
pub fn values_f32(tensor: &TensorProto) -> Read<Vec<f32>> {
    let count = promised(tensor, &[data_type::FLOAT])?;
    values(tensor, count, &tensor.float_data, f32::from_le_bytes)
}

/// The values of an int64 or int32 tensor, row by row.
///
/// # Errors
/// As [`values_f32`].
pub fn values_i64(tensor: &TensorProto) -> Read<Vec<i64>> {
    let count = promised(tensor, &[data_type::INT64, data_type::INT32])?;
    if tensor.data_type() == data_type::INT64 {
        return values(tensor, count, &tensor.int64_data, i64::from_le_bytes);
    }
    Ok(values(tensor, count, &tensor.int32_data, i32::from_le_bytes)?.into_iter().map(i64::from).collect())
}

/// The values of an uint8 tensor.
///
/// # Errors
/// As [`values_f32`].
pub fn values_u8(tensor: &TensorProto) -> Read<Vec<u8>> {
    let count = promised(tensor, &[data_type::UINT8])?;
    let wide = values(tensor, count, &tensor.int32_data, |[byte]: [u8; 1]| i32::from(byte))?;
    wide.into_iter()
        .map(u8::try_from)
        .collect::<Result<_, _>>()
        .or_else(|_| fault(format!("tensor {:?} has a value beyond 0..=255", tensor.name())))
}

#[cfg(test)]
mod tests;
