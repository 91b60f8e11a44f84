//! Walks a flat ensemble: eight descents at a time, no branch that depends on the data.
//!
//! Eight rows go down one tree together, so that eight loads are under way where one row alone would wait for each.
//! Rows that are left over go down eight trees together instead. Both add up in the trees' order.
//! Every index is masked into its array: it is right without, but a mask is cheaper than a check.

use super::flat::{EQUAL, Flat, LANES, Leaves, NAN_HITS, Node, Tree, neutral};
use super::read::{Aggregate, Transform};

/// A value for each lane.
type Lanes = [f32; LANES];

/// Levels between two looks whether all lanes have reached their leaf.
const LEVELS: u32 = 8;

/// Working memory of one ensemble; grows to what it needs and stays.
#[derive(Debug, Default)]
pub(super) struct TreeScratch {
    /// Column by column, `stride` of them for each block of rows.
    columns: Vec<Lanes>,
    /// One row with as many columns.
    row: Vec<f32>,
    /// Target by target for each block of rows.
    sums: Vec<Lanes>,
}

impl Flat {
    /// Appends the scores of some whole rows.
    pub(super) fn run(&self, scratch: &mut TreeScratch, features: &[f32], out: &mut Vec<f32>) {
        // One column more than the input has: the leaves look at it and find NaN.
        let stride = (self.width + 1).next_power_of_two();
        let mut blocks = features.chunks_exact(self.width * LANES);
        let count = blocks.len();
        scratch.columns.resize(stride * count, [f32::NAN; LANES]);
        scratch.sums.clear();
        scratch.sums.resize(self.targets * count, [neutral(self.aggregate); LANES]);
        let mut nan = false;
        for (rows, columns) in blocks.by_ref().zip(scratch.columns.chunks_exact_mut(stride)) {
            nan |= self.transpose(rows, columns);
        }
        if self.is_general(nan) {
            self.blocks::<true>(&scratch.columns, stride, &mut scratch.sums);
        } else {
            self.blocks::<false>(&scratch.columns, stride, &mut scratch.sums);
        }
        for sums in scratch.sums.chunks_exact(self.targets) {
            for lane in 0..LANES {
                self.finish(sums, lane, out);
            }
        }
        scratch.row.resize(stride, f32::NAN);
        for row in blocks.remainder().chunks_exact(self.width) {
            scratch.sums.clear();
            scratch.sums.resize(self.targets, [neutral(self.aggregate); LANES]);
            scratch.row.iter_mut().zip(row).for_each(|(slot, value)| *slot = *value);
            scratch.row.iter_mut().skip(self.width).for_each(|slot| *slot = f32::NAN);
            if self.is_general(row.iter().any(|value| value.is_nan())) {
                self.single::<true>(&scratch.row, &mut scratch.sums);
            } else {
                self.single::<false>(&scratch.row, &mut scratch.sums);
            }
            self.finish(&scratch.sums, 0, out);
        }
    }

    /// Do these rows need the flags of the nodes? A NaN misses everywhere else by itself.
    const fn is_general(&self, nan: bool) -> bool {
        self.has_equal || self.has_nan_hits && nan
    }

    /// Turns eight rows into columns; is there a NaN?
    fn transpose(&self, rows: &[f32], columns: &mut [Lanes]) -> bool {
        let mut nan = false;
        for (lane, row) in rows.chunks_exact(self.width).take(LANES).enumerate() {
            for (column, value) in columns.iter_mut().zip(row) {
                nan |= value.is_nan();
                column[lane] = *value;
            }
        }
        columns.iter_mut().skip(self.width).for_each(|column| *column = [f32::NAN; LANES]);
        nan
    }

    /// Adds up each block of rows. The trees are the outer loop, so that one stays in the cache for all blocks.
    fn blocks<const GENERAL: bool>(&self, columns: &[Lanes], stride: usize, sums: &mut [Lanes]) {
        for tree in &self.trees {
            for (columns, sums) in columns.chunks_exact(stride).zip(sums.chunks_exact_mut(self.targets)) {
                let roots = [tree.root as usize; LANES];
                let look = |column: &Lanes, lane: usize| column[lane];
                let values = descend::<GENERAL, _>(&self.nodes, columns, roots, tree.depth, look);
                match tree.leaves {
                    Leaves::Target(target) => add(self.aggregate, &mut sums[target as usize], &values),
                    Leaves::Rows => {
                        for (lane, value) in values.iter().enumerate() {
                            self.add_row(sums, lane, *value);
                        }
                    }
                }
            }
        }
    }

