"""Does an ONNX graph keep the one graph contract? Checked at export and at every load."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from loupe_models.errors import GraphError
from loupe_models.manifest import TensorSpec

MAX_IR_VERSION = 10
OPSET = 17
MAX_ELEMENTS = 2**28  # of one input or output: 1 GiB of float32, as much as a bundle may weigh
MAX_TOPK = 3840  # TensorRT 10.3
# What EfficientAD, ViTs and memory banks need, all of it in TensorRT 10.3's ONNX operator table.
# fmt: off
ALLOWED_OPS = frozenset({
    "Abs", "Add", "ArgMax", "ArgMin", "AveragePool", "Cast", "Ceil", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "ConvTranspose", "Div", "Einsum", "Elu", "Equal", "Erf", "Exp",
    "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "Greater", "GreaterOrEqual", "Identity", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "MatMul", "Max", "MaxPool",
    "Min", "Mod", "Mul", "Neg", "Not", "Pad", "Pow", "Range", "Reciprocal", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid",
    "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "TopK",
    "Transpose", "Unsqueeze", "Where",
})
# Sums and curves for which FP16 has too few digits, or too little room.
FLOAT32_OPS = frozenset({
    "Erf", "Exp", "Gelu", "InstanceNormalization", "LayerNormalization", "Log", "Pow",
    "Reciprocal", "ReduceMean", "ReduceSum", "Sigmoid", "Softmax", "Sqrt", "Tanh",
})
# fmt: on
CONTRACT: Final[Mapping[str, tuple[str, tuple[int | None, ...]]]] = {
    "rgb": ("uint8", (1, None, None, 3)),
    "xyz": ("float32", (1, None, None, 3)),
    "valid": ("uint8", (1, None, None)),
    "groups": ("float32", (1, None, None, 3)),
    "centres": ("float32", (1, None, 3)),
    "nn_index": ("int32", (1, None, 3)),
    "nn_weight": ("float32", (1, None, 3)),
}
INVALID: Final = (
    DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError,
)  # fmt: skip
ONNX_DTYPES = {
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "float32": TensorProto.FLOAT,
}


def lint_graph(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Hold a graph against the contract and against what its manifest says of it.

    Raises:
        GraphError: Names the first thing that breaks the contract.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        _check_self_contained(model)
        onnx.checker.check_model(model)
        _check_versions(model)
        _check_extents([*inputs, *outputs])
        _check_interface(model.graph.input, inputs, "input")
        _check_interface(model.graph.output, outputs, "output")
        _check_inputs(inputs)
        _check_outputs(outputs)
        _check_nodes(model)
        _check_uint8_edges(model)
        _check_types(model)
    except GraphError as error:
        raise GraphError(f"{path.name}: {error}") from error
    except INVALID as error:
        raise GraphError(f"{path.name}: not a valid ONNX graph ({_first_line(error)})") from error


def _check_self_contained(model: onnx.ModelProto) -> None:
    """Weights in another file would escape the bundle's hashes, or point out of its folder."""
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise GraphError(f"weights {tensor.name} lie in another file; export them inside")


def _check_versions(model: onnx.ModelProto) -> None:
    if model.ir_version > MAX_IR_VERSION:
        raise GraphError(f"IR version {model.ir_version}, at most {MAX_IR_VERSION} is allowed")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": OPSET}:
        raise GraphError(f"operator sets {opsets}, only the standard set {OPSET} is allowed")


def _check_extents(specs: Sequence[TensorSpec]) -> None:
    """A device sets this memory aside before it runs anything."""
    for spec in specs:
        if min(spec.shape, default=1) < 1 or math.prod(spec.shape) > MAX_ELEMENTS:
            raise GraphError(
                f"{spec.name} is {spec.shape}: a static shape of 1 to {MAX_ELEMENTS:,} elements "
                f"is allowed"
            )


