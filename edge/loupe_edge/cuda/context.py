"""PyCUDA, its errors told as ours, and the device's primary context."""

from __future__ import annotations

import atexit
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from loupe_edge.errors import EngineError, StationError

# PyCUDA is a compiled module without stubs: its objects are opaque to the type checker.
CudaObject = Any

ORDINAL: Final = 0  # one camera, one process, one GPU; CUDA_VISIBLE_DEVICES chooses among several

log = logging.getLogger(__name__)


def load_pycuda() -> ModuleType:
    """Import PyCUDA's driver interface, which by itself makes no context.

    Raises:
        StationError: The `gpu` extra is not installed, or there is no driver.
    """
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise StationError(
            f"work on the GPU needs PyCUDA and NVIDIA's driver ({error}): pip install 'loupe[gpu]'"
        ) from error


@contextmanager
def cuda_explained(what: str) -> Iterator[None]:
    """Tell CUDA's errors as ours.

    Raises:
        StationError: PyCUDA is not installed.
        EngineError: As raised within by CUDA.
    """
    cuda = load_pycuda()
    try:
        yield
    except cuda.Error as error:
        raise EngineError(f"{what} ({error}); `loupe-edge doctor` looks for the cause") from error


def gpu_arch() -> str:
    """Say what kernels are compiled for, such as `sm_87`.

    Raises:
        StationError: PyCUDA is not installed.
        EngineError: The driver refuses.
    """
    with cuda_explained("the GPU cannot be used"):
        cuda = load_pycuda()
        major, minor = cuda.Device(ORDINAL).compute_capability()
        return f"sm_{major}{minor}"


class PrimaryContext:
    """The device's primary context, current in the thread that made this until it is closed.

    TensorRT works in the primary context as CUDA's runtime does: a private one would make its
    memory and streams unknown to TensorRT. Make and close it in the same thread, and close it
    after all that was allocated in it.

    Attributes:
        is_integrated: Host and device share one memory, as on a Jetson.

    Raises:
        StationError: PyCUDA is not installed.
        EngineError: There is no GPU, or the driver refuses.
    """

    def __init__(self) -> None:
        with cuda_explained("the GPU cannot be used"):
            cuda = load_pycuda()
            self._context = _retained(cuda)
            device = cuda.Device(ORDINAL)
            self.is_integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
            self._context.push()

    def is_lost(self) -> bool:
        """Whether it answers nothing any more, not even a question that asks for no work."""
        cuda = load_pycuda()
        try:
            self._context.synchronize()
        except cuda.Error:
            return True
        return False

    def close(self) -> None:
        """Make current again what was so before."""
        cuda = load_pycuda()
        try:
            self._context.pop()
        except cuda.Error as error:  # of a context that is lost; the process is about to end
            log.warning("the GPU's context cannot be given back: %s", error)


@lru_cache(maxsize=1)
def _retained(cuda: ModuleType) -> CudaObject:
    """Retain the primary context once, until the process ends.

    PyCUDA's detach makes a context current before it lets go of it, and leaves it so: the next who
    works in this thread would work in a context that is gone. Left to its destructor, PyCUDA calls
    the driver as if the context were a private one.
    """
    cuda.init()
    context = cuda.Device(ORDINAL).retain_primary_context()
    atexit.register(context.detach)
    return context
