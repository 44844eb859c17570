"""Places that will be written to, looked at before the work that they are for."""

from __future__ import annotations

import os
from pathlib import Path

from loupe_models.bundle import refuse_inside_bundle
from loupe_trainer.errors import RunError

ROOM_BYTES = 32  # of a name: temporary files beside a place have longer names than the place


def require_folder(place: Path) -> None:
    """Make sure that a folder is there and can be written to, or can be made.

    Raises:
        RunError: It cannot; the message says why.
        BundleError: It lies in a bundle.
    """
    if _is_there(place) and not place.is_dir():
        raise RunError(f"{place}: is there and is not a folder; give --out another place")
    _require_room(place, place)


def require_file(place: Path) -> None:
    """Make sure that a file can be written, with the folders that lead to it.

    Raises:
        RunError: It cannot; the message says why.
        BundleError: It lies in a bundle.
    """
    if _is_there(place) and place.is_dir():
        raise RunError(f"{place}: is a folder; give --out the name of a file")
    _require_room(place, place.parent)


def _require_room(place: Path, folder: Path) -> None:
    refuse_inside_bundle(place)
    there = folder
    while not _is_there(there):
        there = there.parent
    if not there.is_dir():
        raise RunError(f"{place}: {there} is a file, not a folder; give --out another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunError(
            f"{place}: nobody may write in {there}, or you may not; give --out another place"
        )
    longest = os.pathconf(there, "PC_NAME_MAX") - ROOM_BYTES
    for part in place.absolute().relative_to(there.absolute()).parts:
        if len(os.fsencode(part)) > longest:
            raise RunError(f"{place}: the name is too long; give --out at most {longest} bytes")


def _is_there(place: Path) -> bool:
    """Whether something is there, be it a dangling link."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise RunError(f"{place}: {error.strerror}; give --out another place") from error
    return True
