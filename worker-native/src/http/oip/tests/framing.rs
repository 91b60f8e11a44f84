//! Elements and frames: what is written is read back, what does not fit is refused.

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::request::{self, InferRequest, WantedOutput};
use super::super::{binary, elements, response};
use super::fake::{every_type, signature, simple, spec};
use crate::engine::tensor::{Data, DataType, Signature, Tensor};

/// Some elements of any type; floats of every bit pattern.
pub(super) fn any_data() -> impl Strategy<Value = Data> {
    use prop::collection::vec;
    prop_oneof![
        vec(any::<bool>(), 0..20).prop_map(Data::Bool),
        vec(any::<u8>(), 0..20).prop_map(Data::Uint8),
        vec(any::<u16>(), 0..20).prop_map(Data::Uint16),
        vec(any::<u32>(), 0..20).prop_map(Data::Uint32),
        vec(any::<u64>(), 0..20).prop_map(Data::Uint64),
        vec(any::<i8>(), 0..20).prop_map(Data::Int8),
        vec(any::<i16>(), 0..20).prop_map(Data::Int16),
        vec(any::<i32>(), 0..20).prop_map(Data::Int32),
        vec(any::<i64>(), 0..20).prop_map(Data::Int64),
        vec(any::<u16>(), 0..20).prop_map(Data::Fp16),
        vec(any::<u32>().prop_map(f32::from_bits), 0..20).prop_map(Data::Fp32),
        vec(any::<u64>().prop_map(f64::from_bits), 0..20).prop_map(Data::Fp64),
        vec(vec(any::<u8>(), 0..9), 0..20).prop_map(Data::Bytes),
    ]
}

fn bytes_of(data: &Data) -> Vec<u8> {
    let mut bytes = Vec::new();
    binary::encode(data, &mut bytes);
    bytes
}

fn from_json(data_type: DataType, shape: &[usize], json: &str) -> Result<Data, String> {
    let count = shape.iter().product();
    elements::decode(data_type, shape, count, &RawValue::from_string(json.to_owned()).unwrap())
}

proptest! {
    #[test]
    fn every_type_survives_the_binary_frame(data in any_data()) {
        let bytes = bytes_of(&data);
        prop_assert_eq!(binary::encoded_len(&data), Some(bytes.len()));
        let read = binary::decode(data.data_type(), data.len(), &bytes).unwrap();
        // By bytes: NaN differs from itself.
        prop_assert_eq!(bytes_of(&read), bytes.clone());
        if !data.is_empty() {
            prop_assert!(binary::decode(data.data_type(), data.len() + 1, &bytes).is_err());
            prop_assert!(binary::decode(data.data_type(), data.len() - 1, &bytes).is_err());
            prop_assert!(binary::decode(data.data_type(), data.len(), &bytes[1..]).is_err());
        }
    }

    #[test]
    fn every_type_survives_json_to_the_last_bit(data in any_data()) {
        let writable = match &data {
            Data::Fp16(bits) => bits.iter().all(|bits| half::f16::from_bits(*bits).is_finite()),
            Data::Fp32(values) => values.iter().all(|value| value.is_finite()),
            Data::Fp64(values) => values.iter().all(|value| value.is_finite()),
            Data::Bytes(texts) => texts.iter().all(|text| std::str::from_utf8(text).is_ok()),
            _ => true,
        };
        match serde_json::to_string(&elements::Flat(&data)) {
            Ok(json) if writable => {
                let read = from_json(data.data_type(), &[data.len()], &json).unwrap();
                prop_assert_eq!(bytes_of(&read), bytes_of(&data));
            }
            Ok(json) => prop_assert!(json.contains("null"), "{}", json),
            Err(_) => prop_assert!(matches!(data, Data::Bytes(_))),
        }
    }
}

#[test]
fn elements_lie_as_the_protocol_says() {
    assert_eq!(bytes_of(&Data::Bool(vec![true, false])), [1, 0]);
    assert_eq!(bytes_of(&Data::Int16(vec![-2, 258])), [0xfe, 0xff, 2, 1]);
    assert_eq!(bytes_of(&Data::Fp32(vec![1.0])), [0, 0, 0x80, 0x3f]);
    assert_eq!(bytes_of(&Data::Bytes(vec![b"ab".to_vec(), vec![]])), [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]);
    assert!(binary::decode(DataType::Bool, 1, &[2]).unwrap_err().contains("not 2"));
}

