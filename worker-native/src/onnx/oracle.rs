//! Runs any model with ONNX Runtime, to compare two of them and to time them.
//!
//! Beside `engine::runtime` the only place of the service that names `ort`: the engine's runners know the tensors that tasks have,
//! this one takes what a foreign export brings, lists of maps included, and need not be fast. It serves the tools
//! under `models_cli` in their own process, and uses the engine's environment, of which a process has one.

use std::ops::Range;
use std::path::Path;

use ort::session::{Session, SessionInputValue};
use ort::value::{DynMapValueType, DynValue, Tensor, TensorElementType, TensorRef, ValueType};

use crate::engine::Runtime;

/// The process's ONNX Runtime, for tools.
#[derive(Debug)]
pub(crate) struct Oracle {
    runtime: Runtime,
}

/// What an input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    /// float32.
    F32,
    /// float64.
    F64,
    /// int64.
    I64,
    /// Texts.
    Text,
}

/// One input of a model.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// Its name.
    pub(crate) name: String,
    /// What it is made of.
    pub(crate) element: Element,
    /// The axes behind the first, which counts rows.
    axes: Vec<usize>,
    /// Values in a row: the axes multiplied.
    pub(crate) width: usize,
}

/// Values for one input, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Feed {
    /// float32.
    F32(Vec<f32>),
    /// float64.
    F64(Vec<f64>),
    /// int64.
    I64(Vec<i64>),
    /// Texts.
    Text(Vec<String>),
}

/// Values of one output, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Floats; the shape is given up.
    Floats(Vec<f64>),
    /// Whole numbers, truth values and texts, in words.
    Labels(Vec<String>),
    /// One map for each row: class in words, value.
    Maps(Vec<Vec<(String, f64)>>),
}

/// One loaded model.
#[derive(Debug)]
pub(crate) struct Loaded {
    session: Session,
    inputs: Vec<Input>,
    fixed_rows: Option<usize>,
}

impl Oracle {
    /// Loads the library; `None` has it searched for as the service does.
    ///
    /// # Errors
    /// A message that says which file was tried and what to set.
    pub(crate) fn open(library: Option<&Path>) -> Result<Self, String> {
        Runtime::open(library).map(|runtime| Self { runtime })
    }

    /// Opens a model on one thread, as the service runs it.
    ///
    /// # Errors
    /// What ONNX Runtime says, or which input nobody can make rows for.
    pub(crate) fn load(&self, model: &[u8]) -> Result<Loaded, String> {
        let session = self.session(model).map_err(|error| format!("ONNX Runtime refuses it: {error}"))?;
        let mut fixed_rows = None;
        let mut inputs = Vec::new();
        for outlet in session.inputs() {
            let (input, rows) = describe(outlet.name(), outlet.dtype())?;
            if rows.is_some() && fixed_rows.is_some() && rows != fixed_rows {
                return Err(format!("input {:?} takes another number of rows than the one before", input.name));
            }
            fixed_rows = fixed_rows.or(rows);
            inputs.push(input);
        }
        Ok(Loaded { session, inputs, fixed_rows })
    }

    // Errors of the builder are not `Send`; this signature turns them into the plain kind.
    fn session(&self, model: &[u8]) -> ort::Result<Session> {
        Session::builder(self.runtime.environment())?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .commit_from_memory(model)
    }
}

/// An input, and how many rows it insists on.
fn describe(name: &str, kind: &ValueType) -> Result<(Input, Option<usize>), String> {
    let ValueType::Tensor { ty, shape, .. } = kind else {
        return Err(format!("input {name:?} is {kind}; only tensors can be filled with rows"));
    };
    let element = match ty {
        TensorElementType::Float32 => Element::F32,
        TensorElementType::Float64 => Element::F64,
        TensorElementType::Int64 => Element::I64,
        TensorElementType::String => Element::Text,
        other => return Err(format!("input {name:?} is a tensor of {other}; rows are made of floats, int64 or texts")),
    };
    let Some((first, rest)) = shape.split_first() else {
        return Err(format!("input {name:?} is a single value and has no rows"));
    };
    let axes: Vec<usize> = rest
        .iter()
        .map(|axis| usize::try_from(*axis))
        .collect::<Result<_, _>>()
        .map_err(|_| format!("input {name:?} is {kind}: only the first axis may be dynamic"))?;
    let width = axes.iter().try_fold(1_usize, |width, axis| width.checked_mul(*axis)).filter(|width| *width > 0);
    let width = width.ok_or_else(|| format!("input {name:?} is {kind}, which cannot be filled"))?;
    let rows = usize::try_from(*first).ok().filter(|rows| *rows > 0);
    Ok((Input { name: name.to_owned(), element, axes, width }, rows))
}

