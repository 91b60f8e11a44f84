//! Clean-ups that are exact for any graph: `Identity`, casts to the type a value has already, what nobody needs.

use super::super::graph::{int, ints, is_standard};
use super::super::proto::tensor_proto::data_type;
use super::super::proto::type_proto;
use super::edit::{Editor, ML};

/// How many nodes each clean-up took out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cleaned {
    /// `Identity` nodes.
    pub identities: usize,
    /// `Cast` nodes that changed nothing.
    pub casts: usize,
    /// Nodes that no output needs.
    pub dead: usize,
}

impl Cleaned {
    /// Adds the numbers of a second round.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            identities: self.identities + other.identities,
            casts: self.casts + other.casts,
            dead: self.dead + other.dead,
        }
    }
}

/// Cleans once.
pub(super) fn clean(editor: &mut Editor) -> Cleaned {
    let mut done = Cleaned::default();
    for number in editor.of_kind("Identity") {
        done.identities += usize::from(editor.node(number).is_some_and(is_standard) && editor.bypass(number));
    }
    for number in editor.of_kind("Cast") {
        done.casts += usize::from(is_idle(editor, number) && editor.bypass(number));
    }
    done.dead = editor.sweep();
    done
}

fn is_idle(editor: &Editor, number: usize) -> bool {
    let Some(cast) = editor.node(number).filter(|node| is_standard(node)) else { return false };
    let source = cast.input.first().and_then(|name| element_type(editor, name, 64));
    source.is_some() && source.map(i64::from) == int(cast, "to").ok().flatten()
}

/// The element type of a value, where it can be told without running the graph.
fn element_type(editor: &Editor, name: &str, depth: usize) -> Option<i32> {
    let depth = depth.checked_sub(1)?;
    if let Some(tensor) = editor.initialiser(name) {
        return Some(tensor.data_type());
    }
    if let Some(input) = editor.input(name) {
        return match input.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::Tensor(tensor) => tensor.elem_type,
            _ => None,
        };
    }
    let node = editor.producer(name)?;
    match (node.domain(), node.op_type()) {
        ("" | "ai.onnx", "Cast") => int(node, "to").ok()?.and_then(|to| i32::try_from(to).ok()),
        // The type of these follows their first input.
        (
            "" | "ai.onnx",
            "Identity" | "Add" | "Sub" | "Mul" | "Div" | "Neg" | "Abs" | "Exp" | "Sqrt" | "Relu" | "Tanh" | "Sigmoid"
            | "Softmax" | "MatMul" | "Gemm" | "Reshape" | "Gather" | "Transpose" | "Concat" | "Squeeze" | "Unsqueeze"
            | "Flatten" | "ReduceMean",
        ) => element_type(editor, node.input.first()?, depth),
        (ML, "Scaler" | "Normalizer" | "LinearRegressor" | "SVMRegressor" | "TreeEnsembleRegressor") => {
            Some(data_type::FLOAT)
        }
        (ML, "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier") => {
            if node.output.first().is_none_or(|label| label != name) {
                return Some(data_type::FLOAT);
            }
            let numbers = ["classlabels_ints", "classlabels_int64s"];
            let counted = numbers.iter().any(|list| ints(node, list).is_ok_and(|labels| !labels.is_empty()));
            counted.then_some(data_type::INT64)
        }
        _ => None,
    }
}
