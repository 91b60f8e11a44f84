//! Random forests as ONNX files, with any mode, aggregate and transform.

use super::Dice;
use super::build::{attribute, constant, floats, int, ints, model, node, tensor, text, whole};
use crate::engine::trees::read::Mode;
use crate::onnx::proto::attribute_proto::attribute_type;
use crate::onnx::proto::tensor_proto::data_type;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};

/// How the trees grow.
pub(super) struct Forest<'a> {
    pub(super) trees: usize,
    pub(super) depth: usize,
    pub(super) width: usize,
    pub(super) modes: &'a [Mode],
    pub(super) missing: bool,
    /// Every leaf has a weight for each target, else for one.
    pub(super) all_targets: bool,
    pub(super) seed: u64,
}

impl Default for Forest<'_> {
    fn default() -> Self {
        Self { trees: 21, depth: 7, width: 5, modes: &[Mode::Leq], missing: false, all_targets: true, seed: 42 }
    }
}

struct Grown {
    feature: i64,
    mode: Option<Mode>,
    threshold: f32,
    missing: i64,
    yes: usize,
    no: usize,
}

const NAMES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];

fn number(mode: Mode) -> usize {
    [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Eq, Mode::Neq].iter().position(|known| *known == mode).unwrap()
}

impl Forest<'_> {
    /// One tree in preorder; half as few nodes branch with each level, but one way goes down to `depth`.
    fn grow(&self, dice: &mut Dice) -> Vec<Grown> {
        let mut nodes = Vec::new();
        self.node(&mut nodes, 0, true, dice);
        nodes
    }

    fn node(&self, nodes: &mut Vec<Grown>, level: usize, spine: bool, dice: &mut Dice) -> usize {
        let at = nodes.len();
        let branches = level < self.depth && (spine || dice.roll(level + 2) < 2);
        let mode = branches.then(|| self.modes[dice.roll(self.modes.len())]);
        // A few values often, so that equality is met; and the ends of the number line.
        let threshold = match dice.roll(12) {
            0 => f32::INFINITY,
            1 => f32::NEG_INFINITY,
            2 => 0.0,
            3 => -0.0,
            4..=7 => dice.roll(5) as f32 - 2.0,
            _ => dice.share() * 6.0 - 3.0,
        };
        let missing = i64::from(self.missing && dice.roll(2) == 0);
        let feature = i64::try_from(dice.roll(self.width)).unwrap();
        nodes.push(Grown { feature, mode, threshold, missing, yes: 0, no: 0 });
        if branches {
            let left = dice.roll(2) == 0;
            nodes[at].yes = self.node(nodes, level + 1, spine && left, dice);
            nodes[at].no = self.node(nodes, level + 1, spine && !left, dice);
        }
        at
    }

    fn by_id(&self, kind: &str, targets: usize, all_targets: bool) -> Vec<AttributeProto> {
        let mut dice = Dice(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut lists: [Vec<i64>; 9] = Default::default();
        let (mut values, mut modes, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for tree in 0..i64::try_from(self.trees).unwrap() {
            for (id, node) in (0_i64..).zip(self.grow(&mut dice)) {
                let child = |at: usize| i64::try_from(at).unwrap();
                for (list, value) in
                    [tree, id, node.feature, child(node.yes), child(node.no), node.missing].into_iter().enumerate()
                {
                    lists[list].push(value);
                }
                values.push(node.threshold);
                modes.push(node.mode.map_or("LEAF", |mode| NAMES[number(mode)]).as_bytes().to_vec());
                if node.mode.is_none() {
                    let first = dice.roll(targets);
                    for target in 0..targets {
                        if all_targets || target == first {
                            lists[6].push(tree);
                            lists[7].push(id);
                            lists[8].push(i64::try_from(target).unwrap());
                            weights.push(dice.share() - 0.4);
                        }
                    }
                }
            }
        }
        let names = ["treeids", "nodeids", "featureids", "truenodeids", "falsenodeids", "missing_value_tracks_true"];
        let mut attributes: Vec<_> =
            names.iter().zip(&lists).map(|(name, list)| ints(&format!("nodes_{name}"), list)).collect();
        for (name, list) in ["treeids", "nodeids", "ids"].iter().zip(&lists[6..]) {
            attributes.push(ints(&format!("{kind}_{name}"), list));
        }
        attributes.push(floats("nodes_values", &values));
        attributes.push(floats(&format!("{kind}_weights"), &weights));
        attributes.push(attribute("nodes_modes", attribute_type::STRINGS, |it| it.strings = modes));
        attributes
    }

    pub(super) fn regressor(&self, targets: usize, aggregate: &str, transform: &str, base: bool) -> Vec<u8> {
        let mut attributes = self.by_id("target", targets, self.all_targets);
        attributes.push(int("n_targets", i64::try_from(targets).unwrap()));
        attributes.push(text("aggregate_function", aggregate));
        attributes.push(text("post_transform", transform));
        if base {
            attributes.push(floats("base_values", &vec![0.3; targets]));
        }
        model(self.width, vec![node("ai.onnx.ml", "TreeEnsembleRegressor", &["X"], &["Y"], attributes)], &[], "Y", 3)
    }

    pub(super) fn classifier(&self, classes: usize, transform: &str, base: bool) -> Vec<u8> {
        let mut attributes = self.by_id("class", classes, true);
        attributes.push(ints("classlabels_int64s", &(0..i64::try_from(classes).unwrap()).collect::<Vec<_>>()));
        attributes.push(text("post_transform", transform));
        if base {
            attributes.push(floats("base_values", &vec![0.3; classes]));
        }
        let trees = node("ai.onnx.ml", "TreeEnsembleClassifier", &["X"], &["L", "Y"], attributes);
        model(self.width, vec![trees], &[], "Y", 3)
    }

    /// The same trees as version 5 of ai.onnx.ml writes them.
    pub(super) fn by_position(&self, targets: usize, aggregate: &str) -> Vec<u8> {
        let mut dice = Dice(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut lists: [Vec<i64>; 6] = Default::default();
        let (mut splits, mut modes, mut roots) = (Vec::new(), Vec::new(), Vec::new());
        let (mut leaf_targets, mut leaf_weights) = (Vec::new(), Vec::new());
        for _ in 0..self.trees {
            let grown = self.grow(&mut dice);
            let (inner, leaves) = (splits.len(), leaf_weights.len());
            roots.push(i64::try_from(inner).unwrap());
            let child = |at: usize| {
                let leaf = grown[at].mode.is_none();
                let before = grown[..at].iter().filter(|node| node.mode.is_none() == leaf).count();
                (i64::try_from(before + if leaf { leaves } else { inner }).unwrap(), i64::from(leaf))
            };
            for node in &grown {
                let Some(mode) = node.mode else {
                    leaf_targets.push(i64::try_from(dice.roll(targets)).unwrap());
                    leaf_weights.push(dice.share() - 0.4);
                    continue;
                };
                let (yes, no) = (child(node.yes), child(node.no));
                for (list, value) in [node.feature, yes.0, yes.1, no.0, no.1, node.missing].into_iter().enumerate() {
                    lists[list].push(value);
                }
                splits.push(node.threshold);
                modes.push(u8::try_from(number(mode)).unwrap());
            }
        }
        let names =
            ["featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs", "missing_value_tracks_true"];
        let mut attributes: Vec<_> =
            names.iter().zip(&lists).map(|(name, list)| ints(&format!("nodes_{name}"), list)).collect();
        attributes.push(ints("tree_roots", &roots));
        attributes.push(ints("leaf_targetids", &leaf_targets));
        attributes.push(tensor("leaf_weights", constant("", &leaf_weights, &[leaf_weights.len()])));
        attributes.push(tensor("nodes_splits", constant("", &splits, &[splits.len()])));
        let raw = TensorProto {
            dims: vec![i64::try_from(modes.len()).unwrap()],
            data_type: Some(data_type::UINT8),
            raw_data: Some(modes),
            ..TensorProto::default()
        };
        attributes.push(tensor("nodes_modes", raw));
        attributes.push(int("n_targets", i64::try_from(targets).unwrap()));
        let aggregate = ["AVERAGE", "SUM", "MIN", "MAX"].iter().position(|name| *name == aggregate).unwrap();
        attributes.push(int("aggregate_function", i64::try_from(aggregate).unwrap()));
        model(self.width, vec![node("ai.onnx.ml", "TreeEnsemble", &["X"], &["Y"], attributes)], &[], "Y", 5)
    }

    /// The forest with `chain` around it: nodes that make `scaled` of `X`, and `out` of `Y` with `columns` targets.
    pub(super) fn between(&self, chain: &[NodeProto], columns: usize) -> Vec<u8> {
        let mut attributes = self.by_id("target", columns, true);
        attributes.push(int("n_targets", i64::try_from(columns).unwrap()));
        let scaled = chain.iter().any(|node| node.output.iter().any(|name| name == "scaled"));
        let input = if scaled { "scaled" } else { "X" };
        let trees = node("ai.onnx.ml", "TreeEnsembleRegressor", &[input], &["Y"], attributes);
        let (before, after): (Vec<_>, Vec<_>) =
            chain.iter().cloned().partition(|node| node.input.iter().any(|name| name == "X" || name.starts_with("x_")));
        let nodes = before.into_iter().chain([trees]).chain(after).collect();
        let constants = [
            constant("two", &[2.0], &[]),
            constant("small", &[0.015], &[1]),
            constant("five", &[0.1, 0.2, 0.3, 0.4, 0.5], &[5]),
            constant("row", &[1.0, 2.0, 3.0], &[1, 3]),
            whole("column", &[-1, 1]),
            whole("all", &[-1]),
            whole("order", &[4, -2, 0, 1, 2]),
        ];
        model(self.width, nodes, &constants, "out", 3)
    }
}

/// Graphs around the trees, as our exports and scikit-learn's have them.
pub(super) fn chains() -> Vec<(&'static str, Vec<NodeProto>, usize)> {
    let op = |kind: &str, input: &[&str], output: &str| node("", kind, input, &[output], Vec::new());
    let with = |mut node: NodeProto, name: &str, value: i64| {
        node.attribute.push(int(name, value));
        node
    };
    let mut scaler = node("ai.onnx.ml", "Scaler", &["X"], &["scaled"], Vec::new());
    scaler.attribute = vec![floats("offset", &[0.1, 0.2, 0.3, 0.4, 0.5]), floats("scale", &[1.5; 5])];
    vec![
        (
            "isolation forest",
            vec![
                op("Mul", &["Y", "small"], "m"),
                op("Pow", &["two", "m"], "p"),
                op("Neg", &["p"], "n"),
                op("Sub", &["n", "small"], "out"),
            ],
            1,
        ),
        ("exp", vec![op("Exp", &["Y"], "out")], 1),
        (
            "p and 1 - p",
            vec![
                op("Sigmoid", &["Y"], "p"),
                op("Sub", &["small", "p"], "q"),
                with(op("Concat", &["q", "p"], "out"), "axis", 1),
            ],
            1,
        ),
        ("softmax", vec![with(op("Softmax", &["Y"], "out"), "axis", -1)], 3),
        (
            "reshape",
            vec![
                op("Reshape", &["Y", "all"], "f"),
                op("Add", &["f", "two"], "g"),
                op("Reshape", &["g", "column"], "out"),
            ],
            1,
        ),
        ("flat", vec![op("Reshape", &["Y", "all"], "f"), op("Abs", &["f"], "out")], 1),
        ("wider", vec![op("Mul", &["Y", "row"], "out")], 1),
        ("row", vec![op("Div", &["Y", "row"], "d"), op("Mul", &["d", "Y"], "out")], 3),
        ("scaler", vec![scaler, op("Identity", &["Y"], "out")], 2),
        (
            "sub, mul",
            vec![
                op("Sub", &["X", "five"], "x_c"),
                op("Mul", &["x_c", "five"], "scaled"),
                op("Sqrt", &["Y"], "s"),
                op("Log", &["two"], "unused"),
                op("Pow", &["Y", "two"], "out"),
            ],
            2,
        ),
        (
            "gather",
            vec![
                with(op("Gather", &["X", "order"], "x_g"), "axis", 1),
                with(op("Cast", &["x_g"], "scaled"), "to", 1),
                with(op("Flatten", &["Y"], "out"), "axis", 1),
            ],
            2,
        ),
    ]
}
