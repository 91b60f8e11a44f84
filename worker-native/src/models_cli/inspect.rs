//! `infer-router models inspect`: what is in a model file. Owns the picture it draws; the advice is `onnx::rewrite`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::{print, read, table};
use crate::onnx::graph::{ints, node_count, subgraphs};
use crate::onnx::proto::tensor_shape_proto::dimension::Value as Axis;
use crate::onnx::proto::type_proto::Value as Kind;
use crate::onnx::proto::{GraphProto, ModelProto, TypeProto, ValueInfoProto};
use crate::onnx::rewrite;

/// Arguments of `models inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// The model.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Picture {
    file: String,
    bytes: usize,
    producer: String,
    ir_version: i64,
    opsets: BTreeMap<String, i64>,
    metadata: BTreeMap<String, String>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    nodes: usize,
    operators: BTreeMap<String, usize>,
    ensembles: Vec<Ensemble>,
    constants: usize,
    advice: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Value {
    name: String,
    r#type: String,
}

/// Tree ensembles that look alike, together: a stock forest has one for each tree.
#[derive(Debug, Serialize, PartialEq, Eq, Default)]
struct Ensemble {
    operator: String,
    count: usize,
    trees: usize,
    tree_nodes: usize,
}

/// Draws the picture.
///
/// # Errors
/// A file that cannot be read or is no ONNX model.
pub(super) fn run(args: &InspectArgs) -> Result<()> {
    let (bytes, model) = read(&args.file)?;
    let picture = picture(&args.file.display().to_string(), bytes.len(), &model);
    if args.json { print(&serde_json::to_string_pretty(&picture)?) } else { print(&words(&picture)) }
}

fn picture(file: &str, bytes: usize, model: &ModelProto) -> Picture {
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let mut operators = BTreeMap::new();
    let mut ensembles: BTreeMap<String, Ensemble> = BTreeMap::new();
    count(graph, &mut operators, &mut ensembles);
    let domain = |name: &str| if name.is_empty() { "ai.onnx".to_owned() } else { name.to_owned() };
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    Picture {
        file: file.to_owned(),
        bytes,
        producer: format!("{} {}", model.producer_name(), model.producer_version()).trim().to_owned(),
        ir_version: model.ir_version(),
        opsets: model.opset_import.iter().map(|set| (domain(set.domain()), set.version())).collect(),
        metadata: model.metadata_props.iter().map(|prop| (prop.key().to_owned(), prop.value().to_owned())).collect(),
        inputs: graph.input.iter().filter(|input| !constants.contains(input.name())).map(value).collect(),
        outputs: graph.output.iter().map(value).collect(),
        nodes: node_count(graph),
        operators,
        ensembles: ensembles.into_values().collect(),
        constants: constants.len(),
        advice: rewrite::advice(model),
    }
}

fn count(graph: &GraphProto, operators: &mut BTreeMap<String, usize>, ensembles: &mut BTreeMap<String, Ensemble>) {
    for node in &graph.node {
        let name = match node.domain() {
            "" | "ai.onnx" => node.op_type().to_owned(),
            domain => format!("{domain}.{}", node.op_type()),
        };
        *operators.entry(name).or_default() += 1;
        if node.op_type().starts_with("TreeEnsemble") {
            let trees: BTreeSet<_> = ints(node, "nodes_treeids").unwrap_or_default().iter().collect();
            // Version 5 lists each tree's root, and has one entry for each inner node.
            let roots = ints(node, "tree_roots").unwrap_or_default().len();
            let inner = ints(node, "nodes_featureids").unwrap_or_default().len();
            let leaves = ints(node, "leaf_targetids").unwrap_or_default().len();
            let entry = ensembles.entry(node.op_type().to_owned()).or_default();
            node.op_type().clone_into(&mut entry.operator);
            entry.count += 1;
            entry.trees += trees.len().max(roots);
            entry.tree_nodes += inner + leaves;
        }
        for body in node.attribute.iter().flat_map(subgraphs) {
            count(body, operators, ensembles);
        }
    }
}

