"""OpenVINO behind the same seam: the same answers, the same refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loupe_edge.engines import open_engine
from loupe_edge.errors import EngineError
from loupe_edge.proof import prove
from loupe_models.bundle import Bundle

pytest.importorskip("openvino", reason="needs loupe[openvino]")


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_a_bundle_is_proved_on_openvino(tiny_bundle: Bundle, mode: str) -> None:
    engine = open_engine(tiny_bundle, mode, kind="openvino")
    assert prove(tiny_bundle, mode, engine).n_golden > 0


def test_outputs_are_the_callers_to_keep(tiny_bundle: Bundle) -> None:
    engine = open_engine(tiny_bundle, "rgb", kind="openvino", threads=1)
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


def test_tensors_that_do_not_fit_are_refused(tiny_bundle: Bundle) -> None:
    engine = open_engine(tiny_bundle, "rgb", kind="openvino")
    with pytest.raises(EngineError, match=r"\(1, 32, 64, 3\)"):
        engine.infer({"rgb": np.zeros((1, 32, 64, 3), np.uint8)})
    with pytest.raises(EngineError, match="the graph takes"):
        engine.infer({})


def test_a_closed_engine_says_so(tiny_bundle: Bundle) -> None:
    engine = open_engine(tiny_bundle, "rgb", kind="openvino")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"rgb": np.zeros((1, 64, 64, 3), np.uint8)})


def test_a_graph_the_runtime_cannot_read_is_an_engine_error(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    from loupe_edge.engines.openvino import OpenVinoEngine

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    contract = tiny_bundle.mode("rgb")
    with pytest.raises(EngineError, match="refuses the graph"):
        OpenVinoEngine(broken, contract.inputs, contract.outputs, 1)
