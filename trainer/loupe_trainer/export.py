"""Export a detector of any method to ONNX, and hold it against the one graph contract."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from loupe_models.atomic import write_bytes
from loupe_models.errors import GraphError
from loupe_models.graph_lint import MAX_IR_VERSION, ONNX_DTYPES, OPSET, lint_graph
from loupe_models.manifest import TensorSpec
from loupe_trainer.methods.base import Detector

OUTPUT_NAMES = ("anomaly_map", "image_score")
MAX_GRAPH_BYTES = 1_800_000_000

Specs = tuple[TensorSpec, ...]


def export_onnx(
    detector: Detector, tensors: Mapping[str, npt.NDArray[np.generic]], path: Path
) -> tuple[Specs, Specs]:
    """Write a detector as an ONNX graph with static shapes.

    Args:
        detector: In any state; it is exported as it answers in evaluation.
        tensors: An example of what preprocessing gives, in the order that `forward` takes.
        path: Written whole or not at all.

    Returns:
        What the manifest says of inputs and outputs.

    Raises:
        GraphError: The graph is too large, or breaks the contract.
    """
    detector.eval()
    content = _trace(detector, tensors)
    if len(content) > MAX_GRAPH_BYTES:
        raise GraphError(
            f"the graph takes {len(content) / 1e9:.1f} GB, at most {MAX_GRAPH_BYTES / 1e9:.1f} GB "
            f"can be shipped; choose a smaller network or memory bank"
        )
    inputs, outputs = _specs(onnx.load_from_string(content))
    write_bytes(path, content)
    lint_graph(path, inputs, outputs)
    return inputs, outputs


def _trace(detector: Detector, tensors: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    arguments = tuple(torch.from_numpy(np.array(array)) for array in tensors.values())
    with (
        tempfile.TemporaryDirectory(prefix="loupe-export-") as folder,
        warnings.catch_warnings(),
        torch.no_grad(),
    ):
        traced = Path(folder) / "traced.onnx"
        # The older exporter, on purpose: its graphs keep to opset 17 and IR 8, as TensorRT 10.3
        # on a Jetson wants them.
        warnings.filterwarnings(
            "ignore", message="You are using the legacy TorchScript-based ONNX export",
            category=DeprecationWarning,
        )  # fmt: skip
        torch.onnx.export(
            detector, arguments, traced, dynamo=False, opset_version=OPSET,
            input_names=list(tensors), output_names=list(OUTPUT_NAMES),
        )  # fmt: skip
        model = onnx.load(traced)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    return model.SerializeToString()


def _specs(model: onnx.ModelProto) -> tuple[Specs, Specs]:
    return (
        tuple(_spec(value) for value in model.graph.input),
        tuple(_spec(value) for value in model.graph.output),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = next((name for name, code in ONNX_DTYPES.items() if code == tensor.elem_type), None)
    if dtype is None:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise GraphError(f"{value.name} is {kind}; the contract has {', '.join(ONNX_DTYPES)}")
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    return TensorSpec.model_validate({"name": value.name, "dtype": dtype, "shape": shape})
