"""A GPU and TensorRT where there is neither: stand-ins for libraries, never for our own code."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kernel_host import build_host

STAND_INS = Path(__file__).resolve().parent.parent / "edge" / "tensorrt" / "stand_ins"
FREE_OF_CUDA = ("cache", "key")


@dataclass(frozen=True)
class Nvidia:
    """The stand-ins, to be set up and asked."""

    gpu: Any
    build: Any
    driver: Any


def _forget() -> dict[str, Any]:
    """Drop what was imported over libraries of these names, and give it, to be put back."""
    ours = "loupe_edge.engines.tensorrt."
    dropped = {
        name: module
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in ("tensorrt", "pycuda", "cuda")
        or (name.startswith(ours) and name.removeprefix(ours) not in FREE_OF_CUDA)
    }
    package = sys.modules.get(ours.rstrip("."))
    for name in dropped:
        del sys.modules[name]
        if name.startswith(ours):
            delattr(package, name.removeprefix(ours))
    return dropped


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvidia]:
    """A machine with the stand-in GPU and TensorRT, and without cuda-python."""
    before = _forget()
    monkeypatch.setattr(sys, "path", [str(STAND_INS), *sys.path])
    monkeypatch.setitem(sys.modules, "cuda", None)  # even where it is installed
    importlib.invalidate_caches()
    driver = importlib.import_module("pycuda.driver")
    tensorrt = importlib.import_module("tensorrt")
    assert Path(str(driver.__file__)).is_relative_to(STAND_INS)
    yield Nvidia(driver.GPU, tensorrt.BUILD, driver)
    _forget()
    sys.modules.update(before)


@pytest.fixture(scope="session")
def host_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, built for this CPU."""
    return build_host(tmp_path_factory.mktemp("kernels") / "host.so")


@pytest.fixture
def nvidia_kernels(nvidia: Nvidia, host_library: Path) -> Nvidia:
    """The same machine, whose launches run the kernels on this CPU."""
    nvidia.gpu.kernels = ctypes.CDLL(str(host_library))
    return nvidia