def _check_interface(
    values: Sequence[onnx.ValueInfoProto], specs: Sequence[TensorSpec], kind: str
) -> None:
    have = {value.name: value.type.tensor_type for value in values}
    if set(have) != {spec.name for spec in specs}:
        raise GraphError(
            f"{kind}s {sorted(have)}, the manifest names {sorted(s.name for s in specs)}"
        )
    for spec in specs:
        tensor = have[spec.name]
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        if shape != spec.shape or tensor.elem_type != ONNX_DTYPES[spec.dtype]:
            dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
            raise GraphError(
                f"{kind} {spec.name} is {dtype} {shape}, the manifest says "
                f"{spec.dtype} {spec.shape}"
            )


def _check_inputs(specs: Sequence[TensorSpec]) -> None:
    """Inputs that the contract names are of its kind; N stands for any extent."""
    for spec in specs:
        dtype, shape = CONTRACT.get(spec.name, (spec.dtype, spec.shape))
        fits = len(shape) == len(spec.shape) and all(
            want in (have, None) for have, want in zip(spec.shape, shape, strict=True)
        )
        if not fits or spec.dtype != dtype:
            wanted = ", ".join("N" if n is None else str(n) for n in shape)
            raise GraphError(
                f"input {spec.name} is {spec.dtype} {spec.shape}, the contract has "
                f"{dtype} ({wanted})"
            )


def _check_outputs(outputs: Sequence[TensorSpec]) -> None:
    by_name = {spec.name: spec for spec in outputs}
    if set(by_name) != {"anomaly_map", "image_score"}:
        raise GraphError("outputs must be anomaly_map and image_score")
    if any(spec.dtype != "float32" for spec in outputs):
        raise GraphError("both outputs must be float32")
    shape = by_name["anomaly_map"].shape
    if by_name["image_score"].shape != (1,) or len(shape) != 4 or shape[:2] != (1, 1):
        raise GraphError("anomaly_map must be (1, 1, H, W) and image_score (1,)")


def _check_nodes(model: onnx.ModelProto) -> None:
    constants = {init.name: init for init in model.graph.initializer}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise GraphError(f"operator {node.domain}::{node.op_type} is not standard ONNX")
        if node.op_type not in ALLOWED_OPS:
            raise GraphError(f"operator {node.op_type} is not one TensorRT 10.3 is known to take")
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                constants[node.output[0]] = value
        if node.op_type == "TopK":
            k = constants.get(node.input[1])
            if k is None or int(numpy_helper.to_array(k).ravel()[0]) > MAX_TOPK:
                raise GraphError(f"TopK needs a constant k of at most {MAX_TOPK}")


def _check_types(model: onnx.ModelProto) -> None:
    """Hold floats to float32 and FP16, and FP16 to what it is good for.

    A graph without FP16 costs no more than a look at its constants and casts.
    """
    made = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    made |= {node.output[0]: _made_type(node) for node in model.graph.node}
    for name, kind in made.items():
        if kind in (TensorProto.DOUBLE, TensorProto.BFLOAT16):
            said = TensorProto.DataType.Name(kind).lower()
            raise GraphError(f"{name} is {said}; floats are float32 or float16")
    if TensorProto.FLOAT16 not in made.values():
        return
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    made |= {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    for node in graph.node:
        if node.op_type in FLOAT32_OPS and made.get(node.input[0]) == TensorProto.FLOAT16:
            raise GraphError(f"{node.name} ({node.op_type}) is in FP16; it belongs in float32")


def _made_type(node: onnx.NodeProto) -> int:
    """Give the type that a cast or a constant says it makes; 0 for what says nothing."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to":
            return int(attribute.i)
        if node.op_type == "Constant" and attribute.name == "value":
            return int(attribute.t.data_type)
    return int(TensorProto.UNDEFINED)


def _check_uint8_edges(model: onnx.ModelProto) -> None:
    """TensorRT takes uint8 at the network's edge only: its sole consumer must be a Cast."""
    for value in model.graph.input:
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        consumers = [n.op_type for n in model.graph.node if value.name in n.input]
        if consumers != ["Cast"]:
            raise GraphError(f"uint8 input {value.name} feeds {consumers}, only one Cast may")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
