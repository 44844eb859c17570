"""Engines in this memory: what they answer, what they refuse, what they free."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from loupe_edge.engine_settings import EngineKind, EngineSettings
from loupe_edge.engines import open_engine
from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_edge.errors import EngineError
from loupe_edge.proof import prove
from loupe_models.bundle import Bundle
from loupe_models.errors import BundleError


@pytest.fixture(params=["onnxruntime", "openvino"])
def kind(request: pytest.FixtureRequest) -> EngineKind:
    pytest.importorskip(request.param, reason="needs loupe[openvino]")
    named: EngineKind = request.param
    return named


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_a_bundle_is_proved(tiny_bundle: Bundle, kind: EngineKind, mode: str) -> None:
    assert (
        prove(tiny_bundle, mode, open_engine(tiny_bundle, mode, EngineSettings(kind=kind))).n_golden
        > 0
    )


def test_outputs_have_the_contract_and_are_the_callers_to_keep(
    tiny_bundle: Bundle, kind: EngineKind
) -> None:
    engine = open_engine(tiny_bundle, "rgb", EngineSettings(kind=kind))
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
    tiny_bundle: Bundle,
    kind: EngineKind,
    tensors: dict[str, npt.NDArray[np.generic]],
    message: str,
) -> None:
    engine = open_engine(tiny_bundle, "rgb", EngineSettings(kind=kind))
    with pytest.raises(EngineError, match=message):
        engine.infer(tensors)


def test_a_closed_engine_says_so(tiny_bundle: Bundle, kind: EngineKind) -> None:
    engine = open_engine(tiny_bundle, "rgb", EngineSettings(kind=kind))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"rgb": np.zeros((1, 64, 64, 3), np.uint8)})


def test_a_graph_the_runtime_cannot_load_is_an_engine_error(
    tmp_path: Path, tiny_bundle: Bundle, kind: EngineKind
) -> None:
    folder = shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    (folder / "rgb.fp32.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="refuses the graph"):
        open_engine(replace(tiny_bundle, path=folder), "rgb", EngineSettings(kind=kind))


def test_absent_variants_and_modes_are_named(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has variants fp32, not 'fp16'"):
        open_engine(tiny_bundle, "rgb", EngineSettings(variant="fp16"))
    with pytest.raises(BundleError, match="not 'thermal'"):
        open_engine(tiny_bundle, "thermal")


def shape_by_content(graph: onnx.ModelProto) -> None:
    """Give the map one row less than the graph promises where the picture is not black."""
    make = onnx.helper.make_node
    for name, value in (("full", [1, 1, 64, 64]), ("less", [1, 1, 32, 128]), ("none", [0])):
        dtype = onnx.TensorProto.FLOAT if name == "none" else onnx.TensorProto.INT64
        graph.graph.initializer.append(onnx.helper.make_tensor(name, dtype, [len(value)], value))
    for node in graph.graph.node:
        node.output[:] = ["map" if n == "anomaly_map" else n for n in node.output]
        node.input[:] = ["map" if n == "anomaly_map" else n for n in node.input]
    graph.graph.node.extend([
        make("ReduceMax", ["rgb_float"], ["brightest"], keepdims=0),
        make("Greater", ["brightest", "none"], ["is_lit"]),
        make("Where", ["is_lit", "less", "full"], ["shape"]),
        make("Reshape", ["map", "shape"], ["anomaly_map"]),
    ])  # fmt: skip


def test_a_run_that_fails_is_an_engine_error_and_the_next_may_pass(
    tmp_path: Path, tiny_bundle: Bundle, make_graph: Callable[[str], onnx.ModelProto]
) -> None:
    graph = make_graph("rgb")
    shape_by_content(graph)
    onnx.save(graph, tmp_path / "moody.onnx")
    contract = tiny_bundle.mode("rgb")
    engine = OnnxRuntimeEngine(tmp_path / "moody.onnx", contract.inputs, contract.outputs)
    with pytest.raises(EngineError, match="ONNX Runtime failed: "):
        engine.infer({"rgb": np.full((1, 64, 64, 3), 9, np.uint8)})
    assert engine.infer({"rgb": np.zeros((1, 64, 64, 3), np.uint8)})["image_score"] == 0


def test_buffers_that_no_memory_holds_are_an_engine_error(tiny_bundle: Bundle) -> None:
    contract = tiny_bundle.mode("rgb")
    huge = contract.outputs[0].model_copy(update={"shape": (1, 1, 2**30, 2**30)})
    with pytest.raises(EngineError, match="refuses the graph"):
        OnnxRuntimeEngine(
            tiny_bundle.path / "rgb.fp32.onnx", contract.inputs, (huge, contract.outputs[1])
        )
