"""The seam to a GPU: memory, copies and launches on one stream of a context that others own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from loupe_edge.cuda.context import CudaObject, cuda_explained, load_pycuda

AnyArray = npt.NDArray[np.generic]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """Memory on the device.

    Attributes:
        pointer: Its address there.
        owner: What frees it.
        staging: As many bytes of page-locked memory here, through which it is written and read.
    """

    pointer: int
    shape: Shape
    dtype: np.dtype[np.generic]
    owner: CudaObject
    staging: npt.NDArray[np.uint8]

    @property
    def n_bytes(self) -> int:
        """Of the array, which may be less than was allocated."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def staged(self) -> AnyArray:
        """Give the page-locked memory in the array's shape."""
        some: AnyArray = self.staging[: self.n_bytes].view(self.dtype).reshape(self.shape)
        return some


Argument = DeviceArray | np.int32 | np.float32


class Device(Protocol):
    """Everything happens in the order of the calls; only `read` waits for it."""

    def allocate(self, shape: Shape, dtype: npt.DTypeLike) -> DeviceArray:
        """Give memory that is not initialised."""

    def free(self, array: DeviceArray) -> None:
        """Give it back, in the thread that allocated it."""

    def write(self, array: DeviceArray, content: AnyArray) -> None:
        """Copy there; shapes and dtypes must be equal. What was staged before must have left."""

    def read(self, array: DeviceArray) -> AnyArray:
        """Wait for all that was asked for, and copy here; the copy is the caller's."""

    def launch(
        self, kernel: str, grid: tuple[int, int], block: tuple[int, int], *arguments: Argument
    ) -> None:
        """Run a kernel."""


class PyCudaDevice:
    """PyCUDA, on the context that is current and a stream that exists.

    It makes no context: whoever owns the primary one (the engine, or a benchmark) pushes it
    before this is made, and pops it after all that was allocated has been freed.

    Raises:
        StationError: PyCUDA is not installed.
        EngineError: The driver refuses, here or in any method.
    """

    def __init__(self, stream: CudaObject, cubin: bytes) -> None:
        self._cuda = load_pycuda()
        self._stream = stream
        with cuda_explained("the GPU does not take the kernels"):
            self._module = self._cuda.module_from_buffer(cubin)
        self._kernels: dict[str, CudaObject] = {}

    def allocate(self, shape: Shape, dtype: npt.DTypeLike) -> DeviceArray:
        """Give memory on the device, with its page-locked staging."""
        n_bytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        with cuda_explained(f"the GPU has no {n_bytes} bytes left"):
            owner = self._cuda.mem_alloc(n_bytes)
            staging = self._cuda.pagelocked_empty((n_bytes,), np.uint8)
        return DeviceArray(int(owner), shape, np.dtype(dtype), owner, staging)

    def free(self, array: DeviceArray) -> None:
        """Free device and page-locked memory now, rather than when Python collects it."""
        with cuda_explained("the GPU cannot free memory"):
            array.owner.free()
            array.staging.base.free()  # type: ignore[union-attr]  # PyCUDA's own allocation

    def write(self, array: DeviceArray, content: AnyArray) -> None:
        """Copy into staging, then to the device without waiting."""
        staged = array.staged()
        np.copyto(staged, content, casting="no")
        with cuda_explained("the GPU did not take a frame"):
            self._cuda.memcpy_htod_async(array.pointer, staged, self._stream)

    def read(self, array: DeviceArray) -> AnyArray:
        """Copy into staging, wait for the stream, and copy out of it."""
        staged = array.staged()
        with cuda_explained("the GPU did not answer"):
            self._cuda.memcpy_dtoh_async(staged, array.pointer, self._stream)
            self._stream.synchronize()
        copy: AnyArray = staged.copy()
        return copy

    def launch(
        self, kernel: str, grid: tuple[int, int], block: tuple[int, int], *arguments: Argument
    ) -> None:
        """Launch on the stream, without waiting."""
        given = [one.pointer if isinstance(one, DeviceArray) else one for one in arguments]
        with cuda_explained(f"the GPU did not run {kernel}"):
            if kernel not in self._kernels:
                # Prepared, since PyCUDA's plain call keeps every set of arguments it has ever
                # seen, and takes an int32 for a float32 that equals it.
                function = self._module.get_function(kernel)
                types = [
                    np.uintp if isinstance(one, DeviceArray) else type(one) for one in arguments
                ]
                self._kernels[kernel] = function.prepare(types)
            self._kernels[kernel].prepared_async_call(grid, (*block, 1), self._stream, *given)
