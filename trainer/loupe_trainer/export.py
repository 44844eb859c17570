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
from loupe_models.graph_lint import INVALID, ONNX_DTYPES, OPSET, lint_graph
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
    with tempfile.TemporaryDirectory(prefix="loupe-export-") as folder:
        file = Path(folder) / path.name
        _trace(detector, tensors, file)
        _check_size(file)
        model = onnx.load(file)
        inputs, outputs = _specs(model)
        lint_graph(file, inputs, outputs)
        _check_strictly(model)
        write_bytes(path, file.read_bytes())
    return inputs, outputs


def _trace(detector: Detector, tensors: Mapping[str, npt.NDArray[np.generic]], file: Path) -> None:
    arguments = tuple(torch.from_numpy(np.array(array)) for array in tensors.values())
    with warnings.catch_warnings(), torch.no_grad():
        # The older exporter, on purpose: its graphs keep to opset 17 and IR 8, as TensorRT 10.3
        # on a Jetson wants them. It is deprecated, and so is a private function that it calls.
        for message in (
            "You are using the legacy TorchScript-based",
            "The feature will be removed",
        ):
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        torch.onnx.export(
            detector, arguments, file, dynamo=False, opset_version=OPSET,
            input_names=list(tensors), output_names=list(OUTPUT_NAMES),
        )  # fmt: skip


def _check_size(file: Path) -> None:
    n_bytes = file.stat().st_size
    if n_bytes > MAX_GRAPH_BYTES:
        raise GraphError(
            f"the graph takes {n_bytes / 1e9:.1f} GB, at most {MAX_GRAPH_BYTES / 1e9:.1f} GB "
            f"can be shipped; choose a smaller network or memory bank"
        )


def _check_strictly(model: onnx.ModelProto) -> None:
    """Let ONNX infer every shape and type, which a device's parser does as well."""
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except INVALID as error:
        raise GraphError(f"not a valid ONNX graph: {str(error).strip()[:200]}") from error


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
