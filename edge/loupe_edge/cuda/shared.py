"""Memory that kernels work on and the host fills or reads: for the front and for the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loupe_edge.cuda.context import CudaObject, cuda_explained, load_pycuda

AnyArray = npt.NDArray[np.generic]
Shape = tuple[int, ...]


class SharedMemory:
    """Bytes of the device, and their page-locked side here.

    Mapped, both are the same memory and nothing is copied. Otherwise the side here is allocated
    when it is first asked for: what only kernels see has none.

    Args:
        n_bytes: At least one.
        is_mapped: Only where host and device share one memory. A Jetson's GPU is reported not to
            cache what is mapped (not measured by us), so that it suits what is read or written
            once a frame, and not what kernels look at over and over.

    Attributes:
        address: What the device calls it.

    Raises:
        EngineError: There is no memory left.
    """

    def __init__(self, n_bytes: int, *, is_mapped: bool) -> None:
        self.n_bytes = n_bytes
        self._device: CudaObject = None
        self._page_locked: CudaObject = None
        cuda = load_pycuda()
        with cuda_explained(f"the GPU has no {n_bytes} bytes left"):
            if is_mapped:
                self._page_locked = _locked(n_bytes, cuda.host_alloc_flags.DEVICEMAP)
                self.address = int(self._page_locked.base.get_device_pointer())
            else:
                self._device = cuda.mem_alloc(n_bytes)
                self.address = int(self._device)

    @property
    def host(self) -> npt.NDArray[np.uint8]:
        """Give the side here, to be filled or read while the stream is idle.

        Raises:
            EngineError: There is no memory left.
        """
        if self._page_locked is None:
            with cuda_explained(f"no {self.n_bytes} bytes can be locked"):
                self._page_locked = _locked(self.n_bytes, 0)
        some: npt.NDArray[np.uint8] = self._page_locked
        return some

    def to_device(self, stream: CudaObject, n_bytes: int) -> None:
        """Queue the copy that the device reads, of the first bytes."""
        if self._device is not None:
            cuda = load_pycuda()
            cuda.memcpy_htod_async(self._device, self.host[:n_bytes], stream)

    def to_host(self, stream: CudaObject, n_bytes: int) -> None:
        """Queue the copy that the host reads, once the stream is idle."""
        if self._device is not None:
            cuda = load_pycuda()
            cuda.memcpy_dtoh_async(self.host[:n_bytes], self._device, stream)

    def close(self) -> None:
        """Free both now, rather than when Python collects them; nothing may be queued on them.

        Raises:
            EngineError: The driver refuses.
        """
        device, self._device = self._device, None
        page_locked, self._page_locked = self._page_locked, None
        with cuda_explained("the GPU cannot free memory"):
            if device is not None:
                device.free()
            if page_locked is not None:
                page_locked.base.free()


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """The first bytes of some memory, as an array."""

    memory: SharedMemory
    shape: Shape
    dtype: np.dtype[np.generic]

    @property
    def address(self) -> int:
        """What the device calls it."""
        return self.memory.address

    @property
    def n_bytes(self) -> int:
        """Of the array, which may be less than was allocated."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def host(self) -> AnyArray:
        """The side here in the array's shape, to be filled or read while the stream is idle."""
        some: AnyArray = self.memory.host[: self.n_bytes].view(self.dtype).reshape(self.shape)
        return some

    def to_device(self, stream: CudaObject) -> None:
        """Queue the copy that the device reads."""
        self.memory.to_device(stream, self.n_bytes)

    def to_host(self, stream: CudaObject) -> None:
        """Queue the copy that the host reads, once the stream is idle."""
        self.memory.to_host(stream, self.n_bytes)


def allocate(shape: Shape, dtype: npt.DTypeLike, *, is_mapped: bool = False) -> DeviceArray:
    """Give memory that is not initialised, for one array.

    Raises:
        EngineError: There is no memory left.
    """
    n_bytes = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
    return DeviceArray(SharedMemory(n_bytes, is_mapped=is_mapped), shape, np.dtype(dtype))


def _locked(n_bytes: int, flags: int) -> CudaObject:
    cuda = load_pycuda()
    return cuda.pagelocked_empty((n_bytes,), np.uint8, mem_flags=flags)
