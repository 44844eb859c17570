"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it to the disk, and move it there in one step.

    Raises:
        OSError: The disk does not take it; it names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, making = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(making).chmod(0o644)
        Path(making).replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write knows only its handle
        raise
    finally:
        Path(making).unlink(missing_ok=True)  # nothing, once it is in place


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))