#[test]
fn a_length_inside_a_text_tensor_is_not_believed() {
    let decode = |count, bytes: &[u8]| binary::decode(DataType::Bytes, count, bytes).unwrap_err();
    assert!(decode(1, &[255, 255, 255, 255]).contains("element 0 is longer"));
    assert!(decode(1, &[1, 0, 0, 0]).contains("element 0 is longer"));
    assert!(decode(1, &[1, 0, 0]).contains("too few"));
    assert!(decode(1, &[0, 0, 0, 0, 7]).contains("1 bytes are left"));
    assert!(decode(usize::MAX, &[0; 64]).contains("too few"));
    assert!(decode(usize::MAX / 2, &[0; 64]).contains("too few"));
}

#[test]
fn json_may_be_flat_or_nested_like_the_shape_and_nothing_else() {
    let whole = Data::Int32((0..6).collect());
    for json in ["[0,1,2,3,4,5]", "[[0,1,2],[3,4,5]]", " [ [0, 1,2 ] , [3,4,5] ]"] {
        assert_eq!(from_json(DataType::Int32, &[2, 3], json).unwrap(), whole, "{json}");
    }
    for (json, why) in [
        ("[[0,1],[2,3],[4,5]]", "axis 1"),
        ("[[0,1,2],[3,4]]", "axis 1"),
        ("[[0,1,2]]", "axis 0"),
        ("[0,1,2,3,4]", "`data` has 5"),
        ("[0,1,2,3,4,5,6]", "more than the 6"),
        ("[[0,1,2],3,4,5]", "nested like the shape"),
        ("[0,[1,2,3,4,5]]", "nested deeper"),
        ("[[[0,1,2,3,4,5]]]", "nested deeper"),
        ("5", "one flat array"),
        ("[]", "`data` has 0"),
        ("{}", "an array of INT32"),
    ] {
        let error = from_json(DataType::Int32, &[2, 3], json).unwrap_err();
        assert!(error.contains(why), "{json}: {error}");
    }
    assert_eq!(from_json(DataType::Fp32, &[], "[1]").unwrap(), Data::Fp32(vec![1.0]));
    assert_eq!(from_json(DataType::Fp32, &[2, 0], "[[],[]]").unwrap(), Data::Fp32(vec![]));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(from_json(DataType::Fp32, &[2, 2], &deep).unwrap_err().contains("nested deeper"));
}

#[test]
fn a_scalar_must_fit_its_type() {
    for (data_type, good, bad) in [
        (DataType::Bool, "true", "1"),
        (DataType::Uint8, "255", "256"),
        (DataType::Int8, "-128", "128"),
        (DataType::Uint16, "65535", "-1"),
        (DataType::Int32, "-2147483648", "1.0"),
        (DataType::Uint64, "18446744073709551615", "18446744073709551616"),
        (DataType::Int64, "-9223372036854775808", "9223372036854775808"),
        (DataType::Fp16, "65504", "65520"),
        (DataType::Fp32, "3.4028234e38", "1e39"),
        (DataType::Fp64, "null", "\"1\""),
        (DataType::Bytes, "\"\\u0000é\"", "1"),
    ] {
        assert!(from_json(data_type, &[1], &format!("[{good}]")).is_ok(), "{data_type:?} {good}");
        let error = from_json(data_type, &[1], &format!("[{bad}]")).unwrap_err();
        assert!(error.contains(data_type.name()), "{data_type:?} {bad}: {error}");
    }
    let Data::Fp32(values) = from_json(DataType::Fp32, &[2], "[null,1]").unwrap() else { panic!() };
    assert!(values[0].is_nan() && values[1] == 1.0);
}

/// A request's body: the JSON, the binary tensors behind it.
pub(super) fn body(head: &Value, tail: &[u8]) -> (Vec<u8>, usize) {
    let mut bytes = head.to_string().into_bytes();
    let length = bytes.len();
    bytes.extend_from_slice(tail);
    (bytes, length)
}

fn read(signature: &Signature, head: &Value, tail: &[u8]) -> Result<InferRequest, String> {
    let (bytes, length) = body(head, tail);
    request::read(&bytes, Some(length), signature, "m").map_err(|error| error.detail)
}

