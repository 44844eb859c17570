"""A GPU of host memory behind PyCUDA's names: work waits in its stream until somebody waits for it.

PyCUDA has no wheel, so no test holds this against the real one: test_conformance.py holds it to
what our code asks of PyCUDA (decisions/0012 says what was tried by hand). It does nothing that
Loupe does not ask for, and writes down what it is asked for, in order.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import struct
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from loupe_edge.cuda.kernels import read_source

GPU = SimpleNamespace(
    name="Orin (stand-in)",
    capability=(8, 7),
    cuda=12060,
    integrated=False,
    kernels=None,  # the host build of the front's, where a test launches them
    is_lost=False,
    fails_once="",
    asked=[],
    threads=set(),
    stack=[],
)
MEMORY: dict[int, np.ndarray[Any, Any]] = {}
STREAMS: dict[int, Stream] = {}
FORMATS = {"int": "i", "float": "f"}  # of struct; whatever is pointed to is an address
OUTCOMES = {1: "no such kernel", 2: "wrong arguments", 3: "threads wait at different barriers"}
MAX_BYTES = 1 << 30
_numbers = itertools.count(0x1000, 0x1000)
_seeds = itertools.count()  # each launch in an order of its own, the same ones in every test


class Error(Exception):
    pass


class LogicError(Error):
    pass


class LaunchError(Error):
    pass


def _ask(what: str) -> None:
    GPU.asked.append(what)
    GPU.threads.add(threading.get_ident())
    if GPU.is_lost:
        raise LaunchError(f"{what} failed: an illegal memory access was encountered")


def _need_context(what: str) -> None:
    _ask(what)
    if not GPU.stack:
        raise LogicError(f"{what} failed: invalid device context")


def init() -> None:
    pass


def get_driver_version() -> int:
    return int(GPU.cuda)


class device_attribute:
    INTEGRATED = "INTEGRATED"


class host_alloc_flags:
    DEVICEMAP = 2


class Device:
    def __init__(self, number: int) -> None:
        self.number = number

    def name(self) -> str:
        return str(GPU.name)

    def compute_capability(self) -> tuple[int, int]:
        return (GPU.capability[0], GPU.capability[1])

    def get_attribute(self, attr: str) -> int:
        return int(GPU.integrated) if attr == device_attribute.INTEGRATED else 0

    def retain_primary_context(self) -> Context:
        _ask("retain")
        return Context()


class Context:
    def push(self) -> None:
        _ask("push")
        GPU.stack.append(self)

    @staticmethod
    def pop() -> None:
        _need_context("pop")
        GPU.stack.pop()

    def detach(self) -> None:
        GPU.asked.append("detach")

    @staticmethod
    def synchronize() -> None:
        _need_context("context.synchronize")


class Stream:
    def __init__(self, flags: int = 0) -> None:
        _need_context("stream")
        self.handle = next(_numbers)
        self.queue: list[Callable[[], None]] = []
        self.capture: list[Callable[[], None]] | None = None
        STREAMS[self.handle] = self

    def put(self, work: Callable[[], None]) -> None:
        (self.queue if self.capture is None else self.capture).append(work)

    def synchronize(self) -> None:
        _need_context("synchronize")
        work, self.queue = self.queue, []
        if GPU.fails_once:
            why, GPU.fails_once = GPU.fails_once, ""
            raise LaunchError(why)
        for one in work:
            one()


class PagelockedHostAllocation:
    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], mem_flags: int) -> None:
        self._memory = np.full(shape, 7, dtype)  # memory as it comes, not zeros
        self.__array_interface__ = self._memory.__array_interface__
        self._is_mapped = mem_flags == host_alloc_flags.DEVICEMAP

    def get_device_pointer(self) -> int:
        if not self._is_mapped:
            raise LogicError("the memory is not mapped")
        address = self._memory.ctypes.data
        MEMORY[address] = self._memory.reshape(-1).view(np.uint8)
        return address

    def free(self) -> None:
        GPU.asked.append("free host")
        MEMORY.pop(self._memory.ctypes.data, None)


def pagelocked_empty(
    shape: tuple[int, ...], dtype: np.dtype[Any], order: str = "C", mem_flags: int = 0
) -> np.ndarray[Any, Any]:
    _need_context("host memory")
    return np.asarray(PagelockedHostAllocation(shape, dtype, mem_flags))


class DeviceAllocation:
    def __init__(self, n_bytes: int) -> None:
        memory = np.full(n_bytes, 0xA5, np.uint8)  # rubbish; kernels of the host find it there
        self._address = int(memory.ctypes.data)
        MEMORY[self._address] = memory

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        GPU.asked.append("free device")
        del MEMORY[self._address]


def mem_alloc(n_bytes: int) -> DeviceAllocation:
    _need_context("device memory")
    if n_bytes > MAX_BYTES:
        raise Error("cuMemAlloc failed: out of memory")
    return DeviceAllocation(n_bytes)


def memcpy_htod_async(dest: DeviceAllocation | int, src: Any, stream: Stream) -> None:
    _need_context("to device")
    n = src.nbytes
    stream.put(lambda: np.copyto(MEMORY[int(dest)][:n], src.reshape(-1).view(np.uint8)))


def memcpy_dtoh_async(dest: Any, src: DeviceAllocation | int, stream: Stream) -> None:
    _need_context("to host")
    n = dest.nbytes
    stream.put(lambda: np.copyto(dest.reshape(-1).view(np.uint8), MEMORY[int(src)][:n]))


class Module:
    """Which kernels there are, and what each takes, is read in their source."""

    def get_function(self, name: str) -> Function:
        return Function(name)

    def __del__(self) -> None:
        GPU.asked.append("free module")


def module_from_buffer(buffer: bytes) -> Module:
    _need_context("module")
    if not buffer:
        raise LogicError("cuModuleLoadDataEx failed: no binary for GPU")
    return Module()


class Function:
    def __init__(self, name: str) -> None:
        declared = re.search(rf" {name}\((.*?)\)\n{{", read_source(), re.DOTALL)
        if declared is None:
            raise LogicError(f"cuModuleGetFunction failed: {name} not found")
        self._name = name
        self._declared = "".join(
            "P" if "*" in one else FORMATS[one.split()[-2]] for one in declared[1].split(",")
        )

    def prepare(self, arg_types: list[Any]) -> Function:
        self._format = "".join(np.dtype(one).char for one in arg_types).replace("L", "P")
        assert self._format == self._declared
        return self

    def prepared_async_call(
        self, grid: tuple[int, int], block: tuple[int, int, int], stream: Stream, *args: Any
    ) -> None:
        _need_context(self._name)
        packed = [struct.pack(one, value) for one, value in zip(self._format, args, strict=True)]
        stream.put(lambda: self._launch(grid, block, packed))

    def _launch(
        self, grid: tuple[int, int], block: tuple[int, int, int], packed: list[bytes]
    ) -> None:
        held = [ctypes.create_string_buffer(one, len(one)) for one in packed]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(one) for one in held))
        sizes = (ctypes.c_size_t * len(held))(*(len(one) for one in packed))
        shape = ((ctypes.c_uint * 3)(*grid, 1), (ctypes.c_uint * 3)(*block))
        n, seed = ctypes.c_size_t(len(held)), ctypes.c_uint(next(_seeds))
        outcome = GPU.kernels.launch_kernel(self._name.encode(), *shape, pointers, sizes, n, seed)
        if outcome:
            raise LaunchError(f"{self._name}: {OUTCOMES[outcome]}")
