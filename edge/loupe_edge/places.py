"""Whether the files and folders that a station names can serve, before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loupe_edge.endpoint import unbindable
from loupe_edge.errors import NoRuntimeError, StationError
from loupe_edge.station import Station
from loupe_models.bundle import MANIFEST


def check_places(station: Station) -> None:
    """Look at all that the station reads, and where it writes; nothing is made.

    Raises:
        StationError: Every place that cannot serve, a line each, as `key: reason`.
    """
    problems = list(_problems(station))
    if problems:
        raise StationError("\n".join(problems))


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Name the station's file in every line of what is wrong with it, or with what it asks for.

    Raises:
        StationError: As raised within, as `file: key: reason`.
    """
    try:
        yield
    except NoRuntimeError as error:
        raise StationError(f'{path}: engine.kind: {error}, or choose "onnxruntime"') from error
    except StationError as error:
        lines = [f"{path}: {line}" for line in str(error).splitlines()]
        raise StationError("\n".join(lines)) from error


def _problems(station: Station) -> Iterator[str]:
    if not (station.bundle / MANIFEST).is_file():
        yield f"bundle: {station.bundle}: no bundle there; give the folder that holds {MANIFEST}"
    recording = station.camera.recording
    if recording is not None and not recording.is_file():
        yield f"camera.recording: {recording}: no such recording; give a .db3 file"
    if reason := unbindable(station.publish.endpoint):
        yield f"publish.endpoint: {reason}"
    if station.journal is not None and (reason := _unwritable(station.journal.path)):
        yield f"journal.path: {reason}"
    if station.record is not None and (reason := _unwritable(station.record.folder)):
        yield f"record.folder: {reason}"


def _unwritable(path: Path) -> str:
    """Say why a path cannot be written or made; empty where it can."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if there != path and not there.is_dir():
        return f"{path} cannot be made: {there} is a file; give another place"
    if not os.access(there, os.W_OK):
        return f"{there} is not writeable; give the service's user leave to write there"
    return ""
