"""Small patterns of exporters: distances by `Scan`, `ZipMap`, a reshape that forgets the number of outputs, labels.

Each function rewrites what it knows, leaves alone what it does not, and returns what it did.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .edit import Editor, attributes


def scan_metric(editor: Editor, node: NodeProto) -> bool:
    """Is this the loop that computes squared Euclidean distances between all rows and a constant matrix?"""
    given = attributes(node)
    if node.op_type != "Scan" or given.get("num_scan_inputs") != 1 or len(node.input) != 2 or len(node.output) != 2:
        return False
    if any(any(given.get(f"scan_{side}_{what}", [])) for side in ("input", "output") for what in ("axes", "directions")):
        return False
    points, body = editor.constant(node.input[1]), given["body"]
    if points is None or points.ndim != 2 or node.output[0] in editor.users or node.output[0] in editor.outputs:
        return False
    makers = {name: each for each in body.node for name in each.output}
    constants = {tensor.name: tensor for tensor in body.initializer}

    def walk(name: str) -> NodeProto | None:
        while name in makers and makers[name].op_type == "Identity":
            name = makers[name].input[0]
        return makers.get(name) or name

    rows, point = body.input[0].name, body.input[1].name
    square = walk(body.output[1].name)
    if walk(body.output[0].name) != rows or isinstance(square, str) or square.op_type != "ReduceSumSquare":
        return False
    axes = attributes(square).get("axes")
    if len(square.input) == 2:
        tensor = constants.get(square.input[1])
        axes = editor.constant(square.input[1]) if tensor is None else numpy_helper.to_array(tensor)
        axes = None if axes is None else axes.tolist()
    difference = walk(square.input[0])
    if axes not in ([1], [-1]) or attributes(square).get("keepdims", 1) != 0 or isinstance(difference, str):
        return False
    return difference.op_type == "Sub" and sorted(difference.input) == sorted((rows, point))


def centred(points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The middle of the stored rows and the rows seen from there, where the middle is further out than they are."""
    wide = points.astype(np.float64)
    middle = wide.mean(axis=0).astype(points.dtype)
    moved = wide - middle
    if not np.isfinite(moved).all() or (middle.astype(np.float64) ** 2).sum() <= (moved**2).sum() / len(points):
        return None
    return middle, moved.astype(points.dtype)


def cdist(editor: Editor, scan: NodeProto, output: str, root: bool) -> list[NodeProto]:
    """`CDist` of com.microsoft, as skl2onnx writes it with `optim="cdist"`.

    It computes |x|^2 - 2 xy + |y|^2, which loses digits far from the origin: so both sides move to the middle first.
    """
    rows, points = scan.input
    nodes = []
    if found := centred(editor.constant(points)):
        middle, points = editor.add_constant("middle", found[0]), editor.add_constant("points_from_middle", found[1])
        nodes.append(helper.make_node("Sub", [rows, middle], [editor.fresh("rows_from_middle")]))
        rows = nodes[0].output[0]
    editor.import_domain("com.microsoft", 1)
    metric = "euclidean" if root else "sqeuclidean"
    return [*nodes, helper.make_node("CDist", [rows, points], [output], domain="com.microsoft", metric=metric)]


def all_pairs(editor: Editor, scan: NodeProto, output: str, root: bool) -> list[NodeProto]:
    """What the loop does, for all stored rows at once: the same bits, but it holds every difference in memory."""
    opset = next((entry.version for entry in editor.model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    wide, difference, squared = (editor.fresh(name) for name in ("each_row", "differences", "squared"))
    total = squared if root else output

    def over(kind: str, source: str, made: str, axis: int, since: int, **given) -> NodeProto:
        if opset < since:
            return helper.make_node(kind, [source], [made], axes=[axis], **given)
        return helper.make_node(kind, [source, editor.add_constant("axis", np.array([axis]))], [made], **given)

    nodes = [
        over("Unsqueeze", scan.input[0], wide, 1, 13),
        helper.make_node("Sub", [wide, scan.input[1]], [difference]),
        over("ReduceSumSquare", difference, total, 2, 18, keepdims=0),
    ]
    return nodes + ([helper.make_node("Sqrt", [squared], [output])] if root else [])


# Differences that the exact form may hold for one row.
WIDEST = 1 << 15


def distances(editor: Editor, form: str) -> int:
    """Scan, Transpose[, Sqrt] in a faster form: `cdist`, or `exact`; with `loop` nothing is done."""
    done = 0
    for scan in list(editor.nodes) if form != "loop" else []:
        if not scan_metric(editor, scan) or (form == "exact" and editor.constant(scan.input[1]).size > WIDEST):
            continue
        turn = editor.only_user(scan.output[1], "Transpose")
        if turn is None or list(attributes(turn).get("perm", [1, 0])) != [1, 0]:
            continue
        root = editor.only_user(turn.output[0], "Sqrt")
        last = turn if root is None else root
        make = cdist if form == "cdist" else all_pairs
        editor.replace(last, *make(editor, scan, last.output[0], root is not None))
        editor.sweep()
        done += 1
    return done


def zip_maps(editor: Editor) -> dict[str, list]:
    """Outputs that were lists of maps become tensors [N, classes] of the same name; their classes are returned."""
    done: dict[str, list] = {}
    for node in [node for node in editor.nodes if node.op_type == "ZipMap" and node.output[0] in editor.outputs]:
        given = attributes(node)
        classes = given.get("classlabels_int64s") or [name.decode() for name in given.get("classlabels_strings", [])]
        name = node.output[0]
        shape = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, len(classes)])
        editor.outputs[name].CopyFrom(shape)
        if not editor.bypass(node):
            editor.replace(node, helper.make_node("Identity", node.input, node.output))
        done[name] = list(classes)
    return done


