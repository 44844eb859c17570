"""A GPU of host memory behind PyCUDA's names: work waits in its stream until somebody waits for it.

Held against the real PyCUDA's names by test_conformance.py. It does nothing that Loupe does not
ask for, and writes down what it is asked for, in order.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

GPU = SimpleNamespace(
    name="Orin (stand-in)",
    capability=(8, 7),
    cuda=12060,
    integrated=False,
    is_lost=False,
    fails_once="",
    asked=[],
    threads=set(),
    stack=[],
)
MEMORY: dict[int, np.ndarray[Any, Any]] = {}
STREAMS: dict[int, Stream] = {}
_numbers = itertools.count(0x1000, 0x1000)


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
        self._address = next(_numbers)
        MEMORY[self._address] = np.full(n_bytes, 0xFF, np.uint8)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        GPU.asked.append("free device")
        del MEMORY[self._address]


def mem_alloc(n_bytes: int) -> DeviceAllocation:
    _need_context("device memory")
    return DeviceAllocation(n_bytes)


def memcpy_htod_async(dest: DeviceAllocation, src: Any, stream: Stream) -> None:
    _need_context("to device")
    stream.put(lambda: np.copyto(MEMORY[int(dest)], src.reshape(-1).view(np.uint8)))


def memcpy_dtoh_async(dest: Any, src: DeviceAllocation, stream: Stream) -> None:
    _need_context("to host")
    stream.put(lambda: np.copyto(dest.reshape(-1).view(np.uint8), MEMORY[int(src)]))
