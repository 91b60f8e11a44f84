use prost::Message as _;

use super::super::graph::{Graph, attribute, floats, ints, text};
use super::super::proto::attribute_proto::attribute_type;
use super::super::proto::type_proto::Value as Kind;
use super::super::proto::{GraphProto, NodeProto, ValueInfoProto};
use super::*;

fn fixture(name: &str) -> ModelProto {
    let path = format!("{}/tests/fixtures/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap()
}

fn graph(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().unwrap()
}

fn kinds(model: &ModelProto) -> Vec<&str> {
    graph(model).node.iter().map(|node| node.op_type()).collect()
}

fn first<'a>(model: &'a mut ModelProto, kind: &str) -> &'a mut NodeProto {
    model.graph.as_mut().unwrap().node.iter_mut().find(|node| node.op_type() == kind).unwrap()
}

/// Every name that is read must be made by a node before, an initialiser or an input; and every output by someone.
fn assert_whole(model: &ModelProto) {
    let graph = graph(model);
    let mut made: Vec<&str> = graph.input.iter().map(|value| value.name()).collect();
    made.extend(graph.initializer.iter().map(|tensor| tensor.name()));
    for node in &graph.node {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            assert!(made.contains(&name.as_str()), "{name} is read and not made");
        }
        made.extend(node.output.iter().map(String::as_str));
    }
    for output in &graph.output {
        assert!(made.contains(&output.name()), "output {} is not made", output.name());
    }
}

fn rewritten(before: &ModelProto) -> (ModelProto, Done) {
    rewritten_with(before, Distances::CDist)
}

fn rewritten_with(before: &ModelProto, form: Distances) -> (ModelProto, Done) {
    let (after, done) = optimize(before.clone(), form);
    assert_whole(&after);
    let names = |model: &ModelProto| graph(model).output.iter().map(|out| out.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(before), names(&after));
    (after, done)
}

#[test]
fn an_isolation_forest_becomes_one_ensemble() {
    let (after, done) = rewritten(&fixture("stock_iforest"));
    assert_eq!((done.trees, done.nodes_before, done.nodes_after), (20, 550, 6));
    assert_eq!(kinds(&after), ["TreeEnsembleRegressor", "Div", "Pow", "Sub", "Less", "Where"]);
}

#[test]
fn a_score_that_is_an_output_keeps_its_sign_to_itself() {
    let mut before = fixture("stock_iforest");
    // As with the exporter's option `score_samples`.
    let added = graph(&before).node.iter().find(|node| node.output[0] == "scores").unwrap().input[0].clone();
    let output = ValueInfoProto { name: Some(added), ..graph(&before).output[1].clone() };
    before.graph.as_mut().unwrap().output.push(output);
    let (after, done) = rewritten(&before);
    assert_eq!(kinds(&after), ["TreeEnsembleRegressor", "Div", "Pow", "Neg", "Add", "Less", "Where"]);
    assert_eq!(done.signs, 1);
}

/// Liu, Ting, Zhou 2008, equation 1, for a leaf of `n` training rows.
fn c(n: f64) -> f64 {
    match n {
        n if n > 2.0 => 2.0 * ((n - 1.0).ln() + 0.577_215_664_901_532_9) - 2.0 * (n - 1.0) / n,
        2.0 => 1.0,
        _ => 0.0,
    }
}

#[test]
fn a_leaf_weighs_its_depth_and_the_depth_its_rows_would_still_reach() {
    let before = fixture("stock_iforest");
    let (after, _) = rewritten(&before);
    let index = Graph::new(graph(&before)).unwrap();
    let mut expected = Vec::new();
    for tree in graph(&before).node.iter().filter(|node| node.op_type() == "Sum").flat_map(|sum| &sum.input) {
        // The tables of rows and of path lengths are named after the tree.
        let number = tree.trim_start_matches("depth").split('_').next().unwrap();
        let table = |what: &str| {
            let encoder =
                index.producer(&index.producer(&format!("{what}{number}_reshaped0")).unwrap().input[0]).unwrap();
            floats(encoder, "values_floats").unwrap().to_vec()
        };
        let pairs = table("node_sample").into_iter().zip(table("path_length"));
        // The exporter counts nodes on the path, one more than steps.
        expected.extend(pairs.map(|(rows, nodes)| f64::from(nodes) - 1.0 + c(f64::from(rows))));
    }
    let weights = floats(&graph(&after).node[0], "target_weights").unwrap();
    assert_eq!(weights.len(), expected.len());
    for (weight, expected) in weights.iter().zip(expected) {
        assert!((f64::from(*weight) - expected).abs() < 4e-6, "{weight} instead of {expected}");
    }
}

