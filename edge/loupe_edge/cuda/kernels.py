"""The kernels' source, and its machine code, compiled once for each kind of GPU."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from loupe_edge.cuda.nvrtc import OPTIONS, compile_cubin, nvrtc_version
from loupe_models.atomic import write_bytes

FOLDER: Final = Path(__file__).parent
SOURCES: Final = ("cloud.cu", "resize.cu", "points.cu", "sample.cu", "group.cu")  # in this order


def read_source(folder: Path = FOLDER) -> str:
    """Give all kernels as one program, in which a compiler's messages name the right file."""
    parts = [f'#line 1 "{name}"\n{(folder / name).read_text("utf-8")}' for name in SOURCES]
    return "\n".join(parts)


def cached_cubin(arch: str, cache: Path) -> bytes:
    """Give the machine code, compiled where the cache does not hold it yet.

    Args:
        arch: Such as `sm_87`.
        cache: Folder, made where it is missing. A file is named after all that makes it.

    Raises:
        StationError: There is no NVRTC on this machine.
        EngineError: NVRTC does not know the architecture.
    """
    source = read_source()
    made_of = "\0".join((nvrtc_version(), arch, *OPTIONS, source))
    path = cache / f"front-{arch}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.cubin"
    if path.is_file():
        return path.read_bytes()
    cubin = compile_cubin(source, arch)
    write_bytes(path, cubin)
    return cubin