#[test]
fn binary_and_json_inputs_mix_in_any_order() {
    let model = simple(DataType::Int32);
    let tail: Vec<u8> = (0..16_i32).flat_map(i32::to_le_bytes).collect();
    let head = json!({
        "id": "7", "parameters": {"timeout": 1_500, "priority": 1, "binary_data_output": true, "mine": [{}]},
        "inputs": [
            {"name": "INPUT1", "shape": [1, 16], "datatype": "INT32", "data": [vec![9; 16]]},
            {"name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "parameters": {"binary_data_size": 64}},
        ],
        "outputs": [{"name": "OUTPUT1", "parameters": {"binary_data": false}}, {"name": "OUTPUT0"}],
    });
    let asked = read(&model, &head, &tail).unwrap();
    assert_eq!(asked.id.as_deref(), Some("7"));
    assert_eq!(asked.timeout, Some(std::time::Duration::from_micros(1_500)));
    let names: Vec<&str> = asked.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["INPUT0", "INPUT1"]);
    assert_eq!(asked.inputs[0].data, Data::Int32((0..16).collect()));
    assert_eq!(asked.inputs[1].data, Data::Int32(vec![9; 16]));
    let wanted = |name: &str, binary| WantedOutput { name: name.to_owned(), binary };
    assert_eq!(asked.outputs, [wanted("OUTPUT1", false), wanted("OUTPUT0", true)]);
}

#[test]
fn what_does_not_fit_is_named() {
    let one = signature(&[spec("x", DataType::Fp32, &[-1, 2])], &[spec("y", DataType::Fp32, &[-1])], 4);
    let input = |members: Value| {
        let mut input = json!({"name": "x", "shape": [1, 2], "datatype": "FP32"});
        input.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"inputs": [input]})
    };
    let size = |size: u64| input(json!({"parameters": {"binary_data_size": size}}));
    let with = |member: &str, value: Value| {
        let mut head = input(json!({"data": [1, 2]}));
        head[member] = value;
        head
    };
    for (head, tail, why) in [
        (size(8), 7, "7 bytes are left in the body"),
        (size(8), 9, "1 bytes are left behind"),
        (size(7), 7, "takes 8 bytes, there are 7"),
        (size(u64::MAX), 8, "8 bytes are left in the body"),
        (input(json!({"data": [1, 2], "parameters": {"binary_data_size": 8}})), 8, "not both"),
        (input(json!({})), 0, "`data` is missing"),
        (input(json!({"data": [1, 2], "name": "z"})), 0, "unexpected inference input 'z'"),
        (input(json!({"data": [1, 2], "datatype": "BF16"})), 0, "takes FP32[-1,2], the request has BF16"),
        (input(json!({"data": [1, 2], "datatype": "FP64"})), 0, "takes FP32[-1,2]"),
        (input(json!({"data": [1, 2], "shape": [2]})), 0, "takes FP32[-1,2]"),
        (input(json!({"data": [1, 2], "shape": [-1, 2]})), 0, "invalid value: integer `-1`"),
        (input(json!({"data": [1, 2], "shape": [usize::MAX, 2]})), 0, "absurdly large"),
        (input(json!({"data": [1, 2], "shape": [1_u64 << 60, 2]})), 0, "elements"),
        (input(json!({"data": [], "shape": [0, 2]})), 0, "no rows"),
        (input(json!({"parameters": {"shared_memory_region": "r"}})), 0, "shared memory"),
        (json!({"inputs": []}), 0, "'x' is missing"),
        (json!({}), 0, "missing field `inputs`"),
        (json!([]), 0, "cannot be used"),
        (with("outputs", json!([{"name": "z"}])), 0, "unexpected inference output 'z'"),
        (with("outputs", json!([{"name": "y"}, {"name": "y"}])), 0, "twice"),
        (with("outputs", json!([{"name": "y", "parameters": {"classification": 3}}])), 0, "classification"),
        (with("outputs", json!([{"name": "y", "parameters": {"shared_memory_region": "r"}}])), 0, "shared memory"),
        (with("parameters", json!({"sequence_id": 5})), 0, "sequences"),
        (with("parameters", json!({"sequence_id": "five"})), 0, "sequences"),
        (with("parameters", json!({"sequence_start": true})), 0, "sequences"),
        (with("parameters", json!({"sequence_end": true})), 0, "sequences"),
        (with("parameters", json!({"timeout": -1})), 0, "invalid value"),
        (with("id", json!(5)), 0, "invalid type"),
    ] {
        let error = read(&one, &head, &vec![0; tail]).unwrap_err();
        assert!(error.contains(why), "{head}: {error}");
    }
    let twice = input(json!({"data": [1, 2]}))["inputs"][0].clone();
    assert!(read(&one, &json!({"inputs": [twice, twice]}), &[]).unwrap_err().contains("given twice"));
    assert!(read(&one, &with("parameters", json!({"sequence_id": 0, "sequence_start": false})), &[]).is_ok());
}

