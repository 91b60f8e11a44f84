//! From a graph to a program: which operators are known, and what shapes they may have.
//!
//! Only what `output` needs is looked at; everything else in the file, such as a label beside the probabilities,
//! may be whatever it likes. A shape is `[rows, columns]` with fixed columns, or `[rows]` alone.

use std::collections::HashMap;

use crate::onnx::graph::{self, Graph};
use crate::onnx::proto::tensor_proto::data_type;
use crate::onnx::proto::tensor_shape_proto::dimension;
use crate::onnx::proto::{NodeProto, TensorProto, ValueInfoProto, type_proto};

use super::flat::Flat;
use super::program::{Binary, Operand, Program, Step, Unary, Value};
use super::read;

/// Nodes behind the output; a graph of hundreds gains nothing from this kernel.
const MAX_STEPS: usize = 256;
/// Columns of all tables together.
const MAX_COLUMNS: usize = 1 << 16;
/// Older elementwise operators broadcast in another way.
const OLDEST_OPSET: i64 = 7;

/// A table with its shape: `[rows]` where `flat`, with one column then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    value: Value,
    flat: bool,
}

struct Loader<'a> {
    graph: &'a Graph<'a>,
    known: HashMap<&'a str, Known>,
    program: Program,
}

/// Reads the program behind `output`.
pub(super) fn program(model: &[u8], output: &str, max_bytes: usize) -> Result<Program, String> {
    let model = graph::decode(model, max_bytes).map_err(|error| error.to_string())?;
    let opset = graph::opset(&model, "").unwrap_or_default();
    if opset < OLDEST_OPSET {
        return Err(format!("its operator set is version {opset}, {OLDEST_OPSET} is the oldest that is taken"));
    }
    let proto = model.graph.unwrap_or_default();
    let graph = Graph::new(&proto).map_err(|error| error.to_string())?;
    if graph.output(output).is_none() {
        return Err(format!("it has no output {output:?}"));
    }
    let inputs: Vec<_> = graph.inputs().collect();
    let [input] = inputs[..] else { return Err(format!("it has {} inputs, one is taken", inputs.len())) };
    let width = input_width(input)?;
    let known = HashMap::from([(input.name(), Known { value: 0, flat: false })]);
    let program = Program { columns: vec![width], steps: Vec::new(), result: 0 };
    let mut loader = Loader { graph: &graph, known, program };
    for (node, number) in needed(&graph, output)? {
        let known = loader.add(node, number)?;
        if let Some(made) = node.output.get(number) {
            loader.known.insert(made, known);
        }
    }
    let result = loader.known.get(output).ok_or("its output is not made from its input")?;
    loader.program.result = result.value;
    let has_trees = loader.program.steps.iter().any(|step| matches!(step, Step::Trees { .. }));
    if has_trees { Ok(loader.program) } else { Err("there are no trees in it".to_owned()) }
}

/// The nodes that `output` needs, each after those that it needs itself, and which of its outputs is needed.
fn needed<'a>(graph: &Graph<'a>, output: &str) -> Result<Vec<(&'a NodeProto, usize)>, String> {
    let mut wanted: std::collections::HashSet<&str> = std::collections::HashSet::from([output]);
    let mut nodes = Vec::new();
    // The format promises topological order; where a file breaks it, a value is found missing later.
    for node in graph.proto().node.iter().rev() {
        let mut used = node.output.iter().enumerate().filter(|(_, name)| wanted.contains(name.as_str()));
        let Some((number, _)) = used.next() else { continue };
        if used.next().is_some() {
            return Err(format!("two outputs of {} are needed", graph::describe(node)));
        }
        if nodes.len() == MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} nodes lead to the output"));
        }
        wanted.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
        nodes.push((node, number));
    }
    nodes.retain(|(node, _)| node.op_type() != "Constant");
    nodes.reverse();
    Ok(nodes)
}

