"""The GPU through PyCUDA: its primary context, and memory that host and device share."""

from __future__ import annotations

import atexit
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pycuda.driver as cuda
import tensorrt as trt

from loupe_edge.engines.tensorrt.key import DeviceKey, driver_release, jetson_release
from loupe_edge.errors import EngineError

log = logging.getLogger(__name__)

ORDINAL = 0  # one camera, one process, one GPU; CUDA_VISIBLE_DEVICES chooses among several


def device_key() -> DeviceKey:
    """Say what compiles here, and for what.

    Raises:
        EngineError: There is no GPU, or the driver refuses.
    """
    with cuda_explained("the GPU cannot be used"):
        cuda.init()
        device = cuda.Device(ORDINAL)
        return DeviceKey(
            tensorrt=trt.__version__,
            gpu=device.name(),
            compute_capability=".".join(str(part) for part in device.compute_capability()),
            driver=f"CUDA {cuda.get_driver_version()} {driver_release()}".strip(),
            jetpack=jetson_release(),
        )


def gpu_arch() -> str:
    """Say what kernels are compiled for, such as `sm_87`.

    Raises:
        EngineError: The driver refuses.
    """
    with cuda_explained("the GPU cannot be used"):
        major, minor = cuda.Device(ORDINAL).compute_capability()
        return f"sm_{major}{minor}"


class PrimaryContext:
    """The device's primary context, current in the thread that made this until it is closed.

    TensorRT works in the primary context as CUDA's runtime does: a private one would make its
    memory and streams unknown to TensorRT. Make and close it in the same thread.

    Attributes:
        is_integrated: Host and device share one memory, as on a Jetson.

    Raises:
        EngineError: There is no GPU, or the driver refuses.
    """

    def __init__(self) -> None:
        with cuda_explained("the GPU cannot be used"):
            self._context = _retained()
            device = cuda.Device(ORDINAL)
            self.is_integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
            self._context.push()

    def is_lost(self) -> bool:
        """Whether it answers nothing any more, not even a question that asks for no work."""
        try:
            self._context.synchronize()
        except cuda.Error:
            return True
        return False

    def close(self) -> None:
        """Make current again what was so before."""
        try:
            self._context.pop()
        except cuda.Error as error:  # of a context that is lost; the process is about to end
            log.warning("the GPU's context cannot be given back: %s", error)


@lru_cache(maxsize=1)
def _retained() -> cuda.Context:
    """Retain the primary context once, until the process ends.

    PyCUDA's detach makes a context current before it lets go of it, and leaves it so: the next who
    works in this thread would work in a context that is gone. Left to its destructor, PyCUDA calls
    the driver as if the context were a private one.
    """
    cuda.init()
    context = cuda.Device(ORDINAL).retain_primary_context()
    atexit.register(context.detach)
    return context


class SharedTensor:
    """Page-locked host memory of one tensor, and the device memory that goes with it.

    On an integrated GPU both are the same memory, and nothing is copied.

    Attributes:
        host: To be filled or read while the stream is idle.
        address: What the device calls it.

    Raises:
        EngineError: There is no memory left.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, is_integrated: bool
    ) -> None:
        flags = cuda.host_alloc_flags.DEVICEMAP if is_integrated else 0
        self._device: cuda.DeviceAllocation | None = None
        with cuda_explained(f"no memory for a tensor of {math.prod(shape):,} elements"):
            self.host: npt.NDArray[Any] = cuda.pagelocked_empty(
                shape, np.dtype(dtype), mem_flags=flags
            )
            self.host.fill(0)
            self._page_locked: Any = self.host.base
            if is_integrated:
                self.address = int(self._page_locked.get_device_pointer())
                return
            try:
                self._device = cuda.mem_alloc(self.host.nbytes)
            except cuda.Error:
                self._page_locked.free()
                raise
            self.address = int(self._device)

    def to_device(self, stream: cuda.Stream) -> None:
        """Queue the copy that the device reads."""
        if self._device is not None:
            cuda.memcpy_htod_async(self._device, self.host, stream)

    def to_host(self, stream: cuda.Stream) -> None:
        """Queue the copy that the host reads, once the stream is idle."""
        if self._device is not None:
            cuda.memcpy_dtoh_async(self.host, self._device, stream)

    def close(self) -> None:
        """Free both; nothing may be queued on them any more."""
        if self._device is not None:
            self._device.free()
        self._page_locked.free()


@contextmanager
def cuda_explained(what: str) -> Iterator[None]:
    """Tell CUDA's errors as ours.

    Raises:
        EngineError: As raised within by CUDA.
    """
    try:
        yield
    except cuda.Error as error:
        raise EngineError(f"{what} ({error}); `loupe-edge doctor` looks for the cause") from error
