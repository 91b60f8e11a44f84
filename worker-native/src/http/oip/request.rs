//! From a body's bytes to tensors that fit the model: the split, the JSON, the binary tensors behind it.

use std::time::Duration;

use super::head::{self, Head, Input};
use super::{ApiError, bad, binary, elements, raw};
use crate::engine::tensor::{DataType, Signature, Tensor, TensorSpec, element_count};

/// What an `infer` request asks.
#[derive(Debug)]
pub(super) struct InferRequest {
    /// Goes back as it came.
    pub(super) id: Option<String>,
    /// In the model's order.
    pub(super) inputs: Vec<Tensor>,
    /// In the caller's order.
    pub(super) outputs: Vec<WantedOutput>,
    /// How long the caller waits; none: as long as the service does.
    pub(super) timeout: Option<Duration>,
}

/// One output to answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedOutput {
    pub(super) name: String,
    /// Behind the JSON, instead of in it.
    pub(super) binary: bool,
}

/// Reads a whole body; `head_len` is what the header says of its JSON.
pub(super) fn read(
    body: &[u8],
    head_len: Option<usize>,
    signature: &Signature,
    model: &str,
) -> Result<InferRequest, ApiError> {
    if head_len == Some(0) {
        return raw::read(body, signature, model);
    }
    let length = head_len.unwrap_or(body.len());
    let (json, tail) = body.split_at_checked(length).ok_or_else(|| {
        bad(format!("Inference-Header-Content-Length is {length}, the body has {} bytes", body.len()))
    })?;
    let head = head::read(json)?;
    let inputs = inputs(&head, tail, signature, model)?;
    let outputs = outputs(&head, signature, model)?;
    let timeout = head.parameters.as_ref().and_then(|given| given.timeout).filter(|micros| *micros > 0);
    Ok(InferRequest { id: head.id, inputs, outputs, timeout: timeout.map(Duration::from_micros) })
}

fn inputs(head: &Head<'_>, mut tail: &[u8], signature: &Signature, model: &str) -> Result<Vec<Tensor>, ApiError> {
    let mut places: Vec<Option<Tensor>> = signature.inputs.iter().map(|_| None).collect();
    for input in &head.inputs {
        let at = signature.inputs.iter().position(|spec| spec.name == input.name);
        let (place, spec) = at.and_then(|at| places.get_mut(at).zip(signature.inputs.get(at))).ok_or_else(|| {
            let names = names(&signature.inputs);
            bad(format!("unexpected inference input '{}' for model '{model}': it takes {names}", input.name))
        })?;
        let tensor = tensor(input, &mut tail, spec, model)?;
        if place.replace(tensor).is_some() {
            return Err(bad(format!("input '{}' is given twice", input.name)));
        }
    }
    if !tail.is_empty() {
        return Err(bad(format!("{} bytes are left behind the last binary tensor", tail.len())));
    }
    let missing = signature.inputs.iter().zip(&places).find(|(_, place)| place.is_none());
    if let Some((spec, _)) = missing {
        let detail = format!("input '{}' is missing: model '{model}' takes {}", spec.name, names(&signature.inputs));
        return Err(bad(detail));
    }
    let inputs: Vec<Tensor> = places.into_iter().flatten().collect();
    check_rows(&inputs, signature)?;
    Ok(inputs)
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<String> = specs.iter().map(|spec| format!("'{}' {}", spec.name, spec.describe())).collect();
    names.join(", ")
}

/// One input; takes its bytes off the front of `tail` where it is binary.
fn tensor(input: &Input<'_>, tail: &mut &[u8], spec: &TensorSpec, model: &str) -> Result<Tensor, ApiError> {
    let fault = |what: &str| bad(format!("input '{}': {what}", input.name));
    // First the shape: what does not fit the model is not even read.
    let given = DataType::from_name(&input.datatype);
    if !given.is_some_and(|given| spec.takes(given, &input.shape)) {
        let want = spec.describe();
        let detail = format!("model '{model}' takes {want}, the request has {}{:?}", input.datatype, input.shape);
        return Err(fault(&detail));
    }
    let count = element_count(&input.shape).ok_or_else(|| fault("its shape is absurdly large"))?;
    let size = input.parameters.as_ref().and_then(|given| given.binary_data_size);
    let data = match (size, input.data) {
        (Some(size), None) => {
            let (bytes, rest) = tail.split_at_checked(size).ok_or_else(|| {
                fault(&format!("binary_data_size is {size}, {} bytes are left in the body", tail.len()))
            })?;
            *tail = rest;
            binary::decode(spec.data_type, count, bytes)
        }
        (None, Some(data)) => elements::decode(spec.data_type, &input.shape, count, data),
        (Some(_), Some(_)) => Err("give `data` or `binary_data_size`, not both".to_owned()),
        (None, None) => Err("`data` is missing, and there is no `binary_data_size`".to_owned()),
    };
    let data = data.map_err(|what| fault(&what))?;
    Ok(Tensor { name: spec.name.clone(), shape: input.shape.clone(), data })
}

/// Where the first axis is the batch, all inputs bring the same number of rows, and at least one.
fn check_rows(inputs: &[Tensor], signature: &Signature) -> Result<(), ApiError> {
    if signature.max_batch == 0 {
        return Ok(());
    }
    let rows = inputs.first().map_or(0, Tensor::rows);
    if rows == 0 {
        return Err(bad("the inputs have no rows: the first axis is the batch, it must be 1 or more"));
    }
    match inputs.iter().find(|input| input.rows() != rows) {
        Some(other) => {
            let detail = format!("input '{}' has {} rows, the first one has {rows}", other.name, other.rows());
            Err(bad(detail))
        }
        None => Ok(()),
    }
}

fn outputs(head: &Head<'_>, signature: &Signature, model: &str) -> Result<Vec<WantedOutput>, ApiError> {
    let default = head.parameters.as_ref().and_then(|given| given.binary_data_output).unwrap_or(false);
    let Some(asked) = head.outputs.as_deref().filter(|asked| !asked.is_empty()) else {
        return Ok(all_outputs(signature, default));
    };
    let mut wanted: Vec<WantedOutput> = Vec::new();
    for output in asked {
        if !signature.outputs.iter().any(|spec| spec.name == output.name) {
            let names = names(&signature.outputs);
            let detail = format!("unexpected inference output '{}' for model '{model}': it gives {names}", output.name);
            return Err(bad(detail));
        }
        if wanted.iter().any(|one| one.name == output.name) {
            return Err(bad(format!("output '{}' is asked for twice", output.name)));
        }
        let binary = output.parameters.as_ref().and_then(|given| given.binary_data).unwrap_or(default);
        wanted.push(WantedOutput { name: output.name.clone(), binary });
    }
    Ok(wanted)
}

/// Every output in the model's order, for those who name none.
pub(super) fn all_outputs(signature: &Signature, binary: bool) -> Vec<WantedOutput> {
    signature.outputs.iter().map(|spec| WantedOutput { name: spec.name.clone(), binary }).collect()
}
