"""The default engine: what it accepts, what it refuses, what it frees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loupe_edge.engines import open_engine
from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_edge.errors import EngineError
from loupe_models.bundle import Bundle
from loupe_models.errors import BundleError


def test_outputs_have_the_contract_and_are_the_callers_to_keep(tiny_bundle: Bundle) -> None:
    engine = open_engine(tiny_bundle, "rgb")
    flat = {"rgb": np.full((1, 64, 64, 3), 100, np.uint8)}
    spot = {"rgb": flat["rgb"].copy()}
    spot["rgb"][0, 30:34, 30:34] = 250
    first = engine.infer(flat)
    kept = first["anomaly_map"].copy()
    second = engine.infer(spot)
    assert first["anomaly_map"].shape == (1, 1, 64, 64)
    assert first["image_score"].shape == (1,)
    np.testing.assert_array_equal(first["anomaly_map"], kept)
    assert second["image_score"][0] > first["image_score"][0] + 1


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "the graph takes"),
        ({"xyz": np.zeros((1, 64, 64, 3), np.float32)}, "the graph takes"),
        ({"rgb": np.zeros((1, 32, 64, 3), np.uint8)}, r"\(1, 32, 64, 3\)"),
        ({"rgb": np.zeros((64, 64, 3), np.uint8)}, r"\(64, 64, 3\)"),
        ({"rgb": np.zeros((1, 64, 64, 3), np.float32)}, "float32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tiny_bundle: Bundle, tensors: dict[str, npt.NDArray[np.generic]], message: str
) -> None:
    engine = open_engine(tiny_bundle, "rgb")
    with pytest.raises(EngineError, match=message):
        engine.infer(tensors)


def test_a_closed_engine_says_so(tiny_bundle: Bundle) -> None:
    engine = open_engine(tiny_bundle, "rgb")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"rgb": np.zeros((1, 64, 64, 3), np.uint8)})


def test_a_graph_the_runtime_cannot_load_is_an_engine_error(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    contract = tiny_bundle.mode("rgb")
    with pytest.raises(EngineError, match="refuses the graph"):
        OnnxRuntimeEngine(broken, contract.inputs, contract.outputs)


def test_absent_variants_and_modes_are_named(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has variants fp32, not 'fp16'"):
        open_engine(tiny_bundle, "rgb", "fp16")
    with pytest.raises(BundleError, match="not 'thermal'"):
        open_engine(tiny_bundle, "thermal")
