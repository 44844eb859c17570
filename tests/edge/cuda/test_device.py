"""What PyCudaDevice says to PyCUDA, as far as it can be heard without a GPU.

PyCUDA's stand-in has its names, signatures and packing of arguments, and the host's memory and
kernels behind them. That the names are PyCUDA's was read in its source; only a GPU can prove it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.errors import EngineError
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.preprocess import (
    Cloud,
    Group,
    PreprocessSpec,
    RemoveBelt,
    Resize,
    SamplePoints,
    preprocess,
)

BELT = belt_from_camera((0, 0, -1), (0, 0, 0.6))
SPEC = PreprocessSpec(
    steps=(
        Resize(width_px=40, height_px=24),
        Cloud(),
        RemoveBelt(),
        SamplePoints(n_points=16),
        Group(size=8),
    ),
    tensors=("rgb", "xyz", "valid", "groups", "centres", "nn_index", "nn_weight"),
)


@pytest.fixture
def driver(nvidia_kernels: Any) -> Any:
    """PyCUDA's stand-in, with the context that an engine would have pushed."""
    nvidia_kernels.driver.Device(0).retain_primary_context().push()
    return nvidia_kernels.driver


def part_frame(seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    depth = np.full((30, 40), 600, np.uint16)
    depth[5:25, 8:32] = rng.integers(550, 580, (20, 24))
    depth[rng.random(depth.shape) < 0.1] = 0
    rgb = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    lens = Intrinsics(40, 30, 40, 40, 19.5, 14.5)
    return Frame(0, 0, CameraTime(0, "system"), rgb, depth, 0.001, lens)


def test_frames_go_there_and_tensors_come_back(driver: Any) -> None:
    front = GpuFront(PyCudaDevice(driver.Stream(), b"cubin"))
    for seed in range(3):
        made = front.preprocess(part_frame(seed), Rect(0, 0, 40, 30), SPEC, BELT)
        right = preprocess(part_frame(seed), Rect(0, 0, 40, 30), SPEC, BELT)
        for name, array in right.tensors.items():
            assert made.tensors[name].tobytes() == array.tobytes(), name
    asked = driver.GPU.asked
    assert asked.count("synchronize") == 3 * (1 + len(SPEC.tensors))  # one for how many points
    front.close()
    assert driver.MEMORY == {}
    assert asked.count("free host") == asked.count("host memory") > 0


def test_tensors_can_stay_there_for_an_engine(driver: Any) -> None:
    stream = driver.Stream()
    front = GpuFront(PyCudaDevice(stream, b"cubin"))
    spec = PreprocessSpec(steps=SPEC.steps[:1])
    there = front.prepare(part_frame(0), Rect(0, 0, 40, 30), spec).tensors["rgb"]
    assert "synchronize" not in driver.GPU.asked
    assert (there.shape, there.dtype) == ((1, 24, 40, 3), np.dtype(np.uint8))
    stream.synchronize()
    right = preprocess(part_frame(0), Rect(0, 0, 40, 30), spec).tensors["rgb"]
    assert driver.MEMORY[there.pointer][: there.n_bytes].tobytes() == right.tobytes()


@pytest.mark.parametrize(
    ("cubin", "n_bytes", "message"),
    [
        (b"", 1, r"does not take the kernels: .*no binary for GPU"),
        (b"cubin", 1 << 31, r"has no 2147483648 bytes left"),
    ],
)
def test_what_the_driver_refuses_is_an_engine_error(
    driver: Any, cubin: bytes, n_bytes: int, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        PyCudaDevice(driver.Stream(), cubin).allocate((n_bytes,), np.uint8)
