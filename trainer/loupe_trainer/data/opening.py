"""One way to open data, however it is laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import Stream
from loupe_edge.recording_file import read_contents
from loupe_models.gate import GateSpec
from loupe_models.manifest import Mode
from loupe_trainer.data.folder import folder_items
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.data.jsonl import jsonl_items
from loupe_trainer.data.layout import reader_of
from loupe_trainer.data.magnetic_tile import magnetic_tile_items
from loupe_trainer.data.mvtec import mvtec_loco_items
from loupe_trainer.data.mvtec_3d import open_mvtec_3d
from loupe_trainer.data.picture_set import PictureSet
from loupe_trainer.data.pothole import open_potholes
from loupe_trainer.data.recording import RecordingSet
from loupe_trainer.data.visa import visa_items
from loupe_trainer.errors import DataError
from loupe_trainer.recipe import ReaderName

LISTERS: Mapping[ReaderName, Callable[[Path], list[Item]]] = {
    "jsonl": jsonl_items,
    "magnetic_tile": magnetic_tile_items,
    "mvtec_loco": mvtec_loco_items,
    "visa": visa_items,
}

WITH_DEPTH: frozenset[ReaderName] = frozenset({"mvtec_3d", "recording"})


@dataclass(frozen=True, slots=True)
class Reading:
    """How a place is to be read.

    Attributes:
        reader: `auto` looks at the place.
        part_pattern: For folders.
        streams: Of a recording, MVTec 3D-AD or the potholes, those that gate and mode need.
        gate: Tells the parts of a recording without labels apart.
        belt_from_camera: For a gate by height; None takes the recording's own.
        is_for_test: Nothing is learnt from it, so that a folder may hold `good` and defects side
            by side, or a test set alone.
    """

    reader: ReaderName = "auto"
    part_pattern: str | None = None
    streams: tuple[Stream, ...] = ("rgb",)
    gate: GateSpec = field(default_factory=GateSpec)
    belt_from_camera: Transform | None = None
    is_for_test: bool = False


def open_data(place: Path, how: Reading) -> DataSet:
    """Open a folder, one category of a published data set, a JSON Lines index or a recording.

    Raises:
        DataError: Missing, empty, or not what the reader expects.
        RecordingError: The recording is damaged or lacks a stream.
    """
    reader = _reader_at(place, how)
    if reader == "recording":
        return RecordingSet.open(place, how.streams, how.gate, how.belt_from_camera)
    if reader == "mvtec_3d":
        return open_mvtec_3d(place, how.streams)
    if reader == "pothole":
        return open_potholes(place, how.streams)
    if reader == "folder":
        return PictureSet(tuple(folder_items(place, how.part_pattern, how.is_for_test)))
    return PictureSet(tuple(LISTERS[reader](place)))


def streams_at(place: Path, how: Reading) -> tuple[Stream, ...]:
    """Tell which streams a place can give: pictures are colour, whatever they show.

    Raises:
        DataError: Missing, or nothing that a reader knows.
        RecordingError: The recording is damaged.
    """
    reader = _reader_at(place, how)
    if reader == "recording" and place.is_file():
        return tuple(stream for stream, n in read_contents(place).n_images.items() if n)
    return ("rgb", "depth") if reader in WITH_DEPTH else ("rgb",)


def require_streams(place: Path, how: Reading, needed: Mapping[Mode, Sequence[Stream]]) -> None:
    """Make sure, before the work, that a place can serve every mode.

    Args:
        place: As for `open_data`.
        how: Likewise.
        needed: By mode, the streams that it and its gate look at.

    Raises:
        DataError: It cannot; the message names mode and stream.
    """
    given = streams_at(place, how)
    for mode, streams in needed.items():
        lacking = [stream for stream in streams if stream not in given]
        if lacking:
            raise DataError(
                f"{place}: mode {mode} needs the stream {lacking[0]}, and there is "
                f"{' and '.join(given) or 'none'} only: give data with it, or ask for other modes"
            )


def _reader_at(place: Path, how: Reading) -> ReaderName:
    if not place.exists():
        raise DataError(f"{place}: no such file or folder; check --data, or data.path")
    return reader_of(place) if how.reader == "auto" else how.reader
