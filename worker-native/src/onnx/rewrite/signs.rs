//! Changes of sign that cost a node of their own, taken into the node beside them.
//!
//! Owns two patterns of detectors: `Neg(x / c)` is `x / -c`, and `-z + o` is `o - z`. Both are exact: a sign changes no
//! other bit of a float, and rounding is the same on both sides of zero.

use super::super::graph::is_standard;
use super::super::proto::NodeProto;
use super::build;
use super::column::Column;
use super::edit::Editor;

/// Rewrites both patterns; says how many nodes it saved.
pub(super) fn fold(editor: &mut Editor) -> usize {
    let mut done = 0;
    while let Some((last, made, constant)) = ["Div", "Mul", "Neg"]
        .into_iter()
        .flat_map(|kind| editor.of_kind(kind))
        .find_map(|number| into_constant(editor, number).or_else(|| into_difference(editor, number)))
    {
        let mut made = made;
        if let Some((shape, value, double)) = constant {
            let name = editor.add_constant("turned", build::reals(&shape, &[value], double));
            made.input.push(name);
        }
        editor.replace(last, vec![made]);
        editor.sweep();
        done += 1;
    }
    done
}

/// The node to replace, what takes its place, and a constant that becomes its last input: shape, value, is it float64?
type Folded = (usize, NodeProto, Option<(Vec<usize>, f64, bool)>);

/// One number of a constant, as float64, which holds every float32.
fn number(editor: &Editor, name: &str) -> Option<(Vec<usize>, f64, bool)> {
    match editor.constant(name)? {
        (shape, Column::F32(values)) => Some((shape, f64::from(*values.first().filter(|_| values.len() == 1)?), false)),
        (shape, Column::F64(values)) => Some((shape, *values.first().filter(|_| values.len() == 1)?, true)),
        (_, Column::I64(_) | Column::Bool(_)) => None,
    }
}

/// `Neg(Div(x, c))` and `Neg(Mul(x, c))`: the constant changes its sign.
fn into_constant(editor: &Editor, at: usize) -> Option<Folded> {
    let node = editor.node(at).filter(|node| is_standard(node) && matches!(node.op_type(), "Div" | "Mul"))?;
    let ([x, c], [made]) = (&node.input[..], &node.output[..]) else { return None };
    let (shape, value, double) = number(editor, c)?;
    let (last, neg) = editor.only_user(made, "Neg")?;
    let turned = build::node(node.op_type(), "", &[x], &[neg.output.first()?]);
    Some((last, turned, Some((shape, -value, double))))
}

/// `Neg(z) + o` and `z * -1 + o` with a constant `o`: one difference.
fn into_difference(editor: &Editor, at: usize) -> Option<Folded> {
    let node = editor.node(at).filter(|node| is_standard(node))?;
    let (z, axes) = match (node.op_type(), &node.input[..]) {
        ("Neg", [z]) => (z, 0),
        ("Mul", [z, factor]) => {
            let (shape, value, _) = number(editor, factor)?;
            (z, (value == -1.0).then_some(shape.len())?)
        }
        _ => return None,
    };
    let (last, sum) = editor.only_user(node.output.first()?, "Add")?;
    let [left, right] = &sum.input[..] else { return None };
    let offset = if node.output.first() == Some(left) { right } else { left };
    // The offset must give the result all axes that the factor gave it.
    let fits = editor.constant(offset).is_some_and(|(shape, _)| shape.len() >= axes) && left != right;
    fits.then(|| Some((last, build::node("Sub", "", &[offset, z], &[sum.output.first()?]), None)))?
}
