"""Memory on the device that is allocated once and lasts from frame to frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.shared import AnyArray, DeviceArray, Shape, allocate


class Memory:
    """Arrays by name. One that must grow is allocated anew; none shrinks."""

    def __init__(self, device: PyCudaDevice) -> None:
        self.device = device
        self._arrays: dict[str, DeviceArray] = {}
        self._constants: dict[str, AnyArray] = {}

    def array(self, name: str, shape: Shape, dtype: npt.DTypeLike) -> DeviceArray:
        """Give room for what a kernel writes."""
        held = self._arrays.get(name)
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if held is None or held.memory.n_bytes < n_bytes:
            if held is not None:
                self._arrays.pop(name).memory.close()
            held = self._arrays[name] = allocate(shape, dtype)
        return replace(held, shape=shape, dtype=np.dtype(dtype))

    def frame(self, name: str, content: AnyArray) -> DeviceArray:
        """Copy what is new with every frame."""
        array = self.array(name, content.shape, content.dtype)
        self.device.write(array, content)
        return array

    def constant(self, name: str, content: AnyArray) -> DeviceArray:
        """Copy what seldom changes; the very same array is known to hold the same bytes."""
        array = self.array(name, content.shape, content.dtype)
        if self._constants.get(name) is not content:
            self.device.write(array, content)
            self._constants[name] = content
        return array

    def close(self) -> None:
        """Free everything; safe to call twice."""
        self._constants.clear()
        while self._arrays:
            self._arrays.popitem()[1].memory.close()
