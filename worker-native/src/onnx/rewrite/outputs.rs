//! What exporters put at the end of a graph: maps of probabilities, a reshape that forgets columns, labels.
//!
//! Owns these three patterns. The first two change what a caller sees, and so report it.

use super::super::graph::{int, ints, is_standard, strings};
use super::super::proto::tensor_proto::data_type;
use super::super::proto::tensor_shape_proto::{Dimension, dimension};
use super::super::proto::{TensorShapeProto, TypeProto, type_proto};
use super::build;
use super::column::Column;
use super::edit::{Editor, ML};
use super::{Classes, Repaired, Unzipped};

/// `ZipMap` taken out: the output keeps its name and becomes a tensor `[rows, classes]` of float32.
pub(super) fn unzip(editor: &mut Editor) -> Vec<Unzipped> {
    let mut done = Vec::new();
    for number in editor.of_kind("ZipMap") {
        let Some(node) = editor.node(number).filter(|node| node.domain() == ML) else { continue };
        let ([source], [output]) = (&node.input[..], &node.output[..]) else { continue };
        let (Ok(numbers), Ok(names)) = (ints(node, "classlabels_int64s"), strings(node, "classlabels_strings")) else {
            continue;
        };
        let classes = if numbers.is_empty() {
            Classes::Names(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
        } else {
            Classes::Numbers(numbers.to_vec())
        };
        let (source, output) = (source.clone(), output.clone());
        let Ok(count) = i64::try_from(classes.count()) else { continue };
        let Some(value) = editor.output_mut(&output) else { continue };
        value.r#type = Some(tensor_type(&[None, Some(count)]));
        if !editor.bypass(number) {
            editor.replace(number, vec![build::node("Identity", "", &[&source], &[&output])]);
        }
        done.push(Unzipped { output, classes });
    }
    done
}

fn tensor_type(shape: &[Option<i64>]) -> TypeProto {
    let axis = |dim: &Option<i64>| Dimension { value: dim.map(dimension::Value::DimValue), denotation: None };
    let shape = TensorShapeProto { dim: shape.iter().map(axis).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(data_type::FLOAT), shape: Some(shape) };
    TypeProto { value: Some(type_proto::Value::Tensor(tensor)), ..TypeProto::default() }
}

/// `Reshape(-1, 1)` behind a layer of several outputs: skl2onnx writes it for every `MLPRegressor`, so a network of
/// seven outputs answers seven rows for one. It becomes `Reshape(-1, outputs)`.
pub(super) fn repair_reshapes(editor: &mut Editor) -> Vec<Repaired> {
    let mut done = Vec::new();
    for number in editor.of_kind("Reshape") {
        let Some(node) = editor.node(number).filter(|node| is_standard(node)) else { continue };
        let ([source, shape], [output]) = (&node.input[..], &node.output[..]) else { continue };
        if !editor.is_output(output) || editor.whole_numbers(shape).as_deref() != Some(&[-1, 1]) {
            continue;
        }
        let Some(columns) = columns(editor, source, 16).filter(|columns| *columns > 1) else { continue };
        let Ok(wide) = i64::try_from(columns) else { continue };
        let output = output.clone();
        let shape = editor.add_constant("repaired_shape", build::whole_numbers(&[-1, wide]));
        editor.set_input(number, 1, &shape);
        if let Some(value) = editor.output_mut(&output) {
            let declared = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
            if let Some(type_proto::Value::Tensor(tensor)) = declared {
                tensor.shape = tensor_type(&[None, Some(wide)]).value.and_then(|value| match value {
                    type_proto::Value::Tensor(tensor) => tensor.shape,
                    _ => None,
                });
            }
        }
        done.push(Repaired { output, columns });
    }
    done
}

/// How many columns a value of two axes has, told from the weights it was multiplied with.
fn columns(editor: &Editor, name: &str, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let node = editor.producer(name).filter(|node| is_standard(node))?;
    let first = node.input.first()?;
    match node.op_type() {
        "Identity" | "Cast" | "Relu" | "Tanh" | "Sigmoid" | "Softmax" => columns(editor, first, depth),
        "Add" => {
            let wide = columns(editor, first, depth)?;
            let (shape, _) = editor.constant(node.input.get(1)?)?;
            let fits = shape.last().is_none_or(|last| *last == 1 || *last == wide);
            (shape.len() <= 2 && fits).then_some(wide)
        }
        kind @ ("MatMul" | "Gemm") => {
            let (shape, _) = editor.constant(node.input.get(1)?)?;
            let turned = kind == "Gemm" && int(node, "transB").ok()?.unwrap_or(0) != 0;
            if let [rows, columns] = shape[..] { Some(if turned { rows } else { columns }) } else { None }
        }
        _ => None,
    }
}

/// `Cast(condition) * a + b` in whole numbers, the label of scikit-learn's detectors, as one `Where`; says how many.
pub(super) fn shorten_labels(editor: &mut Editor) -> usize {
    // Before version 9 there is no `Where`.
    if editor.opset("") < 9 {
        return 0;
    }
    let mut done = 0;
    while let Some((last, condition, output, [yes, no])) =
        editor.of_kind("Cast").into_iter().find_map(|number| label(editor, number))
    {
        let chosen = [yes, no].map(|value| editor.add_constant("label_value", build::whole_numbers(&[value])));
        editor.replace(last, vec![build::node("Where", "", &[&condition, &chosen[0], &chosen[1]], &[&output])]);
        editor.sweep();
        done += 1;
    }
    done
}

/// The last node of the pattern that starts with this cast, its condition, its output, and the two labels.
fn label(editor: &Editor, number: usize) -> Option<(usize, String, String, [i64; 2])> {
    let cast = editor.node(number).filter(|node| is_standard(node))?;
    let condition = cast.input.first()?;
    let asked = editor.producer(condition).is_some_and(|node| matches!(node.op_type(), "Less" | "Greater" | "Equal"));
    if !asked || int(cast, "to").ok()? != Some(i64::from(data_type::INT64)) {
        return None;
    }
    let number_of = |name: &str| match editor.constant(name)? {
        (shape, Column::I64(values)) if shape.len() <= 1 && values.len() == 1 => values.first().copied(),
        _ => None,
    };
    let (_, times) = editor.only_user(cast.output.first()?, "Mul")?;
    let (last, plus) = editor.only_user(times.output.first()?, "Add")?;
    let (factor, offset) = (number_of(times.input.get(1)?)?, number_of(plus.input.get(1)?)?);
    Some((last, condition.clone(), plus.output.first()?.clone(), [factor.checked_add(offset)?, offset]))
}
