"""The GPU front stands in for the numpy preprocessing, and nothing needs it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from every_step import BELT, SPEC, Sharpen, part_frame

from loupe_calibration.transform import Transform
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.layout import KNOWN
from loupe_edge.engines import open_engine
from loupe_edge.errors import StationError
from loupe_edge.fakes import FunctionEngine
from loupe_edge.inspector import Inspector
from loupe_edge.proof import prove
from loupe_models.bundle import Bundle
from loupe_models.errors import FrameError
from loupe_models.frame import Frame, Rect
from loupe_models.preprocess import (
    AnyStep,
    Crop,
    Prepared,
    PreprocessSpec,
    TensorName,
    preprocess,
)

EVERY = SPEC.tensors
GROUPS = EVERY[3:]
REGION = Rect(4, 2, 33, 26)


def spec(tensors: tuple[TensorName, ...], n_steps: int = len(SPEC.steps)) -> PreprocessSpec:
    return PreprocessSpec(steps=SPEC.steps[:n_steps], tensors=tensors)


def bare_belt() -> Frame:
    frame = part_frame(0)
    assert frame.depth is not None
    return dataclasses.replace(frame, depth=np.full_like(frame.depth, 600))


@pytest.mark.gpu
def test_all_of_this_runs_on_a_gpu_too(has_gpu: bool, request: pytest.FixtureRequest) -> None:
    if not has_gpu:
        pytest.skip("no NVIDIA GPU: the kernels ran on the CPU only")
    assert any("gpu" in item.name for item in request.session.items if item is not request.node)


@pytest.mark.parametrize(
    ("tensors", "n_steps"), [(EVERY, 6), (GROUPS, 6), (("rgb",), 2), (("valid", "xyz"), 4)]
)
def test_every_tensor_is_the_reference_s(
    front: GpuFront, tensors: tuple[TensorName, ...], n_steps: int
) -> None:
    for seed in range(3):
        frame, steps = part_frame(seed), spec(tensors, n_steps)
        ours, right = (run(frame, REGION, steps, BELT) for run in (front.preprocess, preprocess))
        assert list(ours.tensors) == list(right.tensors)
        for name, array in right.tensors.items():
            assert ours.tensors[name].shape == array.shape
            assert ours.tensors[name].dtype == array.dtype
            assert ours.tensors[name].tobytes() == array.tobytes(), name
        assert ours.frame_px_from_map_px == right.frame_px_from_map_px


def test_the_graph_s_contract_holds_whatever_prepares(
    any_preprocess: Callable[..., Prepared],
) -> None:
    made = any_preprocess(part_frame(5), REGION, spec(EVERY), BELT).tensors
    xyz, valid = made["xyz"].astype(np.float32), made["valid"]
    assert made["rgb"].shape == (1, 40, 40, 3)
    assert set(np.unique(valid)) == {0, 1}
    assert not xyz[valid == 0].any()
    assert (xyz[valid == 1][:, 2] >= 0.002).all()
    assert all(array.flags.c_contiguous for array in made.values())
    np.testing.assert_array_equal(made["nn_weight"][0].sum(axis=1) > 0, valid.ravel() == 1)


@pytest.mark.parametrize(
    ("frame", "asked", "belt", "message"),
    [
        (Frame.from_image(np.zeros((30, 40, 3), np.uint8)), (GROUPS, 6), BELT, "looks at depth"),
        (part_frame(5), (GROUPS, 6), None, "needs the station's belt plane"),
        (bare_belt(), (GROUPS, 6), BELT, r"^0 valid points, sample_points needs 32"),
        (bare_belt(), (("xyz", "valid"), 4), BELT, r"^0.0% of the region stands above the belt"),
    ],
    ids=["no depth", "no belt", "few points", "bare belt"],
)
def test_what_cannot_be_prepared_is_refused_in_the_same_words(
    any_preprocess: Callable[..., Prepared],
    frame: Frame,
    asked: tuple[tuple[TensorName, ...], int],
    belt: Transform | None,
    message: str,
) -> None:
    with pytest.raises(FrameError, match=message):
        any_preprocess(frame, REGION, spec(*asked), belt)


def test_every_step_of_the_registry_is_known() -> None:
    assert set(KNOWN) == set(get_args(AnyStep))


def test_a_step_that_no_kernel_does_is_refused_by_name(
    host_front: GpuFront, tiny_bundle: Bundle, make_frame: Callable[..., Frame]
) -> None:
    """Not as one frame's `unknown`: the proof, and with it the start, ends."""
    steps = spec(("rgb",), 2).model_copy(update={"steps": (Crop(), Sharpen())})
    engine = open_engine(tiny_bundle, "rgb")
    fronted = FunctionEngine(engine.infer, host_front.preprocess)
    inspector = Inspector(tiny_bundle, "rgb", fronted)
    inspector.contract = inspector.contract.model_copy(update={"preprocess": steps})
    with pytest.raises(StationError, match=r"step 'sharpen': choose front = \"cpu\""):
        inspector.inspect(make_frame())
    engine.close()


def test_proof_and_inspector_answer_the_same(
    host_front: GpuFront,
    tiny_bundle: Bundle,
    tiny_belt: Transform,
    make_frame: Callable[..., Frame],
) -> None:
    engine = open_engine(tiny_bundle, "rgbd")
    fronted = FunctionEngine(engine.infer, host_front.preprocess)
    assert prove(tiny_bundle, "rgbd", fronted) == prove(tiny_bundle, "rgbd", engine)
    by_numpy = Inspector(tiny_bundle, "rgbd", engine, belt_from_camera=tiny_belt)
    by_kernels = Inspector(tiny_bundle, "rgbd", fronted, belt_from_camera=tiny_belt)
    for kind in ("good", "defect"):
        frame = make_frame(kind, 3, ("rgb", "depth"))
        one, other = by_numpy.inspect(frame), by_kernels.inspect(frame)
        assert one is not None
        assert other is not None
        assert (one.decision, one.score, one.regions) == (
            other.decision,
            other.score,
            other.regions,
        )
        assert one.decision == kind
    engine.close()


def test_memory_is_taken_once_and_given_back(nvidia_kernels: Any, host_front: GpuFront) -> None:
    held = []
    for seed in range(4):
        host_front.preprocess(part_frame(seed), REGION, spec(EVERY), BELT)
        host_front.preprocess(part_frame(seed), Rect(0, 0, 20, 20), spec(("rgb",), 2), BELT)
        held.append(set(nvidia_kernels.driver.MEMORY))
    assert held == [held[0]] * 4
    host_front.close()
    host_front.close()
    assert nvidia_kernels.driver.MEMORY == {}


def test_nothing_loads_the_front_unasked() -> None:
    program = (
        "import importlib, sys\n"
        "for name in ('cli', 'service', 'engines', 'inspector', 'doctor'):\n"
        "    importlib.import_module('loupe_edge.' + name)\n"
        "sys.exit('loupe_edge.cuda' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_without_pycuda_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    with pytest.raises(StationError, match=r"pip install 'loupe\[gpu\]'"):
        PyCudaDevice(None, b"")