fn input_width(input: &ValueInfoProto) -> Result<usize, String> {
    let Some(type_proto::Value::Tensor(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err("its input is no tensor".to_owned());
    };
    if tensor.elem_type() != data_type::FLOAT {
        return Err(format!("its input is of type {}, float32 is taken", tensor.elem_type()));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    match dims.iter().map(|dim| dim.value.as_ref()).collect::<Vec<_>>()[..] {
        [None | Some(dimension::Value::DimParam(_)), Some(dimension::Value::DimValue(width))] => {
            let width = usize::try_from(*width).ok().filter(|width| (1..=MAX_COLUMNS).contains(width));
            width.ok_or_else(|| "its input has no columns, or too many".to_owned())
        }
        _ => Err("its input is not of shape [rows, columns] with free rows and fixed columns".to_owned()),
    }
}

impl<'a> Loader<'a> {
    fn add(&mut self, node: &'a NodeProto, output: usize) -> Result<Known, String> {
        let unsupported = || {
            let domain = if graph::is_standard(node) { "" } else { node.domain() };
            format!("{domain}{}{} is not known here", if domain.is_empty() { "" } else { "." }, graph::describe(node))
        };
        if read::is_ensemble(node) {
            return self.trees(node, output);
        }
        if node.domain() == "ai.onnx.ml" {
            return if node.op_type() == "Scaler" { self.scaler(node) } else { Err(unsupported()) };
        }
        if !graph::is_standard(node) {
            return Err(unsupported());
        }
        let unary = |with| move |from| Step::Unary { from, with };
        match node.op_type() {
            "Identity" => self.table(node, 0),
            "Cast" => {
                let to = graph::int(node, "to").map_err(|error| error.to_string())?;
                let float = to == Some(i64::from(data_type::FLOAT));
                if float { self.table(node, 0) } else { Err(format!("{} leaves float32", graph::describe(node))) }
            }
            "Reshape" | "Flatten" | "Squeeze" => self.reshape(node),
            "Neg" => self.alike(node, unary(Unary::Neg)),
            "Exp" => self.alike(node, unary(Unary::Exp)),
            "Log" => self.alike(node, unary(Unary::Log)),
            "Sqrt" => self.alike(node, unary(Unary::Sqrt)),
            "Abs" => self.alike(node, unary(Unary::Abs)),
            "Sigmoid" => self.alike(node, unary(Unary::Sigmoid)),
            "Softmax" => {
                self.last_axis(node)?;
                self.alike(node, |from| Step::Softmax { from })
            }
            "Add" => self.binary(node, Binary::Add),
            "Sub" => self.binary(node, Binary::Sub),
            "Mul" => self.binary(node, Binary::Mul),
            "Div" => self.binary(node, Binary::Div),
            "Pow" => self.binary(node, Binary::Pow),
            "Concat" => self.concat(node),
            "Gather" => self.gather(node),
            _ => Err(unsupported()),
        }
    }

    fn input(&self, node: &'a NodeProto, number: usize) -> Result<&'a str, String> {
        let name = node.input.get(number).map(String::as_str).filter(|name| !name.is_empty());
        name.ok_or_else(|| format!("{} lacks input {number}", graph::describe(node)))
    }

    /// The table that is an input of a node.
    fn table(&self, node: &'a NodeProto, number: usize) -> Result<Known, String> {
        let name = self.input(node, number)?;
        self.known.get(name).copied().ok_or_else(|| format!("{}: {name:?} is no table", graph::describe(node)))
    }

    /// The table with two axes that is an input of a node.
    fn matrix(&self, node: &'a NodeProto, number: usize) -> Result<Value, String> {
        let known = self.table(node, number)?;
        if known.flat { Err(format!("{} of shape [rows]", graph::describe(node))) } else { Ok(known.value) }
    }

    fn columns(&self, value: Value) -> usize {
        self.program.columns.get(value).copied().unwrap_or_default()
    }

    fn push(&mut self, step: Step, columns: usize, flat: bool) -> Result<Known, String> {
        let all = self.program.columns.iter().sum::<usize>().saturating_add(columns);
        if all > MAX_COLUMNS {
            return Err(format!("its tables have more than {MAX_COLUMNS} columns"));
        }
        self.program.steps.push(step);
        self.program.columns.push(columns);
        Ok(Known { value: self.program.steps.len(), flat })
    }

    fn alike(&mut self, node: &'a NodeProto, step: impl FnOnce(Value) -> Step) -> Result<Known, String> {
        let known = self.table(node, 0)?;
        self.push(step(known.value), self.columns(known.value), known.flat)
    }

    fn trees(&mut self, node: &'a NodeProto, output: usize) -> Result<Known, String> {
        let from = self.matrix(node, 0)?;
        let raw = read::ensemble(node, output)?;
        let trees =
            Flat::new(&raw, self.columns(from)).map_err(|error| format!("{}: {error}", graph::describe(node)))?;
        let columns = trees.columns();
        self.push(Step::Trees { from, trees }, columns, false)
    }
    fn binary(&mut self, node: &'a NodeProto, with: Binary) -> Result<Known, String> {
        let (left, right) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let flat = match (&left.0, &right.0) {
            (Operand::Constant(_), Operand::Constant(_)) => Err("two constants are combined"),
            (Operand::Table(_), Operand::Table(_)) if left.1 != right.1 => Err("[rows] meets [rows, columns]"),
            (Operand::Table(_), _) => Ok(left.1),
            (_, Operand::Table(_)) => Ok(right.1),
        };
        let flat = flat.map_err(|reason| format!("{}: {reason}", graph::describe(node)))?;
        let wide = |operand: &Operand| match operand {
            Operand::Table(value) => self.columns(*value),
            Operand::Constant(values) => values.len(),
        };
        let columns = match (wide(&left.0), wide(&right.0)) {
            (1, columns) | (columns, 1) if columns > 0 => columns,
            (left, right) if left == right && left > 0 => left,
            (left, right) => return Err(format!("{}: {left} columns meet {right}", graph::describe(node))),
        };
        if flat && columns > 1 {
            return Err(format!("{}: [rows] meets {columns} columns", graph::describe(node)));
        }
        self.push(Step::Binary { left: left.0, right: right.0, with }, columns, flat)
    }

    /// A table and whether it is flat, or a constant; a constant must not reach into the rows.
    fn operand(&self, node: &'a NodeProto, number: usize) -> Result<(Operand, bool), String> {
        let Some(tensor) = self.graph.constant(self.input(node, number)?) else {
            let known = self.table(node, number)?;
            return Ok((Operand::Table(known.value), known.flat));
        };
        let flat = self.table(node, 1 - number).is_ok_and(|other| other.flat);
        let values = graph::values_f32(tensor).map_err(|error| error.to_string())?;
        match tensor.dims[..] {
            [] | [1] => Ok((Operand::Constant(values), flat)),
            [_] | [1, _] if !flat => Ok((Operand::Constant(values), flat)),
            _ => Err(format!("{}: a constant of shape {:?}", graph::describe(node), tensor.dims)),
        }
    }

    /// ai.onnx.ml's `Scaler`: (x - offset) × scale.
    fn scaler(&mut self, node: &'a NodeProto) -> Result<Known, String> {
        let mut value = self.matrix(node, 0)?;
        let columns = self.columns(value);
        for (name, with) in [("offset", Binary::Sub), ("scale", Binary::Mul)] {
            let values = graph::floats(node, name).map_err(|error| error.to_string())?.to_vec();
            if values.len() != columns && values.len() != 1 {
                return Err(format!("{}: {} values of {name}", graph::describe(node), values.len()));
            }
            let (left, right) = (Operand::Table(value), Operand::Constant(values));
            value = self.push(Step::Binary { left, right, with }, columns, false)?.value;
        }
        Ok(Known { value, flat: false })
    }

    /// `Reshape`, `Flatten` and `Squeeze` that leave every row its values.
    fn reshape(&self, node: &'a NodeProto) -> Result<Known, String> {
        let known = self.table(node, 0)?;
        let columns = i64::try_from(self.columns(known.value)).unwrap_or(i64::MAX);
        let say = |error: graph::GraphError| error.to_string();
        let attribute = graph::ints(node, "axes").map_err(say)?;
        let given = match node.input.get(1).and_then(|name| self.graph.constant(name)) {
            Some(tensor) => graph::values_i64(tensor).map_err(say)?,
            None => attribute.to_vec(),
        };
        let keeps_zero = graph::int(node, "allowzero").map_err(say)?.unwrap_or(0) == 0;
        let axis = graph::int(node, "axis").map_err(say)?.unwrap_or(1);
        let flat = match (node.op_type(), &given[..]) {
            ("Reshape", [-1, wide]) if *wide == columns => Some(false),
            ("Reshape", [0, wide]) if keeps_zero && (*wide == columns || *wide == -1) => Some(false),
            ("Reshape", [-1]) if columns == 1 => Some(true),
            ("Squeeze", [1 | -1]) if columns == 1 && !known.flat => Some(true),
            ("Flatten", []) if axis == 1 => Some(false),
            _ => None,
        };
        flat.map(|flat| Known { value: known.value, flat })
            .ok_or_else(|| format!("{} of {columns} columns to {given:?}", graph::describe(node)))
    }

    fn last_axis(&self, node: &'a NodeProto) -> Result<(), String> {
        self.matrix(node, 0)?;
        match graph::int(node, "axis").map_err(|error| error.to_string())? {
            Some(1 | -1) => Ok(()),
            // Left out, it was the second axis up to version 12 and is the last one since.
            None if node.op_type() == "Softmax" => Ok(()),
            other => Err(format!("{} along axis {other:?}", graph::describe(node))),
        }
    }

    fn concat(&mut self, node: &'a NodeProto) -> Result<Known, String> {
        self.last_axis(node)?;
        let count = node.input.len();
        let from = (0..count).map(|number| self.matrix(node, number)).collect::<Result<Vec<_>, _>>()?;
        let columns = from.iter().map(|value| self.columns(*value)).sum();
        self.push(Step::Join { from }, columns, false)
    }

    fn gather(&mut self, node: &'a NodeProto) -> Result<Known, String> {
        self.last_axis(node)?;
        let (from, name) = (self.matrix(node, 0)?, self.input(node, 1)?);
        let known = self.graph.constant(name).filter(|tensor| tensor.dims.len() < 2);
        let tensor: &TensorProto = known.ok_or_else(|| format!("{}: no plain list", graph::describe(node)))?;
        let all = self.columns(from);
        let column = |index: i64| {
            let back = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
            let column = if index < 0 { all.checked_sub(back) } else { Some(back) };
            column.filter(|column| *column < all).ok_or_else(|| format!("{}: no column {index}", graph::describe(node)))
        };
        let indices = graph::values_i64(tensor).map_err(|error| error.to_string())?;
        let columns = indices.into_iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let flat = tensor.dims.is_empty();
        if !flat && columns.iter().copied().eq(0..all) {
            return Ok(Known { value: from, flat });
        }
        let count = columns.len();
        if count == 0 {
            return Err(format!("{} of no column", graph::describe(node)));
        }
        self.push(Step::Select { from, columns }, count, flat)
    }
}
