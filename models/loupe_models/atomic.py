"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path

BEFORE = ".before"  # what an old folder is called that had to be put aside
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # as Linux numbers them


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it to the disk, and move it there in one step.

    Raises:
        OSError: It cannot be written; `filename` is `path`, and what was there before still is.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, making = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(making).chmod(0o644)
            Path(making).replace(path)
        finally:
            Path(making).unlink(missing_ok=True)  # nothing, once it is in place
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # a full disk names no file itself
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def put_folder(made: Path, place: Path) -> None:
    """Move a finished folder to its place; a folder that is there stays until that very moment.

    Where the file system cannot exchange two folders in one step, the old one is put aside first,
    as `.NAME.before`: a kill at that instant leaves both whole.

    Args:
        made: On the same disk as `place`.
        place: Need not exist; a link there is replaced, what it leads to is left alone.
    """
    if not place.exists():
        made.rename(place)
        return
    if _exchange(made, place):
        _remove(made)
        return
    aside = place.with_name(f".{place.name}{BEFORE}")
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    made.rename(place)
    _remove(aside)


def _remove(old: Path) -> None:
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, where C library and file system can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    status: int = rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    return status == 0