#[test]
fn the_columns_that_a_tree_was_given_become_columns_of_the_input() {
    let mut before = fixture("stock_iforest");
    let sum = graph(&before).node.iter().find(|node| node.op_type() == "Sum").unwrap().input[0].clone();
    let number = sum.trim_start_matches("depth").split('_').next().unwrap().to_owned();
    let order = build::whole_numbers(&[6, 5, 4, 3, 2, 1, 0]);
    let whole = before.graph.as_mut().unwrap();
    whole.initializer.push(crate::onnx::proto::TensorProto { name: Some("order".to_owned()), ..order });
    let chosen = format!("node_sample{number}_output0");
    whole.node.iter_mut().find(|node| node.output[0] == chosen).unwrap().input[1] = "order".to_owned();
    let (after, done) = rewritten(&before);
    assert_eq!(done.trees, 20);
    let (plain, _) = rewritten(&fixture("stock_iforest"));
    let features = |model: &ModelProto| ints(&graph(model).node[0], "nodes_featureids").unwrap().to_vec();
    let modes = super::super::graph::strings(&graph(&after).node[0], "nodes_modes").unwrap();
    let trees = ints(&graph(&after).node[0], "nodes_treeids").unwrap();
    for (index, (old, new)) in features(&plain).into_iter().zip(features(&after)).enumerate() {
        let turned = trees[index] == 0 && modes[index] != b"LEAF";
        assert_eq!(new, if turned { 6 - old } else { old });
    }
}

#[test]
fn a_forest_that_is_not_quite_one_is_left_alone() {
    for (kind, other) in [("Log", "Cos"), ("LabelEncoder", "OneHotEncoder"), ("Max", "Mod")] {
        let mut before = fixture("stock_iforest");
        first(&mut before, kind).op_type = Some(other.to_owned());
        assert_eq!(rewritten(&before).1.trees, 0, "{other}");
    }
    let mut before = fixture("stock_iforest");
    let tree = first(&mut before, "TreeEnsembleRegressor");
    let base = build::floats("base_values", vec![1.0]);
    tree.attribute.push(base);
    assert_eq!(rewritten(&before).1.trees, 0, "base values");
    // A second input of the model behind one tree.
    let mut before = fixture("stock_iforest");
    first(&mut before, "Gather").input[0] = "other".to_owned();
    let other = ValueInfoProto { name: Some("other".to_owned()), ..graph(&before).input[0].clone() };
    before.graph.as_mut().unwrap().input.push(other);
    assert_eq!(rewritten(&before).1.trees, 0, "two inputs");
}

#[test]
fn a_distance_loop_becomes_cdist() {
    let (after, done) = rewritten(&fixture("stock_lof"));
    assert_eq!(done.distances, 1);
    let node = &graph(&after).node[0];
    assert_eq!(
        (node.domain(), node.op_type(), text(node, "metric").unwrap()),
        ("com.microsoft", "CDist", Some("euclidean"))
    );
    assert!(after.opset_import.iter().any(|set| set.domain() == "com.microsoft" && set.version() == 1));
    assert!(!kinds(&after).contains(&"Scan"));
}

#[test]
fn far_from_the_origin_both_sides_move_to_the_middle() {
    let (plain, _) = rewritten(&fixture("stock_lof"));
    assert_eq!(kinds(&plain)[0], "CDist", "these rows lie around the origin");
    let mut before = fixture("stock_lof");
    let tensors = &mut before.graph.as_mut().unwrap().initializer;
    let points = tensors.iter_mut().find(|tensor| tensor.name() == "Sc_Scancst").unwrap();
    let values = super::super::graph::values_f32(points).unwrap();
    points.raw_data = None;
    points.float_data = values.iter().map(|value| value + 4096.0).collect();
    let (after, _) = rewritten(&before);
    assert_eq!(kinds(&after)[..2], ["Sub", "CDist"]);
    let constant = |name: &str| {
        let tensor = graph(&after).initializer.iter().find(|tensor| tensor.name() == name).unwrap();
        super::super::graph::values_f32(tensor).unwrap()
    };
    let (middle, moved) = (constant("middle"), constant("points_from_middle"));
    for (index, (value, moved)) in values.iter().zip(moved).enumerate() {
        assert!((value + 4096.0 - middle[index % 7] - moved).abs() < 1e-3, "{value} {moved}");
    }
}

#[test]
fn the_exact_form_subtracts_all_pairs_and_the_loop_may_stay() {
    let (after, done) = rewritten_with(&fixture("stock_lof"), Distances::Exact);
    assert_eq!((done.distances, &kinds(&after)[..4]), (1, &["Unsqueeze", "Sub", "ReduceSumSquare", "Sqrt"][..]));
    let (after, done) = rewritten_with(&fixture("stock_lof"), Distances::Loop);
    assert_eq!((done.distances, kinds(&after)[0]), (0, "Scan"));
}

