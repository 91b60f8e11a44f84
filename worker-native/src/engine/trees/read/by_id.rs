//! Ensembles of ai.onnx.ml 1 and 3: parallel lists, in which a tree id and a node id name a node.

use std::collections::{HashMap, HashSet};

use crate::onnx::graph::{self, GraphError};
use crate::onnx::proto::NodeProto;

use super::{Mode, RawNode, maybe_tensor, position, refuse, target};

/// Nodes, roots, and weights with their targets.
type Parts = (Vec<RawNode>, Vec<u32>, Vec<(u32, f32)>);

/// Reads the lists; `kind` is `target` or `class`.
pub(super) fn by_id(node: &NodeProto, kind: &str, targets: usize) -> Result<Parts, GraphError> {
    let trees = graph::ints(node, "nodes_treeids")?;
    let ids = graph::ints(node, "nodes_nodeids")?;
    let features = graph::ints(node, "nodes_featureids")?;
    let (yes, no) = (graph::ints(node, "nodes_truenodeids")?, graph::ints(node, "nodes_falsenodeids")?);
    let modes = graph::strings(node, "nodes_modes")?;
    let missing = graph::ints(node, "nodes_missing_value_tracks_true")?;
    let thresholds = maybe_tensor(node, "nodes_values")?;
    let size = trees.len();
    if [ids.len(), features.len(), yes.len(), no.len(), modes.len(), thresholds.len()].iter().any(|len| *len != size)
        || !(missing.is_empty() || missing.len() == size)
    {
        return refuse("its lists of nodes are not equally long");
    }
    let mut places: HashMap<(i64, i64), u32> = HashMap::with_capacity(size);
    for (at, key) in (0_u32..).zip(trees.iter().copied().zip(ids.iter().copied())) {
        if places.insert(key, at).is_some() {
            return refuse(format!("tree {} has node {} twice", key.0, key.1));
        }
    }
    let place = |tree: i64, id: i64| {
        places.get(&(tree, id)).copied().map_or_else(|| refuse(format!("tree {tree} has no node {id}")), Ok)
    };
    let (weights, ranges) = leaf_weights(node, kind, targets, size, place)?;
    let mut nodes = Vec::with_capacity(size);
    let lists = trees.iter().zip(features).zip(yes.iter().zip(no)).zip(modes.iter().zip(&thresholds)).zip(&ranges);
    for (at, ((((tree, feature), (yes, no)), (mode, threshold)), range)) in lists.enumerate() {
        let missing_yes = missing.get(at) == Some(&1);
        nodes.push(match mode_by_name(mode)? {
            Some(mode) => {
                let (feature, yes, no) = (position(*feature)?, place(*tree, *yes)?, place(*tree, *no)?);
                RawNode::Branch { feature, mode, threshold: *threshold, missing_yes, yes, no }
            }
            None if range.1 == 0 => return refuse("a leaf has no weight"),
            None => RawNode::Leaf { first: range.0, count: range.1 },
        });
    }
    Ok((nodes, roots_of(trees)?, weights))
}

/// The first node of each tree is its root; a tree that is split over the list would have two.
fn roots_of(trees: &[i64]) -> Result<Vec<u32>, GraphError> {
    let mut roots = Vec::new();
    let mut seen = HashSet::new();
    let mut previous = None;
    for (at, tree) in (0_u32..).zip(trees) {
        if previous != Some(tree) {
            if !seen.insert(*tree) {
                return refuse(format!("the nodes of tree {tree} do not lie together"));
            }
            roots.push(at);
        }
        previous = Some(tree);
    }
    Ok(roots)
}

type Weights = (Vec<(u32, f32)>, Vec<(u32, u32)>);

/// The weights sorted by node, and for each node the first one and how many.
fn leaf_weights(
    node: &NodeProto,
    kind: &str,
    targets: usize,
    size: usize,
    place: impl Fn(i64, i64) -> Result<u32, GraphError>,
) -> Result<Weights, GraphError> {
    let trees = graph::ints(node, &format!("{kind}_treeids"))?;
    let ids = graph::ints(node, &format!("{kind}_nodeids"))?;
    let columns = graph::ints(node, &format!("{kind}_ids"))?;
    let values = maybe_tensor(node, &format!("{kind}_weights"))?;
    if [ids.len(), columns.len(), values.len()].iter().any(|len| *len != trees.len()) {
        return refuse("its lists of weights are not equally long");
    }
    let mut sorted = Vec::with_capacity(trees.len());
    for (((tree, id), column), value) in trees.iter().zip(ids).zip(columns).zip(values) {
        sorted.push((place(*tree, *id)?, target(*column, targets)?, value));
    }
    sorted.sort_by_key(|(place, target, _)| (*place, *target));
    let twice = |pair: &[(u32, u32, f32)]| matches!(pair, [a, b] if a.0 == b.0 && a.1 == b.1);
    if sorted.windows(2).any(twice) {
        return refuse("a leaf has two weights for one target");
    }
    let mut ranges = vec![(0, 0); size];
    for (number, (place, ..)) in (0_u32..).zip(&sorted) {
        if let Some((first, count)) = ranges.get_mut(*place as usize) {
            if *count == 0 {
                *first = number;
            }
            *count += 1;
        }
    }
    Ok((sorted.into_iter().map(|(_, target, value)| (target, value)).collect(), ranges))
}

/// `None` is a leaf.
fn mode_by_name(name: &[u8]) -> Result<Option<Mode>, GraphError> {
    Ok(Some(match name {
        b"LEAF" => return Ok(None),
        b"BRANCH_LEQ" => Mode::Leq,
        b"BRANCH_LT" => Mode::Lt,
        b"BRANCH_GTE" => Mode::Gte,
        b"BRANCH_GT" => Mode::Gt,
        b"BRANCH_EQ" => Mode::Eq,
        b"BRANCH_NEQ" => Mode::Neq,
        other => return refuse(format!("a node's mode is {:?}", String::from_utf8_lossy(other))),
    }))
}
