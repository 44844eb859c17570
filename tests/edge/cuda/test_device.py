"""What PyCudaDevice says to PyCUDA, as far as it can be heard without a GPU.

PyCUDA's stand-in has its names, signatures and packing of arguments, and the host's memory and
kernels behind them. That the names are PyCUDA's was read in its source; only a GPU can prove it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from every_step import SPEC, differing, part_frame

from loupe_edge.cuda.context import PrimaryContext
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.errors import EngineError


@pytest.fixture
def driver(nvidia_kernels: Any) -> Iterator[Any]:
    """PyCUDA's stand-in, with the context that an engine would have pushed."""
    with closing(PrimaryContext()):
        yield nvidia_kernels.driver


def test_frames_go_there_and_tensors_come_back(driver: Any) -> None:
    front = GpuFront(PyCudaDevice(driver.Stream(), b"cubin"))
    for seed in range(3):
        assert not differing(front, part_frame(seed))
    asked = driver.GPU.asked
    assert asked.count("synchronize") == 3 * (1 + len(SPEC.tensors))  # one for how many points
    front.close()
    assert driver.MEMORY == {}
    assert asked.count("free host") == asked.count("host memory") > 0


@pytest.mark.parametrize(
    ("cubin", "n_bytes", "message"),
    [
        (b"", 1, r"does not take the kernels \(.*no binary for GPU.*loupe-edge doctor"),
        (b"cubin", 1 << 31, r"has no 2147483648 bytes left"),
    ],
)
def test_what_the_driver_refuses_is_an_engine_error(
    driver: Any, cubin: bytes, n_bytes: int, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        PyCudaDevice(driver.Stream(), cubin).allocate((n_bytes,), np.uint8)
