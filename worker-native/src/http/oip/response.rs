//! The answer of `infer`: JSON, binary tensors behind it, compressed where asked for.

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::problem::ErrorCode;

use super::compress::{Packing, WORTH_IT};
use super::elements::Flat;
use super::request::WantedOutput;
use super::{ApiError, HEADER_LENGTH, bad, binary};
use crate::engine::tensor::{Data, Tensor};

#[derive(Debug, Serialize)]
struct Head<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Debug, Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Flat<'a>>,
}

#[derive(Debug, Serialize)]
struct Parameters {
    binary_data_size: usize,
}

/// Whose answer it is.
#[derive(Debug)]
pub(super) struct From {
    pub(super) model: String,
    pub(super) version: u32,
    pub(super) id: Option<String>,
}

/// A body, and what its headers say of it.
#[derive(Debug)]
pub(super) struct Written {
    body: Vec<u8>,
    /// Length of the JSON, where binary tensors follow it.
    head_len: Option<usize>,
    packing: Option<Packing>,
}

/// Writes the wanted outputs in the order they were asked for.
pub(super) fn write(
    from: &From,
    tensors: &[Tensor],
    wanted: &[WantedOutput],
    packing: Option<Packing>,
) -> Result<Written, ApiError> {
    let mut outputs = Vec::with_capacity(wanted.len());
    let mut behind = Vec::new();
    for want in wanted {
        let tensor = tensors.iter().find(|tensor| tensor.name == want.name).ok_or_else(|| {
            let cause = format!("the model gave no output '{}'", want.name);
            ApiError::caused(ErrorCode::ModelFailed, "the log has the cause under this request id", &cause)
        })?;
        let parameters = want.binary.then(|| size(tensor)).transpose()?;
        if want.binary {
            behind.push(&tensor.data);
        } else {
            check_text(tensor)?;
        }
        outputs.push(Output {
            name: &tensor.name,
            datatype: tensor.data.data_type().name(),
            shape: &tensor.shape,
            parameters,
            data: (!want.binary).then_some(Flat(&tensor.data)),
        });
    }
    let head =
        Head { model_name: &from.model, model_version: from.version.to_string(), id: from.id.as_deref(), outputs };
    let mut body = serde_json::to_vec(&head).map_err(|error| internal(&error))?;
    let head_len = (!behind.is_empty()).then_some(body.len());
    for data in behind {
        binary::encode(data, &mut body);
    }
    pack(Written { body, head_len, packing: None }, packing)
}

fn size(tensor: &Tensor) -> Result<Parameters, ApiError> {
    let size = binary::encoded_len(&tensor.data).ok_or_else(|| internal(&"a text is too long for its length field"))?;
    Ok(Parameters { binary_data_size: size })
}

/// The clients decode JSON as UTF-8 and would fail on anything else with a riddle.
fn check_text(tensor: &Tensor) -> Result<(), ApiError> {
    match &tensor.data {
        Data::Bytes(texts) if texts.iter().any(|text| std::str::from_utf8(text).is_err()) => Err(bad(format!(
            "output '{}' is not UTF-8 and cannot be written as JSON: ask for it with binary_data",
            tensor.name
        ))),
        _ => Ok(()),
    }
}

fn pack(plain: Written, packing: Option<Packing>) -> Result<Written, ApiError> {
    let Some(packing) = packing.filter(|_| plain.body.len() >= WORTH_IT) else { return Ok(plain) };
    let body = packing.pack(&plain.body).map_err(|error| internal(&error))?;
    Ok(Written { body, packing: Some(packing), ..plain })
}

fn internal(cause: &dyn std::fmt::Display) -> ApiError {
    ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", cause)
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        let map = response.headers_mut();
        let media_type = if self.head_len.is_some() { "application/octet-stream" } else { "application/json" };
        map.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(length) = self.head_len {
            // The JSON's length before compression: the clients unpack first and split then.
            map.insert(HeaderName::from_static(HEADER_LENGTH), HeaderValue::from(length));
        }
        if let Some(packing) = self.packing {
            map.insert(CONTENT_ENCODING, HeaderValue::from_static(packing.name()));
        }
        response
    }
}
