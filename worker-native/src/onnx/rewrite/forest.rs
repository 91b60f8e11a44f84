//! Sums over trees that were exported one tree at a time, as one `TreeEnsembleRegressor`.
//!
//! skl2onnx writes an isolation forest of T trees as T ensembles of one tree, each followed by some twenty small nodes
//! that turn the number of the leaf into its path length `h = depth + c(n)`, where a leaf of n training rows counts as
//! `c(n) = 2 (ln(n - 1) + 0.5772156649) - 2 (n - 1) / n` further steps (Liu, Ting, Zhou: Isolation Forest, ICDM 2008,
//! equations 1 and 2). All of that depends on the leaf alone. So the small nodes are computed here once for every
//! leaf, with the graph's own constants and in its own precision, and become the weights of one ensemble that adds
//! up; the sum runs over the trees in the same order, so its bits stay the same. The score `-2^(-sum / (T c(psi)))`
//! and its offset stay as the exporter wrote them.
//!
//! Any other `Sum` whose terms are functions of one tree each is the same case. Owns no arithmetic: see `column`.

use std::collections::{HashMap, HashSet};

use super::super::graph::{self, GraphError, floats, ints, strings};
use super::super::proto::NodeProto;
use super::super::proto::tensor_proto::data_type;
use super::build;
use super::column::{Column, encode};
use super::edit::{Editor, ML};

/// How many nodes may lie between a tree and its sum, one behind the other; exporters write about fifteen.
const DEEPEST: usize = 64;
const ENSEMBLE: &str = "TreeEnsembleRegressor";
const LEAF: &[u8] = b"LEAF";

/// Rewrites every such sum; says how many trees were fused.
pub(super) fn fuse(editor: &mut Editor) -> usize {
    let mut fused = 0;
    // Numbers change with each rewrite, so the search starts anew; a sum that was rewritten is none any more.
    while let Some((number, output, terms)) = editor.of_kind("Sum").into_iter().find_map(|number| {
        let total = editor.node(number)?;
        Some((number, total.output.first()?.clone(), terms(editor, total)?))
    }) {
        fused += terms.len();
        let nodes = one_ensemble(editor, &terms, &output);
        editor.replace(number, nodes);
    }
    if fused > 0 {
        editor.sweep();
    }
    fused
}

/// One tree, with what its leaves weigh in the sum.
struct Term {
    source: String,
    tree: NodeProto,
    // Which column of the source each feature of the tree is; empty: the same one.
    columns: Vec<i64>,
    weights: Vec<f32>,
    double: bool,
}

fn terms(editor: &Editor, total: &NodeProto) -> Option<Vec<Term>> {
    let terms: Vec<Term> = total.input.iter().map(|name| term(editor, name)).collect::<Option<_>>()?;
    let first = terms.first()?;
    let alike = terms.iter().all(|term| term.source == first.source && term.double == first.double);
    alike.then_some(terms)
}

fn term(editor: &Editor, name: &str) -> Option<Term> {
    let mut walk = Walk { editor, tree: None, known: HashMap::new() };
    let column = walk.value(name, DEEPEST)?;
    let tree = walk.tree?;
    let double = matches!(column, Column::F64(_));
    let weights = column.into_weights()?;
    let (source, columns) = chosen_columns(editor, tree.input.first()?)?;
    Some(Term { source, tree: tree.clone(), columns, weights, double })
}

/// The way from a term of the sum back to its one tree.
struct Walk<'a> {
    editor: &'a Editor,
    tree: Option<&'a NodeProto>,
    known: HashMap<&'a str, Column>,
}

