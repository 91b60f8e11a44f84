//! Trees as one flat array of 8-byte nodes.
//!
//! Every comparison becomes "hit when `x <= threshold`", every node knows how far ahead its two children lie side
//! by side, and a leaf steps nowhere. So a descent is the same few instructions at every level, and may run past a
//! leaf without harm. Owns that layout and the proof that the nodes form trees; `run` walks them.

use super::read::{Aggregate, Mode, RawEnsemble, RawNode, Transform};

/// Bits of [`Node::feature`] that are the column; the rest are flags.
pub(super) const COLUMN: u16 = 0x3fff;
/// Hit when `x == threshold` instead.
pub(super) const EQUAL: u16 = 0x8000;
/// Hit when `x` is NaN, too.
pub(super) const NAN_HITS: u16 = 0x4000;

/// Descents that run side by side.
pub(super) const LANES: usize = 8;

/// No trainer makes deeper ones, and each level costs time for every row.
const MAX_DEPTH: u32 = 1024;
/// Nodes of one ensemble, leaves included.
const MAX_NODES: usize = 1 << 24;
/// Numbers in the table of leaves with several weights.
const MAX_TABLE: usize = 1 << 24;

/// A branch or a leaf.
///
/// A branch at `i` goes to `i + step` on a miss and to `i + step - 1` on a hit. A leaf has `step` 0 and looks at the
/// column behind the last one, which is NaN and so never hits; its `threshold` is its value, or in a tree of
/// several targets the bits of its row in [`Flat::table`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(8))]
pub(super) struct Node {
    pub(super) threshold: f32,
    pub(super) feature: u16,
    pub(super) step: u16,
}

/// Where a tree's leaves add to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// All to this one target.
    Target(u32),
    /// A row of [`Flat::table`], a number for each target.
    Rows,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub(super) root: u32,
    pub(super) depth: u32,
    pub(super) leaves: Leaves,
}

/// An ensemble, ready to run.
#[derive(Debug)]
pub(super) struct Flat {
    /// A power of two of them, so that a mask keeps every index inside.
    pub(super) nodes: Vec<Node>,
    pub(super) trees: Vec<Tree>,
    pub(super) table: Vec<f32>,
    pub(super) width: usize,
    pub(super) targets: usize,
    pub(super) base: Vec<f32>,
    pub(super) aggregate: Aggregate,
    pub(super) transform: Transform,
    /// Some node compares for equality.
    pub(super) has_equal: bool,
    /// Some node is hit by NaN.
    pub(super) has_nan_hits: bool,
}

impl Flat {
    /// Lays out an ensemble over `width` columns.
    ///
    /// # Errors
    /// The reason: nodes that form no tree, a feature beyond the input, a tree beyond the limits above.
    pub(super) fn new(raw: &RawEnsemble, width: usize) -> Result<Self, String> {
        // One column more is the leaves'.
        if width >= usize::from(COLUMN) {
            return Err(format!("{width} columns, at most {} are taken", COLUMN - 1));
        }
        let mut flat = Self {
            nodes: Vec::new(),
            trees: Vec::with_capacity(raw.roots.len()),
            table: Vec::new(),
            width,
            targets: raw.targets,
            base: raw.base.clone(),
            aggregate: raw.aggregate,
            transform: raw.transform,
            has_equal: false,
            has_nan_hits: false,
        };
        let mut visited = vec![false; raw.nodes.len()];
        let mut reached = vec![false; raw.targets];
        for root in &raw.roots {
            flat.add(raw, *root, &mut visited, &mut reached)?;
        }
        let sums = matches!(raw.aggregate, Aggregate::Sum | Aggregate::Average);
        let open = |(base, reached): (&f32, &bool)| *base != 0.0 && !reached;
        if raw.base_wants_leaf && sums && raw.base.iter().zip(&reached).any(open) {
            return Err("a row may reach no leaf for a target with a base value".to_owned());
        }
        if flat.trees.is_empty() {
            return Err("there is no tree".to_owned());
        }
        let size = flat.nodes.len().next_power_of_two();
        let leaf = flat.leaf(0.0);
        flat.nodes.resize(size, leaf);
        Ok(flat)
    }

    /// Columns after the transform.
    pub(super) const fn columns(&self) -> usize {
        match self.transform {
            Transform::Complement | Transform::LogisticPair => 2,
            Transform::None | Transform::Logistic | Transform::Softmax => self.targets,
        }
    }

    fn leaf(&self, value: f32) -> Node {
        Node { threshold: value, feature: u16::try_from(self.width).unwrap_or(COLUMN), step: 0 }
    }