impl Feed {
    /// The values of some rows as a tensor.
    fn tensor(&self, input: &Input, rows: Range<usize>) -> Result<SessionInputValue<'_>, String> {
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(input.axes.iter().copied()).collect();
        let part = rows.start.saturating_mul(input.width)..rows.end.saturating_mul(input.width);
        let short = || format!("input {:?}: rows {rows:?} are not there", input.name);
        let failed = |error: ort::Error| format!("input {:?}: {error}", input.name);
        Ok(match self {
            Self::F32(all) => view(shape, all.get(part).ok_or_else(short)?).map_err(failed)?,
            Self::F64(all) => view(shape, all.get(part).ok_or_else(short)?).map_err(failed)?,
            Self::I64(all) => view(shape, all.get(part).ok_or_else(short)?).map_err(failed)?,
            Self::Text(all) => {
                let texts = all.get(part).ok_or_else(short)?;
                Tensor::from_string_array((shape, texts)).map_err(failed)?.into()
            }
        })
    }
}

fn view<T: ort::value::PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
    shape: Vec<usize>,
    values: &[T],
) -> ort::Result<SessionInputValue<'_>> {
    TensorRef::from_array_view((shape, values)).map(Into::into)
}

impl Loaded {
    /// The inputs, in the model's order.
    pub(crate) fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// How many rows a run must have, where the model insists on a number.
    pub(crate) const fn fixed_rows(&self) -> Option<usize> {
        self.fixed_rows
    }

    /// The outputs' names, in the model's order.
    pub(crate) fn outputs(&self) -> Vec<String> {
        self.session.outputs().iter().map(|outlet| outlet.name().to_owned()).collect()
    }

    /// Runs some rows and reads every output.
    ///
    /// # Errors
    /// What ONNX Runtime says, or an output of a type that cannot be compared.
    pub(crate) fn run(&mut self, feeds: &[Feed], rows: Range<usize>) -> Result<Vec<Answer>, String> {
        let names = self.outputs();
        let inputs = entries(&self.inputs, feeds, rows)?;
        let outputs = self.session.run(inputs).map_err(|error| format!("it does not run: {error}"))?;
        names
            .iter()
            .map(|name| {
                let value = outputs.get(name).ok_or_else(|| format!("output {name:?} is missing"))?;
                read(value).map_err(|error| format!("output {name:?} cannot be compared: {error}"))
            })
            .collect()
    }

    /// Runs some rows and looks at nothing, to be timed.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub(crate) fn spin(&mut self, feeds: &[Feed], rows: Range<usize>) -> Result<(), String> {
        let inputs = entries(&self.inputs, feeds, rows)?;
        self.session.run(inputs).map(drop).map_err(|error| format!("it does not run: {error}"))
    }
}

fn entries<'a>(
    inputs: &'a [Input],
    feeds: &'a [Feed],
    rows: Range<usize>,
) -> Result<Vec<(&'a str, SessionInputValue<'a>)>, String> {
    inputs.iter().zip(feeds).map(|(input, feed)| Ok((input.name.as_str(), feed.tensor(input, rows.clone())?))).collect()
}

fn read(value: &DynValue) -> ort::Result<Answer> {
    let kind = match value.dtype() {
        ValueType::Tensor { ty, .. } => *ty,
        _ => return maps(value),
    };
    Ok(match kind {
        TensorElementType::Float32 => {
            Answer::Floats(value.try_extract_tensor::<f32>()?.1.iter().copied().map(f64::from).collect())
        }
        TensorElementType::Float64 => Answer::Floats(value.try_extract_tensor::<f64>()?.1.to_vec()),
        TensorElementType::Int64 => words(value.try_extract_tensor::<i64>()?.1),
        TensorElementType::Int32 => words(value.try_extract_tensor::<i32>()?.1),
        TensorElementType::Bool => words(value.try_extract_tensor::<bool>()?.1),
        TensorElementType::String => Answer::Labels(value.try_extract_strings()?.1),
        other => return Err(ort::Error::new(format!("it is a tensor of {other}"))),
    })
}

fn words<T: ToString>(values: &[T]) -> Answer {
    Answer::Labels(values.iter().map(ToString::to_string).collect())
}

fn maps(value: &DynValue) -> ort::Result<Answer> {
    let mut maps = Vec::new();
    for map in value.try_extract_sequence::<DynMapValueType>()? {
        let named = matches!(map.dtype(), ValueType::Map { key: TensorElementType::String, .. });
        maps.push(if named {
            let pairs = map.try_extract_key_values::<String, f32>()?;
            pairs.into_iter().map(|(class, value)| (class, f64::from(value))).collect()
        } else {
            let pairs = map.try_extract_key_values::<i64, f32>()?;
            pairs.into_iter().map(|(class, value)| (class.to_string(), f64::from(value))).collect()
        });
    }
    Ok(Answer::Maps(maps))
}