def columns(editor: Editor, name: str, depth: int = 0) -> int | None:
    """How many columns a value of two axes has, told from the weights it was multiplied with."""
    node = editor.producer.get(name)
    if node is None or depth > 8:
        return None
    if node.op_type in ("Identity", "Cast", "Relu", "Tanh", "Sigmoid", "Softmax"):
        return columns(editor, node.input[0], depth + 1)
    if node.op_type == "Add":
        bias = editor.constant(node.input[1])
        wide = columns(editor, node.input[0], depth + 1)
        return wide if bias is not None and bias.ndim <= 2 and bias.shape[-1:] in ((), (1,), (wide,)) else None
    weights = editor.constant(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
    if weights is None or weights.ndim != 2:
        return None
    return weights.shape[0 if node.op_type == "Gemm" and attributes(node).get("transB") else 1]


def reshapes(editor: Editor) -> dict[str, int]:
    """`Reshape(-1, 1)` at the end of a network of several outputs: skl2onnx writes it for every MLPRegressor."""
    done = {}
    for node in [node for node in editor.nodes if node.op_type == "Reshape" and node.output[0] in editor.outputs]:
        shape, wide = editor.constant(node.input[1]), columns(editor, node.input[0])
        if shape is None or shape.tolist() != [-1, 1] or wide is None or wide < 2:
            continue
        node.input[1] = editor.add_constant("repaired_shape", np.array([-1, wide], np.int64))
        editor.index()
        axes = editor.outputs[node.output[0]].type.tensor_type.shape.dim
        if len(axes) == 2:
            axes[0].Clear()
            axes[1].dim_value = wide
        done[node.output[0]] = wide
    return done


def labels(editor: Editor) -> int:
    """`Cast(condition) * a + b` on integers, the outlier label of scikit-learn's detectors, as one `Where`."""
    done = 0
    for cast in [node for node in editor.nodes if node.op_type == "Cast" and attributes(node)["to"] == TensorProto.INT64]:
        asked = editor.producer_of(cast.input[0], "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal", "Not")
        times = editor.only_user(cast.output[0], "Mul")
        plus = times and editor.only_user(times.output[0], "Add")
        if asked is None or not plus:
            continue
        factor, offset = (editor.constant(node.input[1]) for node in (times, plus))
        if factor is None or offset is None or factor.shape != (1,) or offset.shape != (1,):
            continue
        chosen = [editor.add_constant("label", value) for value in (factor + offset, offset)]
        editor.replace(plus, helper.make_node("Where", [cast.input[0], *chosen], plus.output))
        editor.sweep()
        done += 1
    return done


def into_constant(editor: Editor, node: NodeProto) -> tuple[NodeProto, NodeProto] | None:
    """`Neg(x / c)` as `x / -c`."""
    value = editor.constant(node.input[1]) if node.op_type in ("Div", "Mul") else None
    last = editor.only_user(node.output[0], "Neg") if value is not None and value.size == 1 and value.dtype.kind == "f" else None
    if last is None:
        return None
    return last, helper.make_node(node.op_type, [node.input[0], editor.add_constant("turned", -value)], last.output)


def into_difference(editor: Editor, node: NodeProto) -> tuple[NodeProto, NodeProto] | None:
    """`Neg(z) + o` and `z * -1 + o` as `o - z`."""
    factor = editor.constant(node.input[1]) if node.op_type == "Mul" else None
    if node.op_type != "Neg" and (factor is None or factor.size != 1 or factor.dtype.kind != "f" or factor.item() != -1):
        return None
    last = editor.only_user(node.output[0], "Add")
    if last is None or last.input[0] == last.input[1]:
        return None
    other = last.input[1] if last.input[0] == node.output[0] else last.input[0]
    offset = editor.constant(other)
    if offset is None or offset.ndim < (0 if factor is None else factor.ndim):
        return None
    return last, helper.make_node("Sub", [other, node.input[0]], last.output)


def signs(editor: Editor) -> int:
    """Changes of sign, taken into the node beside them. Exact: a sign changes no other bit of a float."""
    done = 0
    while True:
        candidates = [node for node in editor.nodes if node.op_type in ("Div", "Mul", "Neg")]
        found = next((pair for node in candidates if (pair := into_constant(editor, node) or into_difference(editor, node))), None)
        if found is None:
            return done
        editor.replace(*found)
        editor.sweep()
        done += 1