    /// Adds up one row in lane 0.
    fn single<const GENERAL: bool>(&self, row: &[f32], sums: &mut [Lanes]) {
        for trees in self.trees.chunks(LANES) {
            let mut roots = [0; LANES];
            roots.iter_mut().zip(trees).for_each(|(root, tree)| *root = tree.root as usize);
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or_default();
            let values = descend::<GENERAL, _>(&self.nodes, row, roots, depth, |value, _| *value);
            for (Tree { leaves, .. }, value) in trees.iter().zip(values) {
                match leaves {
                    Leaves::Target(target) => {
                        let sum = &mut sums[*target as usize][0];
                        *sum = combine(self.aggregate, *sum, value);
                    }
                    Leaves::Rows => self.add_row(sums, 0, value),
                }
            }
        }
    }

    /// Adds the row of the table that a leaf's value names.
    fn add_row(&self, sums: &mut [Lanes], lane: usize, value: f32) {
        let start = value.to_bits() as usize * self.targets;
        let weights = self.table.get(start..start + self.targets).unwrap_or_default();
        for (sum, weight) in sums.iter_mut().zip(weights) {
            sum[lane] = combine(self.aggregate, sum[lane], *weight);
        }
    }

    /// Appends the scores of one lane.
    fn finish(&self, sums: &[Lanes], lane: usize, out: &mut Vec<f32>) {
        let start = out.len();
        #[expect(clippy::cast_precision_loss, reason = "ONNX Runtime divides by the same float")]
        let trees = self.trees.len() as f32;
        for (target, sum) in sums.iter().enumerate() {
            let base = self.base.get(target).copied().unwrap_or_default();
            out.push(match self.aggregate {
                Aggregate::Sum => sum[lane] + base,
                Aggregate::Average => sum[lane] / trees + base,
                // No leaf spoke for this target.
                Aggregate::Min | Aggregate::Max if sum[lane].is_infinite() => 0.0,
                Aggregate::Min | Aggregate::Max => sum[lane] + base,
            });
        }
        let Some(scores) = out.get_mut(start..) else { return };
        match self.transform {
            Transform::None => {}
            Transform::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Transform::Softmax => softmax(scores),
            Transform::Complement | Transform::LogisticPair => {
                let [score] = scores else { return };
                let (first, second) = match self.transform {
                    Transform::LogisticPair => (logistic(-*score), logistic(*score)),
                    _ => (1.0 - *score, *score),
                };
                *score = first;
                out.push(second);
            }
        }
    }
}

/// Eight descents from `at`; `look` gives the value of a column for a lane. Gives the leaves' values.
#[inline(always)]
fn descend<const GENERAL: bool, C>(
    nodes: &[Node],
    columns: &[C],
    mut at: [usize; LANES],
    depth: u32,
    look: impl Fn(&C, usize) -> f32,
) -> Lanes {
    // Says to the compiler, too, that the masks keep every index inside.
    if nodes.is_empty() || columns.is_empty() {
        return [0.0; LANES];
    }
    let (mask, column_mask) = (nodes.len() - 1, columns.len() - 1);
    let mut left = depth;
    loop {
        for _ in 0..left.min(LEVELS) {
            for (lane, at) in at.iter_mut().enumerate() {
                let node = nodes[*at & mask];
                let hit = hits::<GENERAL>(node, look(&columns[usize::from(node.feature) & column_mask], lane));
                *at = at.wrapping_add(usize::from(node.step)).wrapping_sub(usize::from(hit));
            }
        }
        left = left.saturating_sub(LEVELS);
        if left == 0 || at.iter().all(|at| nodes[*at & mask].step == 0) {
            let mut values = [0.0; LANES];
            for (value, at) in values.iter_mut().zip(at) {
                *value = nodes[at & mask].threshold;
            }
            return values;
        }
    }
}

#[inline(always)]
fn hits<const GENERAL: bool>(node: Node, x: f32) -> bool {
    if !GENERAL {
        return x <= node.threshold;
    }
    let equal = node.feature & EQUAL != 0;
    let nan_hits = node.feature & NAN_HITS != 0;
    (equal & (x == node.threshold)) | (!equal & (x <= node.threshold)) | (nan_hits & x.is_nan())
}

#[inline(always)]
fn combine(aggregate: Aggregate, sum: f32, value: f32) -> f32 {
    match aggregate {
        Aggregate::Sum | Aggregate::Average => sum + value,
        Aggregate::Min if value < sum => value,
        Aggregate::Max if value > sum => value,
        Aggregate::Min | Aggregate::Max => sum,
    }
}

fn add(aggregate: Aggregate, sums: &mut Lanes, values: &Lanes) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = combine(aggregate, *sum, *value);
    }
}

/// 1 / (1 + exp(-x)), without overflow, as ONNX Runtime's tree operators compute it.
pub(super) fn logistic(x: f32) -> f32 {
    let positive = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - positive } else { positive }
}

/// exp(x) / sum of exp(x) in place, shifted by the largest so that nothing overflows.
pub(super) fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}
