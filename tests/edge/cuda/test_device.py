"""What PyCudaDevice says to PyCUDA, as far as it can be heard without a GPU.

The stand-in has the names, signatures and packing of arguments that were read in PyCUDA's source,
and the host's memory and kernels behind them; no test holds it against the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from every_step import differing, part_frame

from loupe_edge.cuda.context import PrimaryContext
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.shared import allocate
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
    assert asked.count("synchronize") == 3 * 2  # for how many points there are, and at the end
    front.close()
    assert driver.MEMORY == {}
    assert asked.count("free host") == asked.count("host memory") > 0
    assert asked.count("host memory") < asked.count("device memory")  # only what the host looks at


def test_what_the_driver_refuses_is_an_engine_error(driver: Any) -> None:
    with pytest.raises(EngineError, match=r"does not take the kernels \(.*no binary for GPU"):
        PyCudaDevice(driver.Stream(), b"")
    with pytest.raises(EngineError, match=r"has no 2147483648 bytes left \(.*out of memory"):
        allocate((1 << 31,), np.uint8)


@pytest.mark.parametrize("is_mapped", [False, True])
def test_what_is_filled_here_is_there_and_comes_back(driver: Any, is_mapped: bool) -> None:
    stream, array = driver.Stream(), allocate((2, 3), np.float32, is_mapped=is_mapped)
    array.host[:] = [[1, 2, 3], [4, 5, 6]]
    array.to_device(stream)
    stream.synchronize()
    there = driver.MEMORY[array.address].view(np.float32)
    np.testing.assert_array_equal(there, [1, 2, 3, 4, 5, 6])
    there[:] = 7
    array.to_host(stream)
    stream.synchronize()
    assert (array.host == 7).all()
    assert ("to device" in driver.GPU.asked, "to host" in driver.GPU.asked) == (not is_mapped,) * 2
    array.memory.close()
    array.memory.close()
    assert driver.MEMORY == {}
    assert driver.GPU.asked.count("free host") == 1


def test_what_only_kernels_see_has_no_side_here(driver: Any) -> None:
    allocate((5,), np.int32).memory.close()
    assert "host memory" not in driver.GPU.asked
