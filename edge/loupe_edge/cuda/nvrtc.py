"""NVIDIA's runtime compiler: CUDA source in, machine code for one kind of GPU out. Needs no GPU."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from loupe_edge.errors import EngineError, StationError

OPTIONS: Final = ("--std=c++17", "-default-device")
TOOLKIT: Final = Path("/usr/local/cuda")
NO_NVRTC: Final = (
    "NVIDIA's compiler library libnvrtc is not here: JetPack and the CUDA toolkit bring it, in "
    "/usr/local/cuda; elsewhere type  pip install nvidia-cuda-nvrtc"
)


def compile_cubin(source: str, arch: str) -> bytes:
    """Compile for one architecture.

    Args:
        source: CUDA C++.
        arch: Such as `sm_87`.

    Returns:
        A cubin, as `cuModuleLoadData` takes it.

    Raises:
        StationError: There is no NVRTC on this machine.
        EngineError: It refuses source or architecture; the message holds its log.
    """
    nvrtc = _library()
    program = ctypes.c_void_p()
    _check(
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"loupe.cu", 0, None, None
        ),
        "does not take the source",
    )
    try:
        options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={arch}")]
        given = (ctypes.c_char_p * len(options))(*options)
        status = nvrtc.nvrtcCompileProgram(program, len(options), given)
        if status != 0:
            log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            _check(status, f"does not compile for {arch}: {log.rstrip(bytes(1)).decode().strip()}")
        return _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def nvrtc_version() -> str:
    """Give the library's version, such as `13.5`.

    Raises:
        StationError: There is no NVRTC on this machine.
    """
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "has no version")
    return f"{major.value}.{minor.value}"


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    for place in _places():
        try:
            library = ctypes.CDLL(place)
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    raise StationError(NO_NVRTC)


def _places() -> Iterator[str]:
    """Name where the library may be: the system's own, the toolkit's, NVIDIA's wheels'."""
    yield "libnvrtc.so"
    folders = [TOOLKIT / "lib64"]
    wheels = importlib.util.find_spec("nvidia")
    if wheels is not None and wheels.submodule_search_locations is not None:
        for root in wheels.submodule_search_locations:
            folders += sorted(Path(root).glob("*/lib"), reverse=True)
    for folder in folders:
        for path in sorted(folder.glob("libnvrtc.so.*"), key=lambda path: len(path.name)):
            yield str(path)


def _read(
    get_size: ctypes._NamedFuncPointer, get: ctypes._NamedFuncPointer, program: ctypes.c_void_p
) -> bytes:
    size = ctypes.c_size_t()
    _check(get_size(program, ctypes.byref(size)), "gives no size")
    content = ctypes.create_string_buffer(size.value)
    _check(get(program, content), "gives no content")
    return content.raw


def _check(status: int, what: str) -> None:
    if status != 0:
        name = _library().nvrtcGetErrorString(status).decode()
        raise EngineError(f"NVRTC {what} ({name})")