impl<'a> Walk<'a> {
    /// What a value is for each leaf of the tree; a constant is a column of one.
    fn value(&mut self, name: &str, depth: usize) -> Option<Column> {
        if let Some(known) = self.known.get(name) {
            return Some(known.clone());
        }
        if let Some((shape, column)) = self.editor.constant(name) {
            return (column.len() == 1 && shape.len() <= 2).then_some(column);
        }
        let node = self.editor.producer(name).filter(|node| node.output.first().is_some_and(|first| first == name))?;
        let depth = depth.checked_sub(1)?;
        let first = node.input.first()?;
        let value = match node.op_type() {
            ENSEMBLE if node.domain() == ML => {
                // Two trees behind one term are no function of one leaf.
                if self.tree.replace(node).is_some() {
                    return None;
                }
                Column::F32(leaf_weights(node).ok()??)
            }
            "LabelEncoder" if node.domain() == ML => encode(node, &self.value(first, depth)?)?,
            _ if !graph::is_standard(node) => return None,
            "Reshape" if self.editor.whole_numbers(node.input.get(1)?)? == [-1, 1] => self.value(first, depth)?,
            "Cast" => self.value(first, depth)?.cast(graph::int(node, "to").ok()??)?,
            kind @ ("Identity" | "Neg" | "Log") => self.value(first, depth)?.unary(kind)?,
            // With one input these two are that input.
            "Sum" | "Max" | "Min" if node.input.len() == 1 => self.value(first, depth)?,
            kind => {
                let [left, right] = &node.input[..] else { return None };
                self.value(left, depth)?.binary(kind, &self.value(right, depth)?)?
            }
        };
        self.known.insert(node.output.first()?, value.clone());
        Some(value)
    }
}

/// The numbers of a tree's leaves, in the order of its nodes.
fn leaves(tree: &NodeProto) -> Result<Vec<i64>, GraphError> {
    let modes = strings(tree, "nodes_modes")?.iter();
    let ids = ints(tree, "nodes_nodeids")?.iter();
    Ok(ids.zip(modes).filter(|(_, mode)| *mode == LEAF).map(|(id, _)| *id).collect())
}

/// What each leaf of an ensemble weighs; `None` when it is not exactly one tree with one plain sum.
fn leaf_weights(tree: &NodeProto) -> Result<Option<Vec<f32>>, GraphError> {
    let plain = |name, usual| Ok::<_, GraphError>(graph::text(tree, name)?.is_none_or(|found| found == usual));
    let trees = ints(tree, "nodes_treeids")?;
    let size = trees.len();
    let whole = ints(tree, "nodes_nodeids")?.len() == size
        && ints(tree, "nodes_featureids")?.len() == size
        && ints(tree, "nodes_truenodeids")?.len() == size
        && ints(tree, "nodes_falsenodeids")?.len() == size
        && floats(tree, "nodes_values")?.len() == size
        && strings(tree, "nodes_modes")?.len() == size
        && [0, size].contains(&ints(tree, "nodes_missing_value_tracks_true")?.len());
    let ends = ints(tree, "target_nodeids")?;
    let weights = floats(tree, "target_weights")?;
    let single = trees.iter().all(|id| trees.first() == Some(id)) && graph::int(tree, "n_targets")?.unwrap_or(1) == 1;
    let based = floats(tree, "base_values")?.iter().any(|base| *base != 0.0);
    let sums = plain("post_transform", "NONE")? && plain("aggregate_function", "SUM")?;
    if !whole || !single || based || !sums || size == 0 || ends.len() != weights.len() {
        return Ok(None);
    }
    let mut weighs: HashMap<i64, f32> = HashMap::new();
    for (end, weight) in ends.iter().zip(weights) {
        *weighs.entry(*end).or_default() += weight;
    }
    let leaves = leaves(tree)?;
    // Two leaves of one number would take each other's weight.
    if leaves.iter().collect::<HashSet<_>>().len() != leaves.len() {
        return Ok(None);
    }
    Ok(Some(leaves.iter().map(|leaf| weighs.get(leaf).copied().unwrap_or_default()).collect()))
}

/// Looks through a choice of columns (`Gather` on axis 1) to where all trees read from.
fn chosen_columns(editor: &Editor, name: &str) -> Option<(String, Vec<i64>)> {
    let gather = editor.producer(name).filter(|node| match node.op_type() {
        "Gather" => graph::is_standard(node) && graph::int(node, "axis").is_ok_and(|axis| axis == Some(1)),
        "ArrayFeatureExtractor" => node.domain() == ML,
        _ => false,
    });
    let Some(gather) = gather else { return Some((name.to_owned(), Vec::new())) };
    let Some(columns) = gather.input.get(1).and_then(|indices| editor.whole_numbers(indices)) else {
        return Some((name.to_owned(), Vec::new()));
    };
    columns.iter().all(|column| *column >= 0).then_some((gather.input.first()?.clone(), columns))
}

