"""The engine's life on a stand-in GPU: what it asks for, in which order, and how it fails."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines import open_engine
from loupe_edge.errors import EngineError, EngineLostError, PlanError
from loupe_edge.protocols import Engine, Outputs
from loupe_models.bundle import Bundle

Ask = Callable[[int], dict[str, np.ndarray[Any, Any]]]


def opened(bundle: Bundle, plan: bytes | None = None) -> Engine:
    from loupe_edge.engines.tensorrt.building import build_plan
    from loupe_edge.engines.tensorrt.engine import TensorRtEngine

    contract = bundle.mode("rgb")
    graph = bundle.file("rgb.fp16.onnx")
    plan = build_plan(graph, b"", lambda *_: None).plan if plan is None else plan
    return TensorRtEngine(plan, contract.inputs, contract.outputs)


def same(one: Outputs, other: Outputs) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("integrated", [False, True])
def test_it_answers_as_the_reference_does(
    nvidia: Any, typed_bundle: Bundle, ask: Ask, integrated: bool
) -> None:
    nvidia.gpu.integrated = integrated
    reference = open_engine(typed_bundle, "rgb", EngineSettings(variant="fp16"))
    engine = opened(typed_bundle)
    first = engine.infer(ask(1))
    assert nvidia.gpu.asked.count("execute") == 2  # one of them before the first frame
    kept = {name: value.copy() for name, value in first.items()}
    assert same(first, reference.infer(ask(1)))
    assert same(engine.infer(ask(2)), reference.infer(ask(2)))
    assert same(first, kept)  # outputs are the caller's to keep
    engine.close()
    assert nvidia.driver.MEMORY == {}


def test_a_jetson_copies_nothing(nvidia: Any, typed_bundle: Bundle, ask: Ask) -> None:
    nvidia.gpu.integrated = True
    opened(typed_bundle).infer(ask(1))
    assert not {"to device", "to host", "device memory"} & set(nvidia.gpu.asked)


def test_everything_is_freed_once_in_order_in_the_same_thread(
    nvidia: Any, typed_bundle: Bundle, ask: Ask
) -> None:
    engine = opened(typed_bundle)
    engine.infer(ask(1))
    assert nvidia.gpu.asked[:3] == ["retain", "push", "stream"]
    before = len(nvidia.gpu.asked)
    engine.close()
    engine.close()
    n_tensors = 3
    assert nvidia.gpu.asked[before:] == [
        "free execution context", "free engine", "free runtime",
        *["free device", "free host"] * n_tensors,
        "pop",
    ]  # fmt: skip
    assert nvidia.gpu.stack == []
    assert nvidia.gpu.threads == {threading.get_ident()}
    with pytest.raises(EngineError, match="closed"):
        engine.infer(ask(1))


def test_the_first_run_is_over_before_a_frame_comes(nvidia: Any, typed_bundle: Bundle) -> None:
    engine = opened(typed_bundle)
    run = ["to device", "execute", "to host", "to host", "synchronize"]
    assert nvidia.gpu.asked[-len(run) :] == run
    engine.close()


@pytest.mark.usefixtures("nvidia")
def test_no_other_thread_is_served(
    typed_bundle: Bundle, ask: Ask, refused_elsewhere: Callable[..., list[str]]
) -> None:
    engine = opened(typed_bundle)
    told = refused_elsewhere(lambda: engine.infer(ask(1)), engine.close)
    assert len(told) == 2
    assert all("thread" in text for text in told)
    assert set(engine.infer(ask(1))) == {"anomaly_map", "image_score"}


@pytest.mark.usefixtures("cuda_python")
def test_with_cuda_python_a_frame_is_one_launch(
    nvidia: Any, typed_bundle: Bundle, ask: Ask
) -> None:
    reference = open_engine(typed_bundle, "rgb", EngineSettings(variant="fp16"))
    engine = opened(typed_bundle)
    before = len(nvidia.gpu.asked)
    for seed in (3, 4):
        assert same(engine.infer(ask(seed)), reference.infer(ask(seed)))
    assert nvidia.gpu.asked[before:] == ["launch", "synchronize"] * 2
    engine.close()
    freed = nvidia.gpu.asked[before + 4 :]
    assert freed[:3] == ["free executable", "free graph", "free execution context"]


def test_work_that_cannot_be_captured_runs_as_it_is(
    nvidia: Any, cuda_python: Any, typed_bundle: Bundle, ask: Ask
) -> None:
    cuda_python.GRAPHS["refuses"] = True
    engine = opened(typed_bundle)
    assert same(
        engine.infer(ask(5)),
        open_engine(typed_bundle, "rgb", EngineSettings(variant="fp16")).infer(ask(5)),
    )
    assert "launch" not in nvidia.gpu.asked


@pytest.mark.usefixtures("nvidia")
def test_a_tensor_that_does_not_fit_is_refused(typed_bundle: Bundle, ask: Ask) -> None:
    engine = opened(typed_bundle)
    with pytest.raises(EngineError, match="float32"):
        engine.infer({"rgb": ask(1)["rgb"].astype(np.float32)})
    with pytest.raises(EngineError, match="xyz"):
        engine.infer({"xyz": ask(1)["rgb"]})


def test_one_failure_is_a_failure_and_the_next_frame_is_served(
    nvidia: Any, typed_bundle: Bundle, ask: Ask
) -> None:
    engine = opened(typed_bundle)
    nvidia.gpu.fails_once = "cuStreamSynchronize failed: launch timed out"
    with pytest.raises(EngineError, match="launch timed out") as caught:
        engine.infer(ask(1))
    assert not isinstance(caught.value, EngineLostError)
    assert set(engine.infer(ask(1))) == {"anomaly_map", "image_score"}


def test_a_sticky_error_loses_the_engine_and_closing_it_still_ends(
    nvidia: Any, typed_bundle: Bundle, ask: Ask
) -> None:
    engine = opened(typed_bundle)
    nvidia.gpu.is_lost = True
    with pytest.raises(EngineLostError, match="illegal memory access"):
        engine.infer(ask(1))
    engine.close()


def test_a_plan_that_tensorrt_refuses_leaves_nothing_open(
    nvidia: Any, typed_bundle: Bundle
) -> None:
    with pytest.raises(PlanError, match="does not match"):
        opened(typed_bundle, b"something else\n")
    assert nvidia.gpu.stack == []
    assert nvidia.driver.MEMORY == {}


def test_a_plan_of_another_graph_is_refused(nvidia: Any, typed_bundle: Bundle) -> None:
    from loupe_edge.engines.tensorrt.building import build_plan

    other = build_plan(typed_bundle.file("rgbd.fp16.onnx"), b"", lambda *_: None).plan
    with pytest.raises(PlanError, match=r"xyz.*the manifest"):
        opened(typed_bundle, other)
    assert nvidia.gpu.stack == []


def test_the_graphs_of_the_fixture_are_typed(typed_bundle: Bundle) -> None:
    """Otherwise the tests here would prove nothing about a second graph."""
    files = typed_bundle.manifest.files
    for mode in typed_bundle.manifest.modes:
        assert files[f"{mode}.fp16.onnx"] != files[f"{mode}.fp32.onnx"]
        assert (
            hashlib.sha256(typed_bundle.file(f"{mode}.fp16.onnx").read_bytes()).hexdigest()
            == (files[f"{mode}.fp16.onnx"])
        )
