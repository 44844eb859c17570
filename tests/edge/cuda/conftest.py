"""The kernels' own source, built for the CPU and launched as a GPU would launch it."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from kernel_host import build_host

from loupe_edge.cuda.context import PrimaryContext, gpu_arch, load_pycuda
from loupe_edge.cuda.device import AnyArray, Argument, DeviceArray, PyCudaDevice, Shape
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.kernels import FOLDER, cached_cubin
from loupe_edge.errors import EngineError, StationError
from loupe_models.preprocess import Prepared, preprocess

OUTCOMES = {1: "no such kernel", 2: "wrong arguments", 3: "threads wait at different barriers"}
Preprocess = Callable[..., Prepared]
HAS_GPU = any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvhost-gpu"))
ON_GPU = [pytest.param("gpu", marks=pytest.mark.gpu)] if HAS_GPU else []


class HostDevice:
    """A device that is this CPU: the seam of PyCudaDevice, over the host build of the kernels."""

    def __init__(self, library: Path, seed: int = 0) -> None:
        self._library = ctypes.CDLL(str(library))
        self._seed = seed
        self.launched: list[str] = []
        self.n_held = 0

    def allocate(self, shape: Shape, dtype: npt.DTypeLike) -> DeviceArray:
        n_bytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        memory = np.full(n_bytes, 0xA5, np.uint8)  # rubbish, as on a device
        self.n_held += 1
        staging = np.empty(n_bytes, np.uint8)
        return DeviceArray(memory.ctypes.data, shape, np.dtype(dtype), memory, staging)

    def free(self, array: DeviceArray) -> None:
        array.owner.fill(0x5A)
        self.n_held -= 1

    def write(self, array: DeviceArray, content: AnyArray) -> None:
        np.copyto(self._seen(array), content, casting="no")

    def read(self, array: DeviceArray) -> AnyArray:
        copy: AnyArray = self._seen(array).copy()
        return copy

    def launch(
        self, kernel: str, grid: tuple[int, int], block: tuple[int, int], *arguments: Argument
    ) -> None:
        given = [
            np.array(one.pointer if isinstance(one, DeviceArray) else one) for one in arguments
        ]
        pointers = (ctypes.c_void_p * len(given))(*(one.ctypes.data for one in given))
        sizes = (ctypes.c_size_t * len(given))(*(one.nbytes for one in given))
        shape = ((ctypes.c_uint * 3)(*grid, 1), (ctypes.c_uint * 3)(*block, 1))
        n = ctypes.c_size_t(len(given))
        outcome = self._library.launch_kernel(
            kernel.encode(), *shape, pointers, sizes, n, self._seed
        )
        if outcome:
            raise EngineError(f"{kernel}: {OUTCOMES[outcome]}")
        self.launched.append(kernel)

    @staticmethod
    def _seen(array: DeviceArray) -> AnyArray:
        seen: AnyArray = array.owner[: array.n_bytes].view(array.dtype).reshape(array.shape)
        return seen


@pytest.fixture
def host_device(host_library: Path) -> HostDevice:
    return HostDevice(host_library)


@pytest.fixture
def host_front(host_device: HostDevice) -> GpuFront:
    return GpuFront(host_device)


@pytest.fixture
def altered_front(tmp_path: Path) -> Callable[..., GpuFront]:
    """`altered_front(name, old, new, seed)`: the kernels with one place of a source replaced."""

    def alter(name: str, old: str, new: str, seed: int = 0) -> GpuFront:
        folder = tmp_path / "sources"
        shutil.copytree(FOLDER, folder)
        source = (folder / name).read_text("utf-8")
        assert old in source
        (folder / name).write_text(source.replace(old, new, 1), "utf-8")
        return GpuFront(HostDevice(build_host(tmp_path / "altered.so", folder), seed))

    return alter


@contextmanager
def gpu_front(cache: Path) -> Iterator[GpuFront]:
    """A front on the real GPU; skips where PyCUDA is missing."""
    try:
        primary = PrimaryContext()
    except StationError as error:
        pytest.skip(f"A GPU, BUT THE KERNELS ARE NOT TESTED ON IT: {error}")
    with closing(primary):
        device = PyCudaDevice(load_pycuda().Stream(), cached_cubin(gpu_arch(), cache))
        with closing(GpuFront(device)) as front:
            yield front


@pytest.fixture(scope="session")
def has_gpu() -> bool:
    return HAS_GPU


@pytest.fixture(params=["host", *ON_GPU])
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GpuFront]:
    """The kernels, built for this CPU; and on a GPU where there is one."""
    if request.param == "host":
        yield GpuFront(HostDevice(request.getfixturevalue("host_library")))
        return
    with gpu_front(tmp_path_factory.getbasetemp() / "cubins") as opened:
        yield opened


@pytest.fixture(params=["numpy", "host", *ON_GPU])
def any_preprocess(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Preprocess]:
    """Whatever can stand for `preprocess`: numpy, the host build, the GPU."""
    if request.param == "numpy":
        yield preprocess
        return
    if request.param == "host":
        yield GpuFront(HostDevice(request.getfixturevalue("host_library"))).preprocess
        return
    with gpu_front(tmp_path_factory.getbasetemp() / "cubins") as opened:
        yield opened.preprocess
