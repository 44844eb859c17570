"""A folder in which one process makes something, and which outlives it only if that is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path


def hold(folder: Path) -> int:
    """Make a folder, or take over what a killed process left there, and empty it.

    The kernel lets go of it when the process ends, however it ends.

    Returns:
        A handle: the folder is held until it is closed with `os.close`.

    Raises:
        BlockingIOError: A process that lives holds it.
        OSError: It cannot be made.
    """
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # its holder has just removed it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(folder, handle):
                _empty(folder)
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def remove_if_left(folder: Path) -> None:
    """Remove a folder that was held, unless a living process holds it.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        handle = hold(folder)
    except BlockingIOError:
        return
    try:
        folder.rmdir()
    finally:
        os.close(handle)


def _is_still(folder: Path, handle: int) -> bool:
    """Whether the folder of that name is the one that is held: it may have been moved meanwhile."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