#[test]
fn the_header_splits_the_body() {
    let model = signature(&[spec("x", DataType::Uint8, &[-1])], &[], 0);
    let head =
        json!({"inputs": [{"name": "x", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}}]});
    let (bytes, length) = body(&head, &[5, 6]);
    let read = |length| request::read(&bytes, length, &model, "m").map_err(|error| error.detail);
    assert_eq!(read(Some(length)).unwrap().inputs[0].data, Data::Uint8(vec![5, 6]));
    assert!(read(Some(bytes.len() + 1)).unwrap_err().contains("the body has"));
    assert!(read(Some(usize::MAX)).unwrap_err().contains("the body has"));
    assert!(read(Some(length - 1)).unwrap_err().contains("cannot be used"));
    assert!(read(None).unwrap_err().contains("need the header Inference-Header-Content-Length"));
}

#[test]
fn rows_must_agree_where_the_model_has_a_batch() {
    let input = |name: &str, rows: usize| json!({"name": name, "shape": [rows, 16], "datatype": "INT32", "data": vec![1; 16 * rows]});
    let head = |a, b| json!({"inputs": [input("INPUT0", a), input("INPUT1", b)]});
    assert!(read(&simple(DataType::Int32), &head(20, 20), &[]).is_ok(), "more rows than a batch are cut up later");
    let error = read(&simple(DataType::Int32), &head(2, 3), &[]).unwrap_err();
    assert!(error.contains("'INPUT1' has 3 rows, the first one has 2"), "{error}");
}

#[test]
fn a_raw_body_takes_its_shape_from_the_model() {
    let read = |spec, max_batch, body: &[u8]| {
        let asked = request::read(body, Some(0), &signature(&[spec], &[], max_batch), "m");
        asked.map(|asked| asked.inputs[0].clone()).map_err(|error| error.detail)
    };
    let floats = spec("x", DataType::Fp32, &[-1, 2, -1]);
    let tensor = read(floats.clone(), 4, &[0; 24]).unwrap();
    assert_eq!((tensor.shape.as_slice(), tensor.data.len()), ([1, 2, 3].as_slice(), 6));
    for bytes in [0, 4, 23, 25] {
        assert!(read(floats.clone(), 4, &vec![0; bytes]).unwrap_err().contains("do not fill FP32[-1,2,-1]"));
    }
    assert!(read(floats, 0, &[0; 24]).unwrap_err().contains("more than one of its axes"));
    assert!(read(spec("x", DataType::Fp32, &[-1, 2]), 4, &[0; 12]).unwrap_err().contains("takes 8 bytes"));
    let text = read(spec("x", DataType::Bytes, &[-1, 1]), 4, b"hello").unwrap();
    assert_eq!((text.shape.as_slice(), text.data), ([1, 1].as_slice(), Data::Bytes(vec![b"hello".to_vec()])));
    assert!(read(spec("x", DataType::Bytes, &[-1, 2]), 4, b"hello").is_err());
    let two = request::read(&[], Some(0), &every_type(), "m").unwrap_err();
    assert!(two.detail.contains("needs a model with one input"));
}

#[test]
fn an_answer_has_its_tensors_in_the_order_they_were_asked_for() {
    let tensor = |name: &str, data: Data| Tensor { name: name.to_owned(), shape: vec![data.len()], data };
    let tensors = [tensor("a", Data::Fp32(vec![1.5, f32::NAN])), tensor("b", Data::Bytes(vec![vec![255]]))];
    let write = |wanted: &[(&str, bool)]| {
        let wanted: Vec<_> =
            wanted.iter().map(|(name, binary)| WantedOutput { name: (*name).to_owned(), binary: *binary }).collect();
        let from = response::From { model: "m".to_owned(), version: 3, id: Some("7".to_owned()) };
        response::write(&from, &tensors, &wanted, None).map_err(|error| error.detail)
    };
    let text = format!("{:?}", write(&[("a", false)]).unwrap());
    assert!(text.contains("head_len: None"), "{text}");
    assert!(write(&[("b", false)]).unwrap_err().contains("'b' is not UTF-8"));
    assert!(write(&[("b", true), ("a", false)]).is_ok());
}
