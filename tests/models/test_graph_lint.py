"""Each rule of the graph contract, broken by a small real graph."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from loupe_models.errors import GraphError
from loupe_models.graph_lint import lint_graph
from loupe_models.manifest import TensorSpec

SIDE = 8
INPUTS = (TensorSpec(name="rgb", dtype="uint8", shape=(1, SIDE, SIDE, 3)),)
OUTPUTS = (
    TensorSpec(name="anomaly_map", dtype="float32", shape=(1, 1, SIDE, SIDE)),
    TensorSpec(name="image_score", dtype="float32", shape=(1,)),
)
ONNX = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


def interface(specs: tuple[TensorSpec, ...]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(s.name, ONNX[s.dtype], s.shape) for s in specs]


def good_nodes() -> list[NodeProto]:
    return [
        helper.make_node("Cast", ["rgb"], ["colour"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["colour"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["planes"], ["anomaly_map"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["anomaly_map"], ["highest"], keepdims=0),
        helper.make_node("Reshape", ["highest", "one"], ["image_score"]),
    ]


def good_model() -> ModelProto:
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    graph = helper.make_graph(
        good_nodes(), "good", interface(INPUTS), interface(OUTPUTS), initializer=[one]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def lint(model: ModelProto, folder: Path) -> None:
    path = folder / "rgb.fp32.onnx"
    path.write_bytes(model.SerializeToString())
    lint_graph(path, INPUTS, OUTPUTS)


def complaint(model: ModelProto, folder: Path) -> str:
    """What the lint says of a model; nothing where it passes."""
    try:
        lint(model, folder)
    except GraphError as error:
        return str(error)
    return ""


def newer_ir(model: ModelProto) -> None:
    model.ir_version = 11


def other_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 16


def foreign_operator_set(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def other_input_name(model: ModelProto) -> None:
    model.graph.input[0].name = "image"
    model.graph.node[0].input[0] = "image"


def other_input_size(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 16


def float_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def dynamic_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def extra_output(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("highest", TensorProto.FLOAT, ()))


def transpose_before_cast(model: ModelProto) -> None:
    transpose = helper.make_node("Transpose", ["rgb"], ["turned"], perm=[0, 3, 1, 2])
    cast = helper.make_node("Cast", ["turned"], ["planes"], to=TensorProto.FLOAT)
    replace_nodes(model, [transpose, cast, *good_nodes()[2:]])


def two_casts(model: ModelProto) -> None:
    second = helper.make_node("Cast", ["rgb"], ["again"], to=TensorProto.FLOAT)
    replace_nodes(model, [second, *good_nodes()])


def operator_tensorrt_lacks(model: ModelProto) -> None:
    replace_nodes(model, [*good_nodes(), helper.make_node("NonZero", ["highest"], ["where"])])


def operator_of_a_vendor(model: ModelProto) -> None:
    vendor = helper.make_node("FusedConv", ["planes"], ["x"], domain="com.microsoft")
    replace_nodes(model, [*good_nodes(), vendor])


def large_topk(model: ModelProto) -> None:
    k = numpy_helper.from_array(np.array([3841], np.int64), "k")
    topk(model, helper.make_node("Constant", [], ["k"], value=k))


def computed_topk(model: ModelProto) -> None:
    topk(model, helper.make_node("Shape", ["highest"], ["k"]))


def topk(model: ModelProto, k: NodeProto) -> None:
    node = helper.make_node("TopK", ["planes", "k"], ["values", "indices"])
    replace_nodes(model, [*good_nodes(), k, node])


def unknown_value(model: ModelProto) -> None:
    model.graph.node[1].input[0] = "nowhere"


def weights_elsewhere(model: ModelProto) -> None:
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.append(onnx.StringStringEntryProto(key="location", value="../secret"))


def replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def test_a_graph_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    assert complaint(good_model(), tmp_path) == ""


def test_a_small_topk_passes(tmp_path: Path) -> None:
    model = good_model()
    k = numpy_helper.from_array(np.array([3840], np.int64), "k")
    topk(model, helper.make_node("Constant", [], ["k"], value=k))
    assert complaint(model, tmp_path) == ""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (newer_ir, "IR version 11, at most 10"),
        (other_opset, "operator sets {'': 16}"),
        (foreign_operator_set, "only the standard set 17"),
        (other_input_name, "inputs \\['image'\\], the manifest names \\['rgb'\\]"),
        (other_input_size, "the manifest says uint8 \\(1, 8, 8, 3\\)"),
        (float_input, "input rgb is float"),
        (dynamic_batch, "input rgb is uint8 \\(-1, 8, 8, 3\\)"),
        (extra_output, "outputs .*highest.*, the manifest names"),
        (transpose_before_cast, "feeds \\['Transpose'\\], only one Cast may"),
        (two_casts, "feeds \\['Cast', 'Cast'\\], only one Cast may"),
        (operator_tensorrt_lacks, "operator NonZero is not one TensorRT"),
        (operator_of_a_vendor, "com.microsoft"),
        (large_topk, "constant k of at most 3840"),
        (computed_topk, "constant k of at most 3840"),
        (unknown_value, "not a valid ONNX graph"),
        (weights_elsewhere, "weights one lie in another file"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_rule_refuses_and_names_the_file(
    spoil: Callable[[ModelProto], None], message: str, tmp_path: Path
) -> None:
    model = good_model()
    spoil(model)
    with pytest.raises(GraphError, match=f"rgb.fp32.onnx: .*{message}"):
        lint(model, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff" * 40, b"PK\x03\x04"], ids=["empty", "noise", "zip"]
)
def test_what_is_not_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rgb.fp32.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphError, match="not a valid ONNX graph"):
        lint_graph(path, INPUTS, OUTPUTS)


def test_a_truncated_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rgb.fp32.onnx"
    whole = good_model().SerializeToString()
    for n_bytes in range(0, len(whole), 7):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(GraphError):
            lint_graph(path, INPUTS, OUTPUTS)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (OUTPUTS[:1], "outputs"),
        ((OUTPUTS[0], OUTPUTS[1].model_copy(update={"name": "score"})), "outputs"),
        ((OUTPUTS[0], OUTPUTS[1].model_copy(update={"shape": (1, 1)})), "image_score"),
    ],
)
def test_the_outputs_are_the_two_of_the_contract(
    outputs: tuple[TensorSpec, ...], message: str, tmp_path: Path
) -> None:
    model = good_model()
    del model.graph.output[:]
    model.graph.output.extend(interface(outputs))
    names = [spec.name for spec in outputs]
    if "score" in names:
        model.graph.node[-1].output[0] = "score"
    path = tmp_path / "rgb.fp32.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match=message):
        lint_graph(path, INPUTS, outputs)


@pytest.mark.parametrize(
    "shape", [(1, 1, 0, 0), (1, 1, -1, SIDE), (1, 1, 2**14, 2**14 + 1), (1, 1, 10**9, 10**9)]
)
def test_a_map_that_no_device_has_memory_for_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    outputs = (OUTPUTS[0].model_copy(update={"shape": shape}), OUTPUTS[1])
    path = tmp_path / "rgb.fp32.onnx"
    path.write_bytes(good_model().SerializeToString())
    with pytest.raises(GraphError, match=r"anomaly_map is .*1 to 268,435,456 elements"):
        lint_graph(path, INPUTS, outputs)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "wanted"),
    [
        ("groups", "float32", (1, 8, 3), "float32 (1, N, N, 3)"),
        ("centres", "float32", (1, 8, 4), "float32 (1, N, 3)"),
        ("nn_index", "float32", (1, 64, 3), "int32 (1, N, 3)"),
        ("nn_weight", "float32", (2, 64, 3), "float32 (1, N, 3)"),
    ],
)
def test_an_input_of_another_kind_than_the_contract_names(
    name: str, dtype: str, shape: tuple[int, ...], wanted: str, tmp_path: Path
) -> None:
    model = good_model()
    odd = TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": shape})
    model.graph.input.extend(interface((odd,)))
    path = tmp_path / "rgbd.fp32.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match=re.escape(f"input {name} is {dtype} {shape}, the ")) as e:
        lint_graph(path, [*INPUTS, odd], OUTPUTS)
    assert wanted in str(e.value)


def in_fp16(op: str) -> ModelProto:
    """A graph that computes in FP16 between two casts, with one operator of one's own."""
    model = good_model()
    nodes = [
        helper.make_node("Cast", ["rgb"], ["colour"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["colour"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["planes"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Cast", ["grey"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node(op, ["half"], ["made"], name="the_node"),
        helper.make_node("Cast", ["made"], ["anomaly_map"], to=TensorProto.FLOAT),
        *good_nodes()[3:],
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_fp16_inside_is_allowed(tmp_path: Path) -> None:
    assert complaint(in_fp16("Relu"), tmp_path) == ""


@pytest.mark.parametrize("op", ["Softmax", "Erf", "Exp", "Sqrt"])
def test_what_fp16_cannot_carry_belongs_in_float32(tmp_path: Path, op: str) -> None:
    assert f"the_node ({op}) is in FP16" in complaint(in_fp16(op), tmp_path)


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_other_floats_are_refused(tmp_path: Path, dtype: int) -> None:
    model = in_fp16("Relu")
    for node in model.graph.node:
        if node.output[0] == "half":
            node.attribute[0].i = dtype
    assert "floats are float32 or float16" in complaint(model, tmp_path)
