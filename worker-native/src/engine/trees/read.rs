//! The three ensemble operators of ONNX as one plain form, every id checked.
//!
//! `TreeEnsembleRegressor` and `TreeEnsembleClassifier` (ai.onnx.ml 1 and 3) list nodes by tree and node id
//! (`by_id`), `TreeEnsemble` (5) by position (`by_position`). What ONNX Runtime's versions answer differently, or what costs more than it is
//! worth, is refused here.

use crate::onnx::graph::{self, GraphError};
use crate::onnx::proto::NodeProto;

mod by_id;
mod by_position;

use by_id::by_id;
use by_position::by_position;

/// Targets or classes of one ensemble.
const MAX_TARGETS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RawNode {
    /// Goes to `yes` when `x[feature] mode threshold` holds, or when it is NaN and `missing_yes`.
    Branch { feature: u32, mode: Mode, threshold: f32, missing_yes: bool, yes: u32, no: u32 },
    /// Adds `weights[first..first + count]`.
    Leaf { first: u32, count: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// What is made of the aggregated scores of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    /// 1 / (1 + exp(-s)) of each.
    Logistic,
    /// exp(s) / sum of exp(s).
    Softmax,
    /// The one score becomes `[1 - s, s]`.
    Complement,
    /// The one score becomes `[logistic(-s), logistic(s)]`.
    LogisticPair,
}

/// Nodes refer to each other by position; nothing says yet that they form trees (`flat` does).
#[derive(Debug)]
pub(super) struct RawEnsemble {
    pub(super) nodes: Vec<RawNode>,
    pub(super) roots: Vec<u32>,
    /// Target and weight.
    pub(super) weights: Vec<(u32, f32)>,
    pub(super) targets: usize,
    pub(super) base: Vec<f32>,
    /// A target that no leaf speaks for is 0, whatever its base value: so of ONNX Runtime's regressors.
    pub(super) base_wants_leaf: bool,
    pub(super) aggregate: Aggregate,
    pub(super) transform: Transform,
}

pub(super) fn is_ensemble(node: &NodeProto) -> bool {
    node.domain() == "ai.onnx.ml"
        && matches!(node.op_type(), "TreeEnsembleRegressor" | "TreeEnsembleClassifier" | "TreeEnsemble")
}

/// Reads an ensemble whose output number `output` is wanted.
pub(super) fn ensemble(node: &NodeProto, output: usize) -> Result<RawEnsemble, String> {
    let read = match (node.op_type(), output) {
        ("TreeEnsembleRegressor", 0) => regressor(node),
        ("TreeEnsembleClassifier", 1) => classifier(node),
        ("TreeEnsemble", 0) => by_position(node),
        _ => Err(GraphError("its labels are wanted, scores only are computed here".to_owned())),
    };
    read.map_err(|error| format!("{}: {error}", graph::describe(node)))
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, GraphError> {
    Err(GraphError(reason.into()))
}

fn position(id: i64) -> Result<u32, GraphError> {
    u32::try_from(id).or_else(|_| refuse(format!("{id} is no position")))
}

fn regressor(node: &NodeProto) -> Result<RawEnsemble, GraphError> {
    let targets = targets(graph::int(node, "n_targets")?.unwrap_or_default())?;
    let (nodes, roots, weights) = by_id(node, "target", targets)?;
    let base = maybe_tensor(node, "base_values")?;
    if !(base.is_empty() || base.len() == targets) {
        return refuse(format!("it has {} base values for {targets} targets", base.len()));
    }
    let aggregate = match graph::text(node, "aggregate_function")?.unwrap_or("SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return refuse(format!("aggregate_function is {other:?}")),
    };
    let transform = regression_transform(targets, transform(node)?);
    let base_wants_leaf = targets > 1;
    Ok(RawEnsemble { nodes, roots, weights, targets, base, base_wants_leaf, aggregate, transform })
}

/// ONNX Runtime transforms the scores of two and more targets only.
const fn regression_transform(targets: usize, transform: Transform) -> Transform {
    if targets == 1 { Transform::None } else { transform }
}

fn classifier(node: &NodeProto) -> Result<RawEnsemble, GraphError> {
    let classes = graph::strings(node, "classlabels_strings")?.len();
    let classes = if classes == 0 { graph::ints(node, "classlabels_int64s")?.len() } else { classes };
    if !(2..=MAX_TARGETS).contains(&classes) {
        return refuse(format!("it has {classes} classes, 2 to {MAX_TARGETS} are taken"));
    }
    let (nodes, roots, weights) = by_id(node, "class", classes)?;
    let base = maybe_tensor(node, "base_values")?;
    let asked = transform(node)?;
    let aggregate = Aggregate::Sum;
    let base_wants_leaf = false;
    let whole = |transform| RawEnsemble {
        nodes,
        roots,
        weights,
        targets: classes,
        base,
        base_wants_leaf,
        aggregate,
        transform,
    };
    if classes > 2 {
        let read = whole(asked);
        return if read.base.is_empty() || read.base.len() == classes {
            Ok(read)
        } else {
            refuse(format!("it has {} base values for {classes} classes", read.base.len()))
        };
    }
    two_classes(whole(asked))
}

/// Two classes are scored by one column of weights or by two, and ONNX Runtime tells them apart row by row.
fn two_classes(mut read: RawEnsemble) -> Result<RawEnsemble, GraphError> {
    let one_column = read.weights.iter().all(|(class, _)| *class == 0);
    if !one_column {
        let of_second = |node: &RawNode| match *node {
            RawNode::Leaf { first, count } => {
                let range = first as usize..(first + count) as usize;
                read.weights.get(range).is_some_and(|weights| weights.iter().any(|(class, _)| *class == 1))
            }
            RawNode::Branch { .. } => true,
        };
        // Strict: one leaf of any tree without the second class might be the only one a row reaches.
        if !read.nodes.iter().all(of_second) {
            return refuse("a leaf has no weight for the second class, so that columns may vary by row");
        }
        return if read.base.is_empty() { Ok(read) } else { refuse("two columns of weights with base values") };
    }
    if read.base.len() > 1 {
        return refuse("one column of weights with two base values");
    }
    let never_negative = read.weights.iter().all(|(_, weight)| *weight >= 0.0);
    read.transform = match (read.transform, never_negative) {
        (Transform::Logistic, false) => Transform::LogisticPair,
        (Transform::None | Transform::Softmax, true) => Transform::Complement,
        // Seen: 1.31 gives [-s, s] and logistic pairs where older sources give [s, -s] and [1 - s, s].
        (other, _) => {
            return refuse(format!("one column of such weights with {other:?}: versions of ONNX Runtime differ"));
        }
    };
    read.targets = 1;
    Ok(read)
}

fn targets(count: i64) -> Result<usize, GraphError> {
    let known = usize::try_from(count).ok().filter(|count| (1..=MAX_TARGETS).contains(count));
    known.map_or_else(|| refuse(format!("it has {count} targets, 1 to {MAX_TARGETS} are taken")), Ok)
}

fn transform(node: &NodeProto) -> Result<Transform, GraphError> {
    match graph::text(node, "post_transform")?.unwrap_or("NONE") {
        "NONE" => Ok(Transform::None),
        "LOGISTIC" => Ok(Transform::Logistic),
        "SOFTMAX" => Ok(Transform::Softmax),
        other => refuse(format!("post_transform is {other:?}")),
    }
}

/// `name` as a list of floats, or `name_as_tensor`.
fn maybe_tensor(node: &NodeProto, name: &str) -> Result<Vec<f32>, GraphError> {
    let list = graph::floats(node, name)?;
    match graph::tensor(node, &format!("{name}_as_tensor"))? {
        Some(tensor) if list.is_empty() => finite(name, graph::values_f32(tensor)?),
        Some(_) => refuse(format!("{name} is given twice")),
        None => finite(name, list.to_vec()),
    }
}

fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>, GraphError> {
    let wanted = |value: &f32| if name == "nodes_values" { !value.is_nan() } else { value.is_finite() };
    if values.iter().all(wanted) { Ok(values) } else { refuse(format!("{name} has a value that is no number")) }
}

fn target(id: i64, targets: usize) -> Result<u32, GraphError> {
    let known = position(id).ok().filter(|id| (*id as usize) < targets);
    known.map_or_else(|| refuse(format!("weight for target {id} of {targets}")), Ok)
}