    /// Adds one tree, breadth first: the levels that every row passes lie together. Marks in `visited` its branches,
    /// in `reached` the targets that all its leaves have a weight for.
    fn add(&mut self, raw: &RawEnsemble, root: u32, visited: &mut [bool], reached: &mut [bool]) -> Result<(), String> {
        let mut spoken = vec![0_usize; self.targets];
        let mut leaf_count = 0_usize;
        let start = self.nodes.len();
        let leaves = leaves(raw, root)?;
        self.nodes.push(self.leaf(0.0));
        let mut level = vec![(root, start)];
        let mut depth = 0;
        loop {
            let mut next = Vec::new();
            for (number, place) in level {
                let node = match raw.nodes.get(number as usize) {
                    Some(RawNode::Leaf { first, count }) => {
                        let range = *first as usize..first.saturating_add(*count) as usize;
                        let weights = raw.weights.get(range).ok_or("a leaf's weights are missing")?;
                        let value = self.leaf_value(weights, leaves)?;
                        leaf_count += 1;
                        for (target, _) in weights {
                            spoken.get_mut(*target as usize).into_iter().for_each(|spoken| *spoken += 1);
                        }
                        self.leaf(value)
                    }
                    Some(branch @ RawNode::Branch { .. }) => {
                        let visited = visited.get_mut(number as usize).ok_or("a node is missing")?;
                        if std::mem::replace(visited, true) {
                            return Err("two branches lead to one node: no tree".to_owned());
                        }
                        let pair = self.nodes.len();
                        let filler = self.leaf(0.0);
                        self.nodes.extend([filler, filler]);
                        let (node, children) = self.branch(branch, place, pair)?;
                        next.extend([(children.0, pair), (children.1, pair + 1)]);
                        node
                    }
                    None => return Err("a node is missing".to_owned()),
                };
                if let Some(slot) = self.nodes.get_mut(place) {
                    *slot = node;
                }
            }
            if self.nodes.len() > MAX_NODES {
                return Err(format!("there are more than {MAX_NODES} nodes"));
            }
            if next.is_empty() {
                break;
            }
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(format!("a tree is deeper than {MAX_DEPTH}"));
            }
            level = next;
        }
        reached.iter_mut().zip(&spoken).for_each(|(reached, spoken)| *reached |= *spoken == leaf_count);
        let root = u32::try_from(start).map_err(|_| "there are too many nodes")?;
        self.trees.push(Tree { root, depth, leaves });
        Ok(())
    }

    /// The node of a branch at `place` with its children at `pair` (hit) and behind it, and who they are.
    fn branch(&mut self, branch: &RawNode, place: usize, pair: usize) -> Result<(Node, (u32, u32)), String> {
        let RawNode::Branch { feature, mode, threshold, missing_yes, yes, no } = *branch else {
            return Err("a leaf is no branch".to_owned());
        };
        if feature as usize >= self.width {
            return Err(format!("a node looks at column {feature}, the input has {}", self.width));
        }
        // A comparison is written as its own or as its opposite with the children swapped; NaN holds for none of
        // them but "not equal", so where they are swapped it must hit.
        let (threshold, swapped, nan_hits) = match mode {
            Mode::Leq | Mode::Eq => (threshold, false, missing_yes),
            Mode::Lt => (below(threshold), false, missing_yes),
            Mode::Gt => (threshold, true, !missing_yes),
            Mode::Gte => (below(threshold), true, !missing_yes),
            Mode::Neq => (threshold, true, false),
        };
        let equal = matches!(mode, Mode::Eq | Mode::Neq);
        self.has_equal |= equal;
        self.has_nan_hits |= nan_hits;
        let flags = if equal { EQUAL } else { 0 } | if nan_hits { NAN_HITS } else { 0 };
        let column = u16::try_from(feature).unwrap_or(COLUMN);
        let step = u16::try_from(pair + 1 - place).map_err(|_| "a tree is too wide for 16-bit steps")?;
        let children = if swapped { (no, yes) } else { (yes, no) };
        Ok((Node { threshold, feature: column | flags, step }, children))
    }

    fn leaf_value(&mut self, weights: &[(u32, f32)], leaves: Leaves) -> Result<f32, String> {
        if let (Leaves::Target(_), [(_, value)]) = (leaves, weights) {
            return Ok(*value);
        }
        let row = self.table.len() / self.targets;
        // Nothing is changed by adding 0, by the minimum with infinity, by the maximum with minus infinity.
        let size = self.table.len() + self.targets;
        if size > MAX_TABLE {
            return Err(format!("the leaves have more than {MAX_TABLE} weights"));
        }
        self.table.resize(size, neutral(self.aggregate));
        for (target, value) in weights {
            if let Some(slot) = self.table.get_mut(row * self.targets + *target as usize) {
                *slot = *value;
            }
        }
        u32::try_from(row).map(f32::from_bits).map_err(|_| "there are too many leaves".to_owned())
    }
}

/// What an aggregate starts from.
pub(super) const fn neutral(aggregate: Aggregate) -> f32 {
    match aggregate {
        Aggregate::Sum | Aggregate::Average => 0.0,
        Aggregate::Min => f32::INFINITY,
        Aggregate::Max => f32::NEG_INFINITY,
    }
}

/// `x < t` is `x <= below(t)` for every float32 `x`; below minus infinity there is none, and NaN says so.
fn below(threshold: f32) -> f32 {
    if threshold == f32::NEG_INFINITY { f32::NAN } else { threshold.next_down() }
}

/// Do all leaves of the tree have one weight, for the same target?
fn leaves(raw: &RawEnsemble, root: u32) -> Result<Leaves, String> {
    let mut found = None;
    let mut waiting = vec![root];
    let mut steps = 0;
    while let Some(number) = waiting.pop() {
        steps += 1;
        // A cycle; `add` would find it, too, but only after this.
        if steps > raw.nodes.len().saturating_mul(2) + 1 {
            return Err("two branches lead to one node: no tree".to_owned());
        }
        match raw.nodes.get(number as usize) {
            Some(RawNode::Branch { yes, no, .. }) => waiting.extend([*yes, *no]),
            Some(RawNode::Leaf { first, count: 1 }) => {
                let target = raw.weights.get(*first as usize).map(|(target, _)| *target);
                if found.is_some() && found != target {
                    return Ok(Leaves::Rows);
                }
                found = target;
            }
            Some(RawNode::Leaf { .. }) => return Ok(Leaves::Rows),
            None => return Err("a node is missing".to_owned()),
        }
    }
    Ok(found.map_or(Leaves::Rows, Leaves::Target))
}