#[test]
fn without_a_root_the_distance_is_squared() {
    let mut before = fixture("stock_lof");
    let root = first(&mut before, "Sqrt");
    root.op_type = Some("Abs".to_owned());
    let (after, _) = rewritten(&before);
    assert_eq!(text(&graph(&after).node[0], "metric").unwrap(), Some("sqeuclidean"));
    assert!(kinds(&after).contains(&"Abs"));
}

#[test]
fn another_loop_is_left_alone() {
    for (kind, other) in [("Sub", "Add"), ("ReduceSumSquare", "ReduceSum")] {
        let mut before = fixture("stock_lof");
        let scan = first(&mut before, "Scan");
        let body = scan.attribute.iter_mut().find_map(|attribute| attribute.g.as_mut()).unwrap();
        body.node.iter_mut().find(|node| node.op_type() == kind).unwrap().op_type = Some(other.to_owned());
        assert_eq!(rewritten(&before).1.distances, 0, "{other}");
    }
    let mut before = fixture("stock_lof");
    first(&mut before, "Scan").attribute.push(build::ints("scan_input_directions", vec![1]));
    // Backwards, the columns of the distances would be in another order.
    assert_eq!(rewritten(&before).1.distances, 0);
}

#[test]
fn a_zip_map_leaves_a_tensor_of_its_name() {
    let names = Classes::Names(["blue", "green", "red"].map(str::to_owned).to_vec());
    for (name, classes) in [("zipmap_logreg", Classes::Numbers(vec![0, 1, 2])), ("zipmap_logreg_names", names)] {
        let (after, done) = rewritten(&fixture(name));
        assert_eq!(done.unzipped, [Unzipped { output: "output_probability".to_owned(), classes }]);
        assert_eq!(kinds(&after), ["Scaler", "LinearClassifier", "Normalizer"]);
        let kind = graph(&after).output[1].r#type.as_ref().unwrap();
        assert!(matches!(&kind.value, Some(Kind::Tensor(tensor)) if tensor.elem_type() == 1));
    }
}

#[test]
fn a_network_of_seven_outputs_gets_seven_columns() {
    let (after, done) = rewritten(&fixture("mlp_fixed_reshape"));
    assert_eq!(done.repaired, [Repaired { output: "variable".to_owned(), columns: 7 }]);
    assert_eq!(done.cleaned.casts, 1);
    let reshape = graph(&after).node.iter().find(|node| node.op_type() == "Reshape").unwrap();
    let shape = graph(&after).initializer.iter().find(|tensor| tensor.name() == reshape.input[1]).unwrap();
    assert_eq!(super::super::graph::values_i64(shape).unwrap(), [-1, 7]);
}