fn one_ensemble(editor: &Editor, terms: &[Term], output: &str) -> Vec<NodeProto> {
    let double = terms.first().is_some_and(|term| term.double);
    let source = terms.first().map(|term| term.source.clone()).unwrap_or_default();
    // An ensemble adds up in float32; the graph behind this one goes on in float64.
    let made = if double { editor.fresh("path_lengths") } else { output.to_owned() };
    let mut node = build::node(ENSEMBLE, ML, &[&source], &[&made]);
    node.attribute = Columns::of(terms).unwrap_or_default().into_attributes();
    let mut nodes = vec![node];
    if double {
        let mut cast = build::node("Cast", "", &[&made], &[output]);
        cast.attribute.push(build::int("to", i64::from(data_type::DOUBLE)));
        nodes.push(cast);
    }
    nodes
}

/// The parallel lists of a `TreeEnsembleRegressor`.
#[derive(Default)]
struct Columns {
    tree: Vec<i64>,
    node: Vec<i64>,
    feature: Vec<i64>,
    mode: Vec<Vec<u8>>,
    value: Vec<f32>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<i64>,
    leaf_tree: Vec<i64>,
    leaf_node: Vec<i64>,
    weight: Vec<f32>,
}

impl Columns {
    fn of(terms: &[Term]) -> Result<Self, GraphError> {
        let mut all = Self::default();
        for (number, term) in (0_i64..).zip(terms) {
            let tree = &term.tree;
            let modes = strings(tree, "nodes_modes")?;
            let missing = ints(tree, "nodes_missing_value_tracks_true")?;
            let ends = leaves(tree)?;
            let column = |feature: i64| usize::try_from(feature).ok().and_then(|at| term.columns.get(at)).copied();
            for (feature, mode) in ints(tree, "nodes_featureids")?.iter().zip(modes) {
                let mapped = if term.columns.is_empty() { Some(*feature) } else { column(*feature) };
                // A feature beyond the chosen columns stays beyond the model's, so the runtime still refuses it.
                all.feature.push(if mode == LEAF { 0 } else { mapped.unwrap_or(i64::from(i32::MAX)) });
            }
            all.tree.resize(all.tree.len() + modes.len(), number);
            all.mode.extend_from_slice(modes);
            all.node.extend_from_slice(ints(tree, "nodes_nodeids")?);
            all.value.extend_from_slice(floats(tree, "nodes_values")?);
            all.yes.extend_from_slice(ints(tree, "nodes_truenodeids")?);
            all.no.extend_from_slice(ints(tree, "nodes_falsenodeids")?);
            all.missing.extend_from_slice(missing);
            all.missing.resize(all.tree.len(), 0);
            all.leaf_tree.resize(all.leaf_tree.len() + ends.len(), number);
            all.leaf_node.extend_from_slice(&ends);
            all.weight.extend_from_slice(&term.weights);
        }
        Ok(all)
    }

    fn into_attributes(self) -> Vec<super::super::proto::AttributeProto> {
        let mut attributes = vec![
            build::text("aggregate_function", "SUM"),
            build::text("post_transform", "NONE"),
            build::int("n_targets", 1),
            build::ints("nodes_treeids", self.tree),
            build::ints("nodes_nodeids", self.node),
            build::ints("nodes_featureids", self.feature),
            build::strings("nodes_modes", self.mode),
            build::floats("nodes_values", self.value),
            build::ints("nodes_truenodeids", self.yes),
            build::ints("nodes_falsenodeids", self.no),
            build::ints("target_treeids", self.leaf_tree),
            build::ints("target_nodeids", self.leaf_node),
            build::ints("target_ids", vec![0; self.weight.len()]),
            build::floats("target_weights", self.weight),
        ];
        if self.missing.iter().any(|tracks| *tracks != 0) {
            attributes.push(build::ints("nodes_missing_value_tracks_true", self.missing));
        }
        attributes
    }
}
