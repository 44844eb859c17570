"""The kernels' source, and its machine code, compiled once for each kind of GPU."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Final

from loupe_edge.cuda.nvrtc import OPTIONS, compile_cubin, nvrtc_version
from loupe_models.atomic import write_bytes

FOLDER: Final = Path(__file__).parent
DIGEST_BYTES: Final = 32
SOURCES: Final = ("cloud.cu", "resize.cu", "points.cu", "sample.cu", "group.cu")  # in this order

log = logging.getLogger(__name__)


def read_source(folder: Path = FOLDER) -> str:
    """Give all kernels as one program, in which a compiler's messages name the right file."""
    parts = [f'#line 1 "{name}"\n{(folder / name).read_text("utf-8")}' for name in SOURCES]
    return "\n".join(parts)


def cached_cubin(arch: str, cache: Path) -> bytes:
    """Give the machine code, compiled where the cache does not hold it yet.

    Args:
        arch: Such as `sm_87`.
        cache: Folder, made where it is missing. A file is named after all that makes it and ends
            with its own sha256; one that is damaged is compiled again. Where the folder cannot be
            written, nothing is kept.

    Raises:
        StationError: There is no NVRTC on this machine.
        EngineError: NVRTC does not know the architecture.
    """
    source = read_source()
    made_of = "\0".join((nvrtc_version(), arch, *OPTIONS, source))
    path = cache / f"front-{arch}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.cubin"
    kept = _kept(path)
    if kept is not None:
        return kept
    cubin = compile_cubin(source, arch)
    try:
        write_bytes(path, cubin + hashlib.sha256(cubin).digest())
    except OSError as error:  # it takes about a second: not worth refusing to start
        log.warning("%s cannot be kept (%s): compiled at every start", path, error.strerror)
    return cubin


def _kept(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s): compiled again", path, error.strerror)
        return None
    cubin, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(cubin).digest() != digest:
        log.warning("%s is damaged (sha256 differs): compiled again", path)
        return None
    return cubin
