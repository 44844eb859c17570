"""The front on PyCUDA's stand-in, which runs the kernels' own source, built for the CPU."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kernel_host import build_host

from loupe_edge.cuda.context import PrimaryContext, gpu_arch, load_pycuda
from loupe_edge.cuda.device import PyCudaDevice
from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.kernels import FOLDER, cached_cubin
from loupe_edge.errors import StationError
from loupe_models.preprocess import Prepared, preprocess

Preprocess = Callable[..., Prepared]
HAS_GPU = any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvhost-gpu"))
ON_GPU = [pytest.param("gpu", marks=pytest.mark.gpu)] if HAS_GPU else []


@contextmanager
def opened_front(cubin_of: Callable[[str], bytes] = lambda _: b"stand-in") -> Iterator[GpuFront]:
    """A front in a context and on a stream of its own, on whichever PyCUDA is there."""
    with closing(PrimaryContext()):
        device = PyCudaDevice(load_pycuda().Stream(), cubin_of(gpu_arch()))
        with closing(GpuFront(device)) as front:
            yield front


@contextmanager
def gpu_front(cache: Path) -> Iterator[GpuFront]:
    """A front on the real GPU; skips where PyCUDA is missing."""
    try:
        load_pycuda()
    except StationError as error:
        pytest.skip(f"A GPU, BUT THE KERNELS ARE NOT TESTED ON IT: {error}")
    with opened_front(partial(cached_cubin, cache=cache)) as front:
        yield front


@pytest.fixture
def host_front(nvidia_kernels: Any) -> Iterator[GpuFront]:  # noqa: ARG001
    with opened_front() as front:
        yield front


@pytest.fixture
def altered_front(nvidia_kernels: Any, tmp_path: Path) -> Iterator[Callable[..., GpuFront]]:
    """`altered_front(name, old, new)`: the kernels with one place of a source replaced."""
    with ExitStack() as stack:

        def alter(name: str, old: str, new: str) -> GpuFront:
            folder = tmp_path / "sources"
            shutil.copytree(FOLDER, folder)
            source = (folder / name).read_text("utf-8")
            assert old in source
            (folder / name).write_text(source.replace(old, new, 1), "utf-8")
            library = build_host(tmp_path / "altered.so", folder)
            nvidia_kernels.gpu.kernels = ctypes.CDLL(str(library))
            return stack.enter_context(opened_front())

        yield alter


@pytest.fixture(scope="session")
def has_gpu() -> bool:
    return HAS_GPU


@pytest.fixture(params=["host", *ON_GPU])
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GpuFront]:
    """The kernels, built for this CPU; and on a GPU where there is one."""
    if request.param == "host":
        yield request.getfixturevalue("host_front")
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
        yield request.getfixturevalue("host_front").preprocess
        return
    with gpu_front(tmp_path_factory.getbasetemp() / "cubins") as opened:
        yield opened.preprocess
