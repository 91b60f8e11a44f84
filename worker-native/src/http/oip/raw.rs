//! A body that is nothing but one tensor (`Inference-Header-Content-Length: 0`).
//!
//! There is no JSON, so the shape is made from the model's: one row, and the only open axis left
//! takes what the number of bytes gives.

use super::request::{InferRequest, all_outputs};
use super::{ApiError, bad, binary};
use crate::engine::tensor::{Data, Signature, Tensor, TensorSpec};

/// Reads the body as the model's only input; every output goes back in binary.
pub(super) fn read(body: &[u8], signature: &Signature, model: &str) -> Result<InferRequest, ApiError> {
    let [spec] = signature.inputs.as_slice() else {
        let inputs = signature.inputs.len();
        return Err(bad(format!("a raw body needs a model with one input, model '{model}' has {inputs}")));
    };
    let fault = |what: &str| bad(format!("input '{}' as a raw body: {what}", spec.name));
    let (shape, data) = match spec.data_type.size() {
        Some(size) => {
            let (shape, count) = shape(spec, signature.max_batch > 0, body.len(), size).map_err(|what| fault(&what))?;
            (shape, binary::decode(spec.data_type, count, body).map_err(|what| fault(&what))?)
        }
        // One text, without the length in front of it.
        None => (one_each(spec).map_err(fault)?, Data::Bytes(vec![body.to_vec()])),
    };
    let inputs = vec![Tensor { name: spec.name.clone(), shape, data }];
    Ok(InferRequest { id: None, inputs, outputs: all_outputs(signature, true), timeout: None })
}

/// The shape that so many bytes give, and its number of elements.
fn shape(spec: &TensorSpec, batched: bool, bytes: usize, size: usize) -> Result<(Vec<usize>, usize), String> {
    let mut known = 1_usize;
    let mut open = None;
    let mut shape = Vec::with_capacity(spec.shape.len());
    for (i, axis) in spec.shape.iter().enumerate() {
        let length = match usize::try_from(*axis) {
            Ok(length) => length,
            Err(_) if batched && i == 0 => 1,
            Err(_) if open.replace(i).is_some() => return Err("more than one of its axes is open".to_owned()),
            Err(_) => 1,
        };
        known = known.checked_mul(length).ok_or("the model's shape is absurdly large")?;
        shape.push(length);
    }
    let elements = bytes / size;
    let (Some(at), true) = (open, known > 0) else { return Ok((shape, known)) };
    if !bytes.is_multiple_of(size) || !elements.is_multiple_of(known) || elements == 0 {
        return Err(format!("{bytes} bytes do not fill {}", spec.describe()));
    }
    if let Some(axis) = shape.get_mut(at) {
        *axis = elements / known;
    }
    Ok((shape, elements))
}

fn one_each(spec: &TensorSpec) -> Result<Vec<usize>, &'static str> {
    if spec.shape.iter().all(|axis| *axis < 0 || *axis == 1) {
        Ok(vec![1; spec.shape.len()])
    } else {
        Err("a text can be sent raw where the model takes one element")
    }
}
