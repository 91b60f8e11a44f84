//! Distances to stored rows, computed in a loop: skl2onnx writes neighbours and outlier factors (LOF) that way.
//!
//! Owns the pattern `Scan` over the stored rows, `Transpose`, and where the distance is Euclidean `Sqrt`, and the two
//! forms that take its place. `CDist` of com.microsoft is what the exporter's own option `optim="cdist"` writes. It
//! computes `|x|^2 - 2 xy + |y|^2`, which loses digits where the rows lie far from the origin; so both sides are moved
//! to the middle of the stored rows first, which changes no distance. The exact form subtracts and squares like the
//! loop does, all rows at once: the same bits, as fast for one row, slower for many.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::graph::{attribute, int, ints, is_standard, values_i64};
use super::super::proto::{GraphProto, NodeProto, TensorProto};
use super::build;
use super::column::Column;
use super::edit::Editor;

/// What takes the place of a loop over distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distances {
    /// `CDist`: fastest; the last digits differ.
    CDist,
    /// One subtraction of all pairs: the same bits.
    Exact,
    /// The loop stays.
    Loop,
}

/// Values of all differences of one row, at most, in the exact form: it holds them all, for each row of a batch.
const WIDEST: usize = 1 << 15;

/// Rewrites every such loop; says how many there were.
pub(super) fn replace_loops(editor: &mut Editor, form: Distances) -> usize {
    let mut done = 0;
    while let Some((last, found)) = editor.of_kind("Scan").into_iter().find_map(|number| find(editor, number, form)) {
        let made = match form {
            Distances::CDist => cdist(editor, &found),
            Distances::Exact => all_pairs(editor, &found),
            Distances::Loop => break,
        };
        editor.replace(last, made);
        editor.sweep();
        done += 1;
    }
    done
}

/// A loop, and what is needed to do without it.
struct Found {
    rows: String,
    points: String,
    output: String,
    root: bool,
}

fn cdist(editor: &mut Editor, found: &Found) -> Vec<NodeProto> {
    let mut nodes = Vec::new();
    let (mut rows, mut points) = (found.rows.clone(), found.points.clone());
    if let Some((middle, moved)) = editor.constant(&points).and_then(|(shape, values)| centred(&shape, &values)) {
        let middle = editor.add_constant("middle", middle);
        points = editor.add_constant("points_from_middle", moved);
        let from_middle = editor.fresh("rows_from_middle");
        nodes.push(build::node("Sub", "", &[&rows, &middle], &[&from_middle]));
        rows = from_middle;
    }
    let mut node = build::node("CDist", "com.microsoft", &[&rows, &points], &[&found.output]);
    node.attribute.push(build::text("metric", if found.root { "euclidean" } else { "sqeuclidean" }));
    nodes.push(node);
    editor.import("com.microsoft", 1);
    nodes
}

