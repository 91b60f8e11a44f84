//! Between our tensors and ONNX Runtime's values.

use ort::session::{Session, SessionOutputs};
use ort::value::{DynValue, MapValueType, Outlet, Tensor as OrtTensor, TensorElementType, ValueRef, ValueType};

use super::super::backend::RunError;
use super::super::tensor::{Data, DataType, Signature, Tensor, TensorSpec};
use super::{Columns, failed};

/// What a session takes and gives.
///
/// # Errors
/// A message when an input or output is of a type that cannot be served.
pub(super) fn signature(session: &Session) -> Result<Signature, String> {
    let inputs = session.inputs().iter().map(|input| spec(input, "input")).collect::<Result<Vec<_>, _>>()?;
    let outputs = session.outputs().iter().map(|output| spec(output, "output")).collect::<Result<Vec<_>, _>>()?;
    let open = |spec: &TensorSpec| spec.shape.first() == Some(&-1);
    let batched = !inputs.is_empty() && inputs.iter().all(open) && outputs.iter().all(open);
    Ok(Signature { inputs, outputs, max_batch: usize::from(batched), platform: "onnxruntime_onnx" })
}

fn spec(outlet: &Outlet, role: &str) -> Result<TensorSpec, String> {
    let name = outlet.name().to_owned();
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let data_type = data_type(*ty)
                .ok_or_else(|| format!("its {role} `{name}` has elements of {ty}, which cannot be served"))?;
            Ok(TensorSpec { name, data_type, shape: shape.iter().copied().collect() })
        }
        // ZipMap's output: a map of class to probability for each row. Served as the matrix it was made of.
        ValueType::Sequence(inner)
            if role == "output" && matches!(**inner, ValueType::Map { value: TensorElementType::Float32, .. }) =>
        {
            Ok(TensorSpec { name, data_type: DataType::Fp32, shape: vec![-1, -1] })
        }
        other => Err(format!(
            "its {role} `{name}` is {other}, which cannot be served; only tensors, and the maps of ZipMap, can"
        )),
    }
}

