//! Ensembles of ai.onnx.ml 5: inner nodes and leaves in two lists, in which a child is a position.

use crate::onnx::graph::{self, GraphError};
use crate::onnx::proto::NodeProto;

use super::{Aggregate, Mode, RawEnsemble, RawNode, Transform, finite, position, refuse, target, targets};

/// Reads a `TreeEnsemble`.
pub(super) fn by_position(node: &NodeProto) -> Result<RawEnsemble, GraphError> {
    let targets = targets(graph::int(node, "n_targets")?.unwrap_or_default())?;
    let tensor = |name: &str| graph::tensor(node, name)?.map_or_else(|| refuse(format!("it has no {name}")), Ok);
    let thresholds = finite("nodes_values", graph::values_f32(tensor("nodes_splits")?)?)?;
    let modes = graph::values_u8(tensor("nodes_modes")?)?;
    let leaf_values = finite("leaf_weights", graph::values_f32(tensor("leaf_weights")?)?)?;
    let leaf_targets = graph::ints(node, "leaf_targetids")?;
    let features = graph::ints(node, "nodes_featureids")?;
    let (yes, no) = (graph::ints(node, "nodes_truenodeids")?, graph::ints(node, "nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (graph::ints(node, "nodes_trueleafs")?, graph::ints(node, "nodes_falseleafs")?);
    let missing = graph::ints(node, "nodes_missing_value_tracks_true")?;
    let size = thresholds.len();
    let lengths = [modes.len(), features.len(), yes.len(), no.len(), yes_leaf.len(), no_leaf.len()];
    if lengths.iter().any(|len| *len != size)
        || !(missing.is_empty() || missing.len() == size)
        || leaf_values.len() != leaf_targets.len()
    {
        return refuse("its lists are not equally long");
    }
    let inner = u32::try_from(size).or_else(|_| refuse("it has too many nodes"))?;
    let child = |at: i64, leaf: i64| {
        let (at, limit) = (position(at)?, if leaf == 0 { size } else { leaf_values.len() });
        if at as usize >= limit {
            return refuse(format!("a child is number {at} of {limit}"));
        }
        if leaf == 0 { Ok(at) } else { inner.checked_add(at).map_or_else(|| refuse("it has too many nodes"), Ok) }
    };
    let mut nodes = Vec::with_capacity(size.saturating_add(leaf_values.len()));
    let lists = features.iter().zip(&modes).zip(&thresholds).zip(yes.iter().zip(yes_leaf)).zip(no.iter().zip(no_leaf));
    for (at, ((((feature, mode), threshold), yes), no)) in lists.enumerate() {
        let (yes, no) = (child(*yes.0, *yes.1)?, child(*no.0, *no.1)?);
        let (mode, missing_yes) = (mode_by_number(*mode)?, missing.get(at) == Some(&1));
        nodes.push(RawNode::Branch { feature: position(*feature)?, mode, threshold: *threshold, missing_yes, yes, no });
    }
    let mut weights = Vec::with_capacity(leaf_values.len());
    for (number, (column, value)) in (0_u32..).zip(leaf_targets.iter().zip(leaf_values.iter().copied())) {
        weights.push((target(*column, targets)?, value));
        nodes.push(RawNode::Leaf { first: number, count: 1 });
    }
    let roots = roots(graph::ints(node, "tree_roots")?, &nodes, inner)?;
    let aggregate = aggregate(graph::int(node, "aggregate_function")?.unwrap_or(1))?;
    // The standard counts SOFTMAX as 1 and LOGISTIC as 2, ONNX Runtime the other way round.
    let transform = match graph::int(node, "post_transform")?.unwrap_or(0) {
        0 => Transform::None,
        other => return refuse(format!("post_transform is number {other}")),
    };
    let (base, base_wants_leaf) = (Vec::new(), false);
    Ok(RawEnsemble { nodes, roots, weights, targets, base, base_wants_leaf, aggregate, transform })
}

fn mode_by_number(number: u8) -> Result<Mode, GraphError> {
    Ok(match number {
        0 => Mode::Leq,
        1 => Mode::Lt,
        2 => Mode::Gte,
        3 => Mode::Gt,
        4 => Mode::Eq,
        5 => Mode::Neq,
        other => return refuse(format!("a node's mode is number {other}")),
    })
}

fn roots(numbers: &[i64], nodes: &[RawNode], inner: u32) -> Result<Vec<u32>, GraphError> {
    let mut roots = Vec::with_capacity(numbers.len());
    for number in numbers {
        let root = position(*number)?;
        match nodes.get(root as usize) {
            // A tree of one leaf is written as a node with twice the same leaf; ONNX Runtime reads the root's own
            // number as the leaf's.
            Some(RawNode::Branch { yes, no, .. }) if yes == no && *yes >= inner => {
                return refuse("a tree is a single leaf");
            }
            Some(RawNode::Branch { .. }) => roots.push(root),
            _ => return refuse(format!("a root is number {root} of {inner}")),
        }
    }
    Ok(roots)
}

fn aggregate(number: i64) -> Result<Aggregate, GraphError> {
    Ok(match number {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return refuse(format!("aggregate_function is number {other}")),
    })
}
