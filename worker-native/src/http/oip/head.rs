//! The JSON of an `infer` request, as it is written; nothing here is checked against a model.
//!
//! Unknown members are skipped without being kept. `data` stays the text it is until the type and
//! the shape of its tensor are known to fit.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{ApiError, bad};

#[derive(Debug, Deserialize)]
pub(super) struct Head<'a> {
    pub(super) id: Option<String>,
    #[serde(borrow)]
    pub(super) parameters: Option<Parameters<'a>>,
    #[serde(borrow)]
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) outputs: Option<Vec<Output>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters<'a> {
    /// Microseconds; 0 for none.
    pub(super) timeout: Option<u64>,
    /// Taken for the clients' sake: every request is of the same priority.
    #[serde(rename = "priority")]
    _priority: Option<u64>,
    pub(super) binary_data_output: Option<bool>,
    #[serde(borrow)]
    sequence_id: Option<&'a RawValue>,
    sequence_start: Option<bool>,
    sequence_end: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Input<'a> {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<usize>,
    pub(super) parameters: Option<InputParameters>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct InputParameters {
    pub(super) binary_data_size: Option<usize>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) parameters: Option<OutputParameters>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct OutputParameters {
    pub(super) binary_data: Option<bool>,
    classification: Option<IgnoredAny>,
    shared_memory_region: Option<IgnoredAny>,
}

/// Reads the JSON, and refuses what of the protocol's extensions is not served.
pub(super) fn read(json: &[u8]) -> Result<Head<'_>, ApiError> {
    let head: Head<'_> = serde_json::from_slice(json).map_err(|error| unreadable(json, &error))?;
    if let Some(parameters) = &head.parameters {
        let named = parameters.sequence_id.is_some_and(|id| !matches!(id.get(), "0" | "\"\""));
        if named || parameters.sequence_start == Some(true) || parameters.sequence_end == Some(true) {
            return Err(bad("sequences are not served: leave out sequence_id, sequence_start and sequence_end"));
        }
    }
    let of_input =
        |input: &Input<'_>| input.parameters.as_ref().is_some_and(|given| given.shared_memory_region.is_some());
    let of_output =
        |output: &Output| output.parameters.as_ref().is_some_and(|given| given.shared_memory_region.is_some());
    let outputs = head.outputs.as_deref().unwrap_or_default();
    if head.inputs.iter().any(of_input) || outputs.iter().any(of_output) {
        return Err(bad("shared memory is not served: send the tensors in the body"));
    }
    if outputs.iter().any(|output| output.parameters.as_ref().is_some_and(|given| given.classification.is_some())) {
        return Err(bad("the classification extension is not served: leave out `classification`"));
    }
    Ok(head)
}

fn unreadable(json: &[u8], error: &serde_json::Error) -> ApiError {
    let hint = if json.starts_with(b"{") && error.is_syntax() && error.to_string().contains("trailing characters") {
        "; binary tensors need the header Inference-Header-Content-Length"
    } else if error.is_syntax() && json.windows(3).any(|three| three == b"NaN" || three == b"Inf") {
        "; JSON has no NaN and no Infinity: send null for NaN, or the tensor in binary"
    } else {
        ""
    };
    bad(format!("the JSON of the request cannot be used: {error}{hint}"))
}
