//! Bodies made to break the parser: nothing panics, and what is taken fits the model to the last element.

use axum::body::Body;
use axum::http::HeaderMap;
use futures_util::stream;
use proptest::prelude::*;
use serde_json::json;
use shared::problem::ErrorCode;

use super::super::{body as whole, request};
use super::fake::{Fake, every_type, simple};
use super::framing::body;
use crate::engine::tensor::{DataType, Signature, element_count};

/// A good request with every type in it: half in JSON, half in binary.
fn good() -> (Vec<u8>, usize, Signature) {
    let mut tail = Vec::new();
    let mut inputs = Vec::new();
    for (i, data_type) in DataType::ALL.into_iter().enumerate() {
        let mut input = json!({"name": data_type.name(), "shape": [1, 2], "datatype": data_type.name()});
        if i % 2 == 0 || data_type == DataType::Bytes {
            let bytes = data_type.size().map_or_else(|| vec![1, 0, 0, 0, b'x', 0, 0, 0, 0], |size| vec![1; 2 * size]);
            input["parameters"] = json!({"binary_data_size": bytes.len()});
            tail.extend(bytes);
        } else {
            input["data"] = json!([[1, 2]]);
        }
        inputs.push(input);
    }
    let (bytes, length) = body(&json!({"id": "7", "inputs": inputs, "outputs": [{"name": "FP32"}]}), &tail);
    (bytes, length, every_type())
}

fn check(bytes: &[u8], head_len: Option<usize>, model: &Signature) {
    let Ok(asked) = request::read(bytes, head_len, model, "m") else { return };
    assert_eq!(asked.inputs.len(), model.inputs.len());
    for (input, spec) in asked.inputs.iter().zip(&model.inputs) {
        assert_eq!(element_count(&input.shape), Some(input.data.len()));
        assert!(spec.takes(input.data.data_type(), &input.shape));
        // In memory an element is at most 24 bytes beside its own, and each took 2 or more in the body.
        assert!(input.data.bytes() <= 16 * bytes.len(), "{} bytes out of {}", input.data.bytes(), bytes.len());
    }
}

/// One small change somewhere.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    // Characters that mean something in JSON, rather than any.
    let piece = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        "\"",
        ",",
        ":",
        "-",
        "1e9",
        "null",
        "NaN",
        "18446744073709551616",
        "4294967295",
        "\\u0000",
        "\u{fffd}",
        "[[[[",
        "0",
        " ",
        "1e400",
        "-0",
    ]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(i, byte)| Change::Set(i, byte)),
        (at(), 0..8_u8).prop_map(|(i, bit)| Change::Flip(i, bit)),
        at().prop_map(Change::Remove),
        (at(), piece).prop_map(|(i, piece)| Change::Insert(i, piece.as_bytes().to_vec())),
        at().prop_map(Change::Cut),
        (at(), 1..40_usize).prop_map(|(i, length)| Change::Repeat(i, length)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Set(i, byte) => *i.get_mut(bytes) = *byte,
        Change::Flip(i, bit) => *i.get_mut(bytes) ^= 1 << bit,
        Change::Remove(i) => drop(bytes.remove(i.index(bytes.len()))),
        Change::Insert(i, piece) => {
            let i = i.index(bytes.len());
            drop(bytes.splice(i..i, piece.iter().copied()));
        }
        Change::Cut(i) => bytes.truncate(i.index(bytes.len())),
        Change::Repeat(i, length) => {
            let i = i.index(bytes.len());
            let piece: Vec<u8> = bytes[i..].iter().take(*length).copied().collect();
            drop(bytes.splice(i..i, piece));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_changed_request_is_read_or_refused(changes in prop::collection::vec(change(), 1..6), shift in -3..4_isize) {
        let (mut bytes, length, model) = good();
        for change in &changes {
            apply(&mut bytes, change);
        }
        check(&bytes, length.checked_add_signed(shift), &model);
        check(&bytes, None, &model);
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), length in prop::option::of(0..250_usize)) {
        check(&bytes, length, &simple(DataType::Bytes));
        check(&bytes, Some(0), &simple(DataType::Bytes));
    }

    #[test]
    fn any_shape_is_counted_before_anything_is_allocated(
        shape in prop::collection::vec(prop_oneof![0..5_u64, any::<u64>(), Just(u64::MAX), Just(1 << 32)], 0..4),
        size in prop_oneof![0..40_u64, any::<u64>()],
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut model = simple(DataType::Bytes);
        model.inputs.truncate(1);
        for data_type in [DataType::Bytes, DataType::Fp64] {
            model.inputs[0].data_type = data_type;
            model.inputs[0].shape = vec![-1; shape.len()];
            let mut input = json!({"name": "INPUT0", "shape": shape, "datatype": data_type.name()});
            input["parameters"] = json!({"binary_data_size": size});
            let (bytes, length) = body(&json!({"inputs": [input]}), &tail);
            check(&bytes, Some(length), &model);
            input.as_object_mut().unwrap().remove("parameters");
            input["data"] = json!([1, 2, 3]);
            let (bytes, length) = body(&json!({"inputs": [input]}), &[]);
            check(&bytes, Some(length), &model);
        }
    }
}

#[test]
fn the_good_request_is_good() {
    let (bytes, length, mut model) = good();
    // BOOL stands in binary and takes 1; the changed requests start from what is read whole.
    assert!(request::read(&bytes, Some(length), &model, "m").is_ok());
    model.inputs.pop();
    assert!(request::read(&bytes, Some(length), &model, "m").is_err());
}

/// A body in chunks of the given size, without a length.
fn chunked(bytes: &[u8], size: usize) -> Body {
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = bytes.chunks(size).map(|chunk| Ok(chunk.to_vec())).collect();
    Body::from_stream(stream::iter(chunks))
}

#[tokio::test]
async fn a_body_is_the_same_in_chunks_of_any_size_and_limited_in_each() {
    let parts = super::fake::oip(Fake::new(), &[("OIP_MAX_BODY_BYTES", "2000"), ("OIP_BODIES_BYTES", "65536")]);
    let bytes: Vec<u8> = (0..2_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    for size in [1, 2, 3, 7, 64, 1_999, 2_000] {
        let read = whole::read(&parts, &HeaderMap::new(), chunked(&bytes, size)).await.unwrap();
        assert_eq!(read.bytes, bytes, "chunks of {size}");
        let more: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        let error = whole::read(&parts, &HeaderMap::new(), chunked(&more, size)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::PayloadTooLarge, "chunks of {size}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_or_never_ends_is_refused() {
    let parts = super::fake::oip(Fake::new(), &[("BODY_TIMEOUT_MS", "100")]);
    let broken = stream::iter([Ok(vec![1]), Err(std::io::Error::other("gone"))]);
    let error = whole::read(&parts, &HeaderMap::new(), Body::from_stream(broken)).await.unwrap_err();
    assert!(error.detail.contains("broke off"), "{error:?}");
    let endless = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let error = whole::read(&parts, &HeaderMap::new(), endless).await.unwrap_err();
    assert!(error.detail.contains("BODY_TIMEOUT_MS"), "{error:?}");
}
