"""The GPU through PyCUDA: what a plan depends on, and memory that host and device share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pycuda.driver as cuda
import tensorrt as trt

from loupe_edge.cuda.context import ORDINAL, cuda_explained
from loupe_edge.engines.tensorrt.key import DeviceKey, driver_release, jetson_release


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
