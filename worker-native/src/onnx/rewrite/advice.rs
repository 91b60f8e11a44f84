//! What a look at a model's graph tells its owner. Owns the sentences; changes nothing.

use super::super::graph::{attribute, opset, subgraphs};
use super::super::proto::tensor_proto::data_location;
use super::super::proto::tensor_shape_proto::dimension::Value as Axis;
use super::super::proto::type_proto::Value as Kind;
use super::super::proto::{GraphProto, ModelProto};
use super::{Distances, optimize};

/// What is slow or will not run everywhere, one sentence each with what to do about it; empty where all is well.
///
/// The rewrites are tried on a copy, so that the advice never names one that would not happen.
#[must_use]
pub fn advice(model: &ModelProto) -> Vec<String> {
    let Some(graph) = &model.graph else { return vec!["There is no graph in it.".to_owned()] };
    let (_, done) = optimize(model.clone(), Distances::CDist);
    let mut said = Vec::new();
    let rewrite = "run `infer-router models optimize`";
    if done.trees > 0 {
        let (nodes, after, trees) = (done.nodes_before, done.nodes_after, done.trees);
        said.push(format!(
            "{trees} trees in {nodes} nodes look like a stock IsolationForest; {after} are enough: {rewrite}."
        ));
    }
    if done.distances > 0 {
        said.push(format!("Distances are computed in a loop (Scan), as in a stock LocalOutlierFactor: {rewrite}."));
    }
    for output in &done.unzipped {
        said.push(format!(
            "Output {:?} is a list of maps (ZipMap), slow to make and to read: {rewrite}.",
            output.output
        ));
    }
    for output in &done.repaired {
        let (name, columns) = (&output.output, output.columns);
        said.push(format!("Output {name:?} has {columns} rows for each row of input (Reshape(-1, 1)): {rewrite}."));
    }
    fixed_batch(graph, &mut said);
    if without_locale(graph) {
        said.push(
            "StringNormalizer has no `locale` and asks for en_US.UTF-8, which slim images lack: set it to C.UTF-8 at export."
                .to_owned(),
        );
    }
    let outside = graph.initializer.iter().filter(|tensor| tensor.data_location() == data_location::EXTERNAL).count();
    if outside > 0 {
        said.push(format!("{outside} constants lie in other files (external data): save the model as one file."));
    }
    if opset(model, "").is_none() && opset(model, "ai.onnx.ml").is_none() {
        said.push("It does not say which version of the operators it uses (opset_import).".to_owned());
    }
    said
}

fn fixed_batch(graph: &GraphProto, said: &mut Vec<String>) {
    for input in &graph.input {
        let Some(Kind::Tensor(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else { continue };
        let first = tensor.shape.as_ref().and_then(|shape| shape.dim.first()).and_then(|dim| dim.value.as_ref());
        // Some exporters write 0 or -1 where they mean any number.
        if let Some(Axis::DimValue(rows @ 1..)) = first {
            let name = input.name();
            said.push(format!("Input {name:?} takes exactly {rows} rows, so it cannot be batched: export it with a dynamic first axis."));
        }
    }
}

fn without_locale(graph: &GraphProto) -> bool {
    graph.node.iter().any(|node| {
        let here = node.op_type() == "StringNormalizer" && attribute(node, "locale").is_none();
        here || node.attribute.iter().flat_map(subgraphs).any(without_locale)
    })
}