const fn data_type(ty: TensorElementType) -> Option<DataType> {
    Some(match ty {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// Takes the columns of a reading's row from the outputs, row after row.
pub(super) fn rows(
    outputs: &SessionOutputs<'_>,
    count: usize,
    columns: &Columns,
    out: &mut Vec<f32>,
) -> Result<(), RunError> {
    // The usual case, one output: copied as it lies.
    if let [(name, width)] = columns.0.as_slice() {
        return with_floats(outputs, name, |values| {
            check_len(name, values.len(), count, *width)?;
            out.extend_from_slice(values);
            Ok(())
        });
    }
    let start = out.len();
    let stride = columns.width();
    out.resize(start + count * stride, 0.0);
    let mut at = start;
    for (name, width) in &columns.0 {
        with_floats(outputs, name, |values| {
            check_len(name, values.len(), count, *width)?;
            for (row, values) in values.chunks_exact((*width).max(1)).enumerate() {
                let from = at + row * stride;
                if let Some(to) = out.get_mut(from..from + width) {
                    to.copy_from_slice(values);
                }
            }
            Ok(())
        })?;
        at += width;
    }
    Ok(())
}

fn check_len(name: &str, len: usize, count: usize, width: usize) -> Result<(), RunError> {
    if len == count * width {
        return Ok(());
    }
    Err(RunError::Failed(format!(
        "the output `{name}` has {len} numbers for {count} rows, {width} a row were promised: the task wants something else, \
         or an exporter's Reshape with a fixed shape mixed the rows up (`infer-router models optimize` repairs what it knows)"
    )))
}

fn with_floats(
    outputs: &SessionOutputs<'_>,
    name: &str,
    take: impl FnOnce(&[f32]) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let output = outputs.get(name).ok_or_else(|| RunError::Failed(format!("no output `{name}`")))?;
    match output.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, .. } => {
            take(output.try_extract_tensor::<f32>().map_err(failed)?.1)
        }
        ValueType::Tensor { ty: TensorElementType::Float64, .. } => {
            #[expect(clippy::cast_possible_truncation, reason = "rows are float32 everywhere")]
            let values: Vec<f32> =
                output.try_extract_tensor::<f64>().map_err(failed)?.1.iter().map(|value| *value as f32).collect();
            take(&values)
        }
        ValueType::Tensor { ty: TensorElementType::Int64, .. } => {
            #[expect(clippy::cast_precision_loss, reason = "labels are small")]
            let values: Vec<f32> =
                output.try_extract_tensor::<i64>().map_err(failed)?.1.iter().map(|value| *value as f32).collect();
            take(&values)
        }
        _ => take(&zip_map(output)?.1),
    }
}

/// ZipMap's rows as a matrix, columns in the order of the keys: `(columns, values)`.
fn zip_map(value: &DynValue) -> Result<(usize, Vec<f32>), RunError> {
    let wrong = |_| RunError::Failed("an output is neither a tensor of numbers nor a list of maps".to_owned());
    let mut values = Vec::new();
    let mut columns = 0;
    if let Ok(maps) = value.try_extract_sequence::<MapValueType<i64, f32>>() {
        for map in maps {
            let mut pairs = map.try_extract_key_values::<i64, f32>().map_err(wrong)?;
            pairs.sort_by_key(|(key, _)| *key);
            columns = pairs.len();
            values.extend(pairs.into_iter().map(|(_, value)| value));
        }
        return Ok((columns, values));
    }
    for map in value.try_extract_sequence::<MapValueType<String, f32>>().map_err(wrong)? {
        let mut pairs = map.try_extract_key_values::<String, f32>().map_err(wrong)?;
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        columns = pairs.len();
        values.extend(pairs.into_iter().map(|(_, value)| value));
    }
    Ok((columns, values))
}

/// A caller's tensor as a value.
pub(super) fn input(tensor: &Tensor) -> Result<DynValue, RunError> {
    let shape = tensor.shape.clone();
    macro_rules! value {
        ($values:expr) => {
            OrtTensor::from_array((shape, $values.clone())).map_err(failed)?.into_dyn()
        };
    }
    Ok(match &tensor.data {
        Data::Bool(values) => value!(values),
        Data::Uint8(values) => value!(values),
        Data::Uint16(values) => value!(values),
        Data::Uint32(values) => value!(values),
        Data::Uint64(values) => value!(values),
        Data::Int8(values) => value!(values),
        Data::Int16(values) => value!(values),
        Data::Int32(values) => value!(values),
        Data::Int64(values) => value!(values),
        Data::Fp16(bits) => {
            let values: Vec<half::f16> = bits.iter().map(|bits| half::f16::from_bits(*bits)).collect();
            value!(values)
        }
        Data::Fp32(values) => value!(values),
        Data::Fp64(values) => value!(values),
        Data::Bytes(texts) => {
            let texts = texts
                .iter()
                .map(|text| match std::str::from_utf8(text) {
                    Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
                    // The library keeps texts as C strings.
                    _ => Err(RunError::Invalid(format!("`{}` must hold UTF-8 texts without NUL", tensor.name))),
                })
                .collect::<Result<Vec<String>, _>>()?;
            OrtTensor::from_string_array((shape, texts.as_slice())).map_err(failed)?.into_dyn()
        }
    })
}

/// A value as a tensor for the caller.
pub(super) fn output(name: &str, value: &ValueRef<'_>) -> Result<Tensor, RunError> {
    let named = |shape: &[i64], data| Tensor {
        name: name.to_owned(),
        shape: shape.iter().map(|axis| usize::try_from(*axis).unwrap_or(0)).collect(),
        data,
    };
    macro_rules! tensor {
        ($kind:ident) => {{
            let (shape, values) = value.try_extract_tensor().map_err(failed)?;
            named(shape, Data::$kind(values.to_vec()))
        }};
    }
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        let (columns, values) = zip_map(value)?;
        let rows = values.len() / columns.max(1);
        return Ok(Tensor { name: name.to_owned(), shape: vec![rows, columns], data: Data::Fp32(values) });
    };
    Ok(match ty {
        TensorElementType::Bool => tensor!(Bool),
        TensorElementType::Uint8 => tensor!(Uint8),
        TensorElementType::Uint16 => tensor!(Uint16),
        TensorElementType::Uint32 => tensor!(Uint32),
        TensorElementType::Uint64 => tensor!(Uint64),
        TensorElementType::Int8 => tensor!(Int8),
        TensorElementType::Int16 => tensor!(Int16),
        TensorElementType::Int32 => tensor!(Int32),
        TensorElementType::Int64 => tensor!(Int64),
        TensorElementType::Float32 => tensor!(Fp32),
        TensorElementType::Float64 => tensor!(Fp64),
        TensorElementType::Float16 => {
            let (shape, values) = value.try_extract_tensor::<half::f16>().map_err(failed)?;
            named(shape, Data::Fp16(values.iter().map(|value| value.to_bits()).collect()))
        }
        TensorElementType::String => {
            let (shape, texts) = value.try_extract_strings().map_err(failed)?;
            named(shape, Data::Bytes(texts.into_iter().map(String::into_bytes).collect()))
        }
        other => {
            return Err(RunError::Failed(format!(
                "the output `{name}` has elements of {other}, which cannot be served"
            )));
        }
    })
}
