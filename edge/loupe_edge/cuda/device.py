"""The seam to a GPU: copies and launches on one stream of a context that others own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loupe_edge.cuda.context import CudaObject, cuda_explained, load_pycuda
from loupe_edge.cuda.shared import AnyArray, DeviceArray

Argument = DeviceArray | np.int32 | np.float32


class PyCudaDevice:
    """PyCUDA, on the context that is current and a stream that exists.

    It makes no context: whoever owns the primary one (the engine, or a benchmark) opens it
    before this is made, and closes it after all that was allocated has been freed. Everything
    happens in the order of the calls; only reading waits for it.

    Raises:
        StationError: PyCUDA is not installed.
        EngineError: The driver refuses, here or in any method.
    """

    def __init__(self, stream: CudaObject, cubin: bytes) -> None:
        cuda = load_pycuda()
        self._stream = stream
        with cuda_explained("the GPU does not take the kernels"):
            self._module = cuda.module_from_buffer(cubin)
        self._kernels: dict[str, CudaObject] = {}

    def write(self, array: DeviceArray, content: AnyArray) -> None:
        """Copy there without waiting; shapes and dtypes must be equal.

        What was written to this memory before must have left: it has once anything was read.
        """
        np.copyto(array.host, content, casting="no")
        with cuda_explained("the GPU did not take a frame"):
            array.to_device(self._stream)

    def read(self, arrays: Sequence[DeviceArray]) -> list[AnyArray]:
        """Wait once for all that was asked for, and copy here; the copies are the caller's."""
        with cuda_explained("the GPU did not answer"):
            for array in arrays:
                array.to_host(self._stream)
            self._stream.synchronize()
        return [array.host.copy() for array in arrays]

    def launch(
        self, kernel: str, grid: tuple[int, int], block: tuple[int, int], *arguments: Argument
    ) -> None:
        """Launch on the stream, without waiting."""
        given = [one.address if isinstance(one, DeviceArray) else one for one in arguments]
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
