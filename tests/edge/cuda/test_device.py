"""What PyCudaDevice says to PyCUDA, as far as it can be heard without a GPU.

The module below has PyCUDA's names, signatures and packing of arguments, and the host's memory and
kernels behind them. That the names are PyCUDA's was read in its source; only a GPU can prove it.
"""

from __future__ import annotations

import ctypes
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.kernels import read_source
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
FORMATS = {"int": "i", "float": "f"}  # of struct; whatever is pointed to is an address


class DriverError(Exception):
    pass


class Stream:
    n_waits = 0

    def synchronize(self) -> None:
        self.n_waits += 1


class Allocation:
    """Of the device, or page-locked: then an array's base."""

    def __init__(self, held: set[Allocation], n_bytes: int) -> None:
        self.memory = np.full(n_bytes, 0xA5, np.uint8)
        self.__array_interface__ = self.memory.__array_interface__
        self._held = held
        held.add(self)

    def __int__(self) -> int:
        return int(self.memory.ctypes.data)

    def free(self) -> None:
        self._held.remove(self)


class Function:
    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self._library, self._name = library, name
        declared = re.search(rf" {name}\((.*?)\)\n{{", read_source(), re.DOTALL)
        assert declared
        self.declared = "".join(
            "P" if "*" in one else FORMATS[one.split()[-2]] for one in declared[1].split(",")
        )

    def prepare(self, types: list[Any]) -> Function:
        self.format = "".join(np.dtype(one).char for one in types)
        assert self.format.replace("L", "P") == self.declared
        return self

    def prepared_async_call(
        self, grid: tuple[int, int], block: tuple[int, int, int], stream: Stream, *given: Any
    ) -> None:
        assert isinstance(stream, Stream)
        packed = [struct.pack(one, value) for one, value in zip(self.format, given, strict=True)]
        held = [ctypes.create_string_buffer(one, len(one)) for one in packed]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(one) for one in held))
        sizes = (ctypes.c_size_t * len(held))(*(len(one) for one in packed))
        shape = ((ctypes.c_uint * 3)(*grid, 1), (ctypes.c_uint * 3)(*block))
        n = ctypes.c_size_t(len(held))
        if self._library.launch_kernel(self._name.encode(), *shape, pointers, sizes, n, 0):
            raise DriverError("launch failed")


class Driver(ModuleType):
    """Stands for `pycuda.driver`."""

    Error = DriverError

    def __init__(self, library: Path) -> None:
        super().__init__("pycuda.driver")
        self._library = ctypes.CDLL(str(library))
        self.held: set[Any] = set()

    def module_from_buffer(self, cubin: bytes) -> Driver:
        if not cubin:
            raise DriverError("no binary for GPU")
        return self

    def get_function(self, name: str) -> Function:
        return Function(self._library, name)

    def mem_alloc(self, n_bytes: int) -> Allocation:
        if n_bytes > 1 << 30:
            raise DriverError("out of memory")
        return Allocation(self.held, n_bytes)

    def pagelocked_empty(self, shape: tuple[int], dtype: npt.DTypeLike) -> Any:
        assert dtype == np.uint8
        return np.asarray(Allocation(self.held, *shape))

    def memcpy_htod_async(self, to: int, source: Any, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        ctypes.memmove(to, source.ctypes.data, source.nbytes)

    def memcpy_dtoh_async(self, to: Any, source: int, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        ctypes.memmove(to.ctypes.data, source, to.nbytes)


@pytest.fixture
def driver(host_library: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver(host_library)
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", made)
    return made


def part_frame(seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    depth = np.full((30, 40), 600, np.uint16)
    depth[5:25, 8:32] = rng.integers(550, 580, (20, 24))
    depth[rng.random(depth.shape) < 0.1] = 0
    rgb = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    lens = Intrinsics(40, 30, 40, 40, 19.5, 14.5)
    return Frame(0, 0, CameraTime(0, "system"), rgb, depth, 0.001, lens)


def test_frames_go_there_and_tensors_come_back(driver: Driver) -> None:
    stream = Stream()
    front = GpuFront(PyCudaDevice(stream, b"cubin"))
    for seed in range(3):
        made = front.preprocess(part_frame(seed), Rect(0, 0, 40, 30), SPEC, BELT)
        right = preprocess(part_frame(seed), Rect(0, 0, 40, 30), SPEC, BELT)
        for name, array in right.tensors.items():
            assert made.tensors[name].tobytes() == array.tobytes(), name
    assert stream.n_waits == 3 * (1 + len(SPEC.tensors))  # one for the number of points
    front.close()
    assert driver.held == set()


def test_tensors_can_stay_there_for_an_engine(driver: Driver) -> None:  # noqa: ARG001
    stream = Stream()
    front = GpuFront(PyCudaDevice(stream, b"cubin"))
    spec = PreprocessSpec(steps=SPEC.steps[:1])
    there = front.prepare(part_frame(0), Rect(0, 0, 40, 30), spec).tensors["rgb"]
    assert stream.n_waits == 0
    assert (there.shape, there.dtype) == ((1, 24, 40, 3), np.dtype(np.uint8))
    seen = (ctypes.c_uint8 * there.n_bytes).from_address(there.pointer)
    right = preprocess(part_frame(0), Rect(0, 0, 40, 30), spec).tensors["rgb"]
    assert bytes(seen) == right.tobytes()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda _: PyCudaDevice(Stream(), b""), "does not take the kernels: no binary for GPU"),
        (lambda device: device.allocate((1 << 31,), np.uint8), "has no 2147483648 bytes left"),
    ],
)
def test_what_the_driver_refuses_is_an_engine_error(
    driver: Driver,  # noqa: ARG001
    use: Callable[[PyCudaDevice], object],
    message: str,
) -> None:
    with pytest.raises(EngineError, match=message):
        use(PyCudaDevice(Stream(), b"cubin"))
