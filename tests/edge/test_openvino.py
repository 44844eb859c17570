"""What OpenVINO computes in bfloat16; the rest of it is tested with the other engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_models.manifest import TensorSpec

pytest.importorskip("openvino", reason="needs loupe[openvino]")


def test_half_precision_is_computed_in_bfloat16_and_float32_stays_float32(tmp_path: Path) -> None:
    import openvino as ov

    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16 instructions")
    from loupe_edge.engines.openvino import OpenVinoEngine

    contract = (
        (TensorSpec(name="rgb", dtype="uint8", shape=(1, 64, 64, 3)),),
        (TensorSpec(name="anomaly_map", dtype="float32", shape=(1, 1, 62, 62)),),
    )
    onnx.save(convolution(), tmp_path / "convolution.onnx")
    rng = np.random.default_rng(0)
    picture = {"rgb": rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)}
    full, half = (
        OpenVinoEngine(tmp_path / "convolution.onnx", *contract, 1, half=half).infer(picture)
        for half in (False, True)
    )
    want = OnnxRuntimeEngine(tmp_path / "convolution.onnx", *contract, 1).infer(picture)
    size = np.abs(want["anomaly_map"]).mean()
    assert np.abs(full["anomaly_map"] - want["anomaly_map"]).max() < 1e-4 * size
    assert 1e-4 * size < np.abs(half["anomaly_map"] - want["anomaly_map"]).max() < 0.05 * size


def convolution() -> onnx.ModelProto:
    """A picture's bytes through 8 channels of 3 x 3 and back to one."""
    make, rng = onnx.helper.make_node, np.random.default_rng(1)
    first = rng.normal(0, 0.1, (8, 3, 3, 3)).astype(np.float32)
    last = rng.normal(0, 0.3, (1, 8, 1, 1)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            make("Cast", ["rgb"], ["float"], to=onnx.TensorProto.FLOAT),
            make("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            make("Conv", ["planes", "first"], ["hidden"]),
            make("Relu", ["hidden"], ["lit"]),
            make("Conv", ["lit", "last"], ["anomaly_map"]),
        ],
        "convolution",
        [onnx.helper.make_tensor_value_info("rgb", onnx.TensorProto.UINT8, (1, 64, 64, 3))],
        [onnx.helper.make_tensor_value_info("anomaly_map", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(first, "first"), onnx.numpy_helper.from_array(last, "last")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
