use super::*;

fn named(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type),
        dims: dims.to_vec(),
        ..TensorProto::default()
    }
}

fn node(op: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto { op_type: Some(op.to_owned()), input: names(input), output: names(output), ..NodeProto::default() }
}

#[test]
fn values_come_from_either_place_and_must_fit_the_shape() {
    let mut tensor = named("t", data_type::FLOAT, &[2, 1]);
    tensor.float_data = vec![1.0, 2.0];
    assert_eq!(values_f32(&tensor).unwrap(), [1.0, 2.0]);
    tensor.float_data.clear();
    tensor.raw_data = Some([3.0_f32.to_le_bytes(), 4.0_f32.to_le_bytes()].concat());
    assert_eq!(values_f32(&tensor).unwrap(), [3.0, 4.0]);
    assert!(values_i64(&tensor).is_err(), "another type");
    tensor.raw_data = Some(vec![0; 9]);
    assert!(values_f32(&tensor).is_err(), "half a value");
    tensor.dims = vec![i64::MAX, i64::MAX];
    assert!(values_f32(&tensor).is_err(), "overflow");
    tensor.dims = vec![-2];
    assert!(values_f32(&tensor).is_err(), "negative");
    let mut elsewhere = named("e", data_type::FLOAT, &[0]);
    assert_eq!(values_f32(&elsewhere).unwrap(), [0.0_f32; 0]);
    elsewhere.data_location = Some(data_location::EXTERNAL);
    assert!(values_f32(&elsewhere).unwrap_err().0.contains("another file"));
}

#[test]
fn small_integers_are_read() {
    let mut narrow = named("i", data_type::INT32, &[2]);
    narrow.int32_data = vec![-1, 7];
    assert_eq!(values_i64(&narrow).unwrap(), [-1, 7]);
    let mut bytes = named("b", data_type::UINT8, &[1]);
    bytes.int32_data = vec![256];
    assert!(values_u8(&bytes).is_err());
    bytes.raw_data = Some(vec![255]);
    assert_eq!(values_u8(&bytes).unwrap(), [255]);
}

#[test]
fn names_lead_to_makers() {
    let mut proto = GraphProto {
        node: vec![node("Add", &["x", "x"], &["y"]), node("Mul", &["y", "c"], &["z"])],
        initializer: vec![named("c", data_type::FLOAT, &[])],
        ..GraphProto::default()
    };
    let graph = Graph::new(&proto).unwrap();
    assert_eq!(graph.producer("y").unwrap().op_type(), "Add");
    assert!(graph.constant("c").is_some() && graph.constant("y").is_none() && graph.producer("x").is_none());
    proto.node.push(node("Neg", &["x"], &["y"]));
    assert!(Graph::new(&proto).unwrap_err().0.contains("made twice"));
}

#[test]
fn an_attribute_of_another_type_is_an_error_and_a_missing_one_is_none() {
    let mut op = node("Softmax", &["x"], &["y"]);
    assert_eq!(int(&op, "axis").unwrap(), None);
    assert_eq!(ints(&op, "axis").unwrap(), [0_i64; 0]);
    let axis = AttributeProto {
        name: Some("axis".to_owned()),
        r#type: Some(attribute_type::INT),
        i: Some(-1),
        ..AttributeProto::default()
    };
    op.attribute.push(axis);
    assert_eq!(int(&op, "axis").unwrap(), Some(-1));
    assert!(float(&op, "axis").unwrap_err().0.contains("axis"));
}

#[test]
fn only_a_model_of_bounded_size_with_a_graph_is_decoded() {
    assert!(decode(b"no model at all", 100).is_err());
    assert!(decode(&[], 100).unwrap_err().0.contains("no graph"));
    let model = ModelProto { graph: Some(GraphProto::default()), ..ModelProto::default() }.encode_to_vec();
    assert!(decode(&model, model.len()).is_ok());
    assert!(decode(&model, model.len() - 1).unwrap_err().0.contains("bytes"));
}