#[test]
fn an_identity_goes_only_where_no_name_is_lost() {
    let value = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() };
    let model = |nodes: Vec<NodeProto>, outputs: &[&str]| ModelProto {
        graph: Some(GraphProto {
            node: nodes,
            input: vec![value("x")],
            output: outputs.iter().map(|name| value(name)).collect(),
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    let identity = |from: &str, to: &str| build::node("Identity", "", &[from], &[to]);
    let relu = |from: &str, to: &str| build::node("Relu", "", &[from], &[to]);
    for (nodes, outputs, left) in [
        (vec![identity("x", "a"), relu("a", "y")], &["y"][..], 1),
        (vec![relu("x", "a"), identity("a", "y")], &["y"], 1),
        (vec![relu("x", "a"), identity("a", "b"), identity("b", "y"), relu("b", "z")], &["y", "z"], 2),
        // Both names are outputs, or the input is: the node is the only one that can give the second name.
        (vec![relu("x", "a"), identity("a", "y")], &["a", "y"], 2),
        (vec![identity("x", "y")], &["y"], 1),
    ] {
        let before = model(nodes, outputs);
        let (after, _) = rewritten(&before);
        assert_eq!(graph(&after).node.len(), left, "{:?}", kinds(&after));
    }
    // A nested graph reads `a` by its name.
    let body = GraphProto { node: vec![relu("a", "inner")], output: vec![value("inner")], ..GraphProto::default() };
    let mut nested = build::node("If", "", &["x"], &["y"]);
    let mut branch = build::int("then_branch", 0);
    branch.r#type = Some(attribute_type::GRAPH);
    branch.g = Some(Box::new(body));
    nested.attribute.push(branch);
    let before = model(vec![identity("x", "a"), nested], &["y"]);
    let (after, done) = rewritten(&before);
    assert_eq!((graph(&after).node.len(), done.anything()), (2, false));
}

#[test]
fn the_models_of_the_repository_need_nothing_slow_rewritten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/pump-anomaly");
    for name in ["isolation_forest", "lof", "autoencoder"] {
        let bytes = std::fs::read(folder.join(name).join("1/model.onnx")).unwrap();
        let (_, done) = rewritten(&ModelProto::decode(bytes.as_slice()).unwrap());
        assert_eq!((done.trees, done.distances, done.unzipped.len(), done.repaired.len()), (0, 0, 0, 0), "{name}");
    }
}

/// A tree of one split on column 1, whose leaves weigh 3 and 4.
fn stump(output: &str) -> NodeProto {
    let mut node = build::node("TreeEnsembleRegressor", "ai.onnx.ml", &["x"], &[output]);
    node.attribute = vec![
        build::ints("nodes_treeids", vec![7; 3]),
        build::ints("nodes_nodeids", vec![0, 1, 2]),
        build::ints("nodes_featureids", vec![1, 0, 0]),
        build::strings("nodes_modes", [&b"BRANCH_LEQ"[..], b"LEAF", b"LEAF"].map(<[u8]>::to_vec).to_vec()),
        build::floats("nodes_values", vec![0.5, 0.0, 0.0]),
        build::ints("nodes_truenodeids", vec![1, 0, 0]),
        build::ints("nodes_falsenodeids", vec![2, 0, 0]),
        build::ints("target_treeids", vec![7; 2]),
        build::ints("target_nodeids", vec![1, 2]),
        build::ints("target_ids", vec![0; 2]),
        build::floats("target_weights", vec![3.0, 4.0]),
    ];
    node
}

#[test]
fn a_sum_in_float64_goes_on_in_float64() {
    let mut cast = build::node("Cast", "", &["leaf"], &["wide"]);
    cast.attribute.push(build::int("to", 11));
    let double = build::node("Add", "", &["wide", "wide"], &["twice"]);
    let sum = build::node("Sum", "", &["twice", "wide"], &["y"]);
    let value = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() };
    let graph = GraphProto {
        node: vec![stump("leaf"), cast, double, sum],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let (after, done) = rewritten(&ModelProto { graph: Some(graph), ..ModelProto::default() });
    // The same tree stands behind both terms; each becomes a tree of the ensemble.
    assert_eq!((done.trees, kinds(&after)), (2, vec!["TreeEnsembleRegressor", "Cast"]));
    let ensemble = &self::graph(&after).node[0];
    assert_eq!(floats(ensemble, "target_weights").unwrap(), [6.0, 8.0, 3.0, 4.0]);
    assert_eq!(ints(ensemble, "nodes_treeids").unwrap(), [0, 0, 0, 1, 1, 1]);
}

#[test]
fn changed_bytes_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(3);
    for name in ["stock_lof", "zipmap_logreg_names", "mlp_fixed_reshape"] {
        let whole = fixture(name).encode_to_vec();
        let mut understood = 0;
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Ok(model) = ModelProto::decode(bytes.as_slice()) {
                understood += 1;
                for form in [Distances::CDist, Distances::Exact] {
                    assert!(optimize(model.clone(), form).1.nodes_before < 1_000);
                }
            }
        }
        assert!(understood > 50, "{name}: {understood}");
    }
}

#[test]
fn hostile_graphs_end() {
    // A circle, a node without anything, a model without a graph.
    let circle = vec![build::node("Identity", "", &["a"], &["b"]), build::node("Identity", "", &["b"], &["a"])];
    let bare = NodeProto { op_type: Some("Sum".to_owned()), ..NodeProto::default() };
    for nodes in [circle, vec![bare], vec![build::node("Sum", "", &["s"], &["s"]), build::node("Scan", "", &[], &[])]] {
        let graph = GraphProto { node: nodes, ..GraphProto::default() };
        let (after, _) = optimize(ModelProto { graph: Some(graph), ..ModelProto::default() }, Distances::CDist);
        assert!(self::graph(&after).node.is_empty(), "no output needs them");
    }
    let (after, done) = optimize(ModelProto::default(), Distances::Exact);
    assert!(!done.anything() && graph(&after).node.is_empty());
}

#[test]
fn advice_names_what_optimize_would_do_and_what_it_cannot() {
    for (name, word) in [
        ("stock_iforest", "IsolationForest"),
        ("stock_lof", "LocalOutlierFactor"),
        ("zipmap_logreg", "ZipMap"),
        ("mlp_fixed_reshape", "Reshape"),
    ] {
        let said = advice(&fixture(name)).join("\n");
        assert!(said.contains(word) && said.contains("models optimize"), "{said}");
        let (after, _) = rewritten(&fixture(name));
        assert_eq!(advice(&after), Vec::<String>::new());
    }
    let mut model = fixture("stock_lof");
    first(&mut model, "Less").op_type = Some("StringNormalizer".to_owned());
    assert!(attribute(first(&mut model, "StringNormalizer"), "locale").is_none());
    model.graph.as_mut().unwrap().initializer[0].data_location = Some(1);
    let said = advice(&model).join("\n");
    assert!(said.contains("C.UTF-8") && said.contains("external data"), "{said}");
}