/// The middle of the stored rows and the rows seen from there, where that is worth a further node: where the middle
/// is further from the origin than the rows are from the middle.
fn centred(shape: &[usize], values: &Column) -> Option<(TensorProto, TensorProto)> {
    let [count, width] = *shape else { return None };
    let double = matches!(values, Column::F64(_));
    let values: Vec<f64> = match values {
        Column::F32(values) => values.iter().copied().map(f64::from).collect(),
        Column::F64(values) => values.clone(),
        Column::I64(_) | Column::Bool(_) => return None,
    };
    if count == 0 || width == 0 {
        return None;
    }
    let mut middle = vec![0.0; width];
    for row in values.chunks_exact(width) {
        middle.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of rows is far below 2^53")]
    middle.iter_mut().for_each(|sum| *sum /= count as f64);
    if !double {
        // The rows are moved by what float32 has of the middle, both sides by the same.
        #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
        middle.iter_mut().for_each(|value| *value = f64::from(*value as f32));
    }
    let moved: Vec<f64> = values
        .chunks_exact(width)
        .flat_map(|row| row.iter().zip(&middle).map(|(value, middle)| value - middle))
        .collect();
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let far = squares(&middle) > squares(&moved) / count as f64;
    (far && moved.iter().all(|value| value.is_finite()))
        .then(|| (build::reals(&[width], &middle, double), build::reals(&[count, width], &moved, double)))
}

fn all_pairs(editor: &mut Editor, found: &Found) -> Vec<NodeProto> {
    let opset = editor.opset("");
    let [wide, difference, squared] = ["each_row", "differences", "squared"].map(|part| editor.fresh(part));
    let mut axis = |node: &mut NodeProto, axis: i64, as_input: bool| {
        if as_input {
            node.input.push(editor.add_constant("axis", build::whole_numbers(&[axis])));
        } else {
            node.attribute.push(build::ints("axes", vec![axis]));
        }
    };
    let mut unsqueeze = build::node("Unsqueeze", "", &[&found.rows], &[&wide]);
    axis(&mut unsqueeze, 1, opset >= 13);
    let subtract = build::node("Sub", "", &[&wide, &found.points], &[&difference]);
    let sum = if found.root { &squared } else { &found.output };
    let mut reduce = build::node("ReduceSumSquare", "", &[&difference], &[sum]);
    axis(&mut reduce, 2, opset >= 18);
    reduce.attribute.push(build::int("keepdims", 0));
    let mut nodes = vec![unsqueeze, subtract, reduce];
    if found.root {
        nodes.push(build::node("Sqrt", "", &[&squared], &[&found.output]));
    }
    nodes
}

/// The last node of the pattern that starts with this loop, and the pattern.
fn find(editor: &Editor, number: usize, form: Distances) -> Option<(usize, Found)> {
    let scan = editor.node(number).filter(|scan| is_standard(scan) && squares(editor, scan))?;
    let ([rows, points], [state, found]) = (&scan.input[..], &scan.output[..]) else { return None };
    let (shape, values) = editor.constant(points)?;
    let fits = form != Distances::Exact || values.len() <= WIDEST;
    if shape.len() != 2 || !fits || !(state.is_empty() || editor.is_unused(state)) {
        return None;
    }
    let (turn, transpose) = editor.only_user(found, "Transpose")?;
    let order = ints(transpose, "perm").ok()?;
    // Without an order, Transpose turns all axes round: the same for two.
    if !(order.is_empty() || order == [1, 0]) {
        return None;
    }
    let turned = transpose.output.first()?;
    let root = editor.only_user(turned, "Sqrt");
    let (last, output) = match root {
        Some((last, root)) => (last, root.output.first()?),
        None => (turn, turned),
    };
    let found = Found { rows: rows.clone(), points: points.clone(), output: output.clone(), root: root.is_some() };
    Some((last, found))
}

/// Does each turn of the loop add up `(rows - point)^2` over the columns, and nothing else?
fn squares(editor: &Editor, scan: &NodeProto) -> bool {
    let directed = ["scan_input_axes", "scan_output_axes", "scan_input_directions", "scan_output_directions"]
        .iter()
        .any(|name| ints(scan, name).is_ok_and(|values| values.iter().any(|value| *value != 0)));
    let one = int(scan, "num_scan_inputs").is_ok_and(|count| count == Some(1));
    let body = attribute(scan, "body").and_then(|body| body.g.as_deref());
    !directed && one && body.is_some_and(|body| body_squares(editor, body).unwrap_or(false))
}

fn body_squares(editor: &Editor, body: &GraphProto) -> Option<bool> {
    let makers: HashMap<&str, &NodeProto> =
        body.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    let origin = |name: &str| {
        let mut name = name.to_owned();
        // As many steps as nodes, so that a circle ends.
        for _ in &body.node {
            match makers.get(name.as_str()).filter(|node| node.op_type() == "Identity") {
                Some(node) => node.input.first()?.clone_into(&mut name),
                None => break,
            }
        }
        Some(name)
    };
    let ([rows, point], [state, found]) = (&body.input[..], &body.output[..]) else { return None };
    let sum = makers.get(origin(found.name())?.as_str()).filter(|node| node.op_type() == "ReduceSumSquare")?;
    let axes = match sum.input.get(1) {
        Some(axes) => match body.initializer.iter().find(|tensor| tensor.name() == axes) {
            Some(tensor) => values_i64(tensor).ok()?,
            None => editor.whole_numbers(axes)?,
        },
        None => ints(sum, "axes").ok()?.to_vec(),
    };
    let difference = makers.get(origin(sum.input.first()?)?.as_str()).filter(|node| node.op_type() == "Sub")?;
    let [left, right] = &difference.input[..] else { return None };
    let (left, right) = (origin(left)?, origin(right)?);
    let pair = [left.as_str(), right.as_str()];
    let both = pair == [rows.name(), point.name()] || pair == [point.name(), rows.name()];
    let flat = matches!(axes[..], [1 | -1]) && int(sum, "keepdims").ok()? == Some(0);
    Some(both && flat && origin(state.name())? == rows.name())
}