fn value(info: &ValueInfoProto) -> Value {
    let r#type = info.r#type.as_ref().map_or_else(|| "of no declared type".to_owned(), describe);
    Value { name: info.name().to_owned(), r#type }
}

/// A type in words: `float[?, 7]`, `seq(map(int64, float))`.
fn describe(kind: &TypeProto) -> String {
    let inner = |kind: Option<&TypeProto>| kind.map_or_else(|| "?".to_owned(), describe);
    match &kind.value {
        Some(Kind::Tensor(tensor)) => {
            let axis = |dim: &crate::onnx::proto::tensor_shape_proto::Dimension| match &dim.value {
                Some(Axis::DimValue(size)) => size.to_string(),
                Some(Axis::DimParam(name)) if !name.is_empty() => name.clone(),
                Some(Axis::DimParam(_)) | None => "?".to_owned(),
            };
            let shape = tensor.shape.as_ref();
            let axes = shape.map(|shape| shape.dim.iter().map(axis).collect::<Vec<_>>().join(", "));
            format!("{}[{}]", element(tensor.elem_type()), axes.unwrap_or_else(|| "..".to_owned()))
        }
        Some(Kind::Sequence(sequence)) => format!("seq({})", inner(sequence.elem_type.as_deref())),
        Some(Kind::Map(map)) => format!("map({}, {})", element(map.key_type()), inner(map.value_type.as_deref())),
        Some(Kind::Optional(optional)) => format!("optional({})", inner(optional.elem_type.as_deref())),
        Some(Kind::SparseTensor(tensor)) => format!("sparse {}", element(tensor.elem_type())),
        Some(Kind::Opaque(opaque)) => format!("opaque({})", opaque.name()),
        None => "of no declared type".to_owned(),
    }
}

fn element(kind: i32) -> String {
    use crate::onnx::proto::tensor_proto::data_type as known;
    let name = match kind {
        known::FLOAT => "float",
        known::DOUBLE => "double",
        known::FLOAT16 => "float16",
        known::BFLOAT16 => "bfloat16",
        known::INT64 => "int64",
        known::INT32 => "int32",
        known::INT8 => "int8",
        known::UINT8 => "uint8",
        known::BOOL => "bool",
        known::STRING => "string",
        other => return format!("type {other}"),
    };
    name.to_owned()
}

fn words(picture: &Picture) -> String {
    let mut table = table(&["what", "in this file"]);
    let pairs =
        |map: &BTreeMap<String, i64>| map.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>();
    let values =
        |values: &[Value]| values.iter().map(|value| format!("{}: {}", value.name, value.r#type)).collect::<Vec<_>>();
    table.add_row(["file", &format!("{}, {} bytes", picture.file, picture.bytes)]);
    table.add_row(["made by", if picture.producer.is_empty() { "unknown" } else { &picture.producer }]);
    table.add_row(["operator sets", &format!("{}; IR {}", pairs(&picture.opsets).join(", "), picture.ir_version)]);
    table.add_row(["inputs", &values(&picture.inputs).join("\n")]);
    table.add_row(["outputs", &values(&picture.outputs).join("\n")]);
    for (key, value) in &picture.metadata {
        table.add_row([&format!("metadata {key}"), value]);
    }
    let mut operators: Vec<_> = picture.operators.iter().collect();
    operators.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let operators: Vec<String> = operators.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    table.add_row(["nodes", &format!("{}: {}", picture.nodes, operators.join(", "))]);
    for Ensemble { operator, count, trees, tree_nodes } in &picture.ensembles {
        table.add_row(["trees", &format!("{trees} in {count} {operator}, {tree_nodes} tree nodes")]);
    }
    table.add_row(["constants", &picture.constants.to_string()]);
    let advice = if picture.advice.is_empty() { "none".to_owned() } else { picture.advice.join("\n") };
    table.add_row(["advice", &advice]);
    table.to_string()
}
