"""One way to open data, however it is laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import Stream
from loupe_models.gate import GateSpec
from loupe_trainer.data.folder import folder_items
from loupe_trainer.data.item import DataSet
from loupe_trainer.data.jsonl import jsonl_items
from loupe_trainer.data.magnetic_tile import magnetic_tile_items
from loupe_trainer.data.picture_set import PictureSet
from loupe_trainer.data.recording import RecordingSet
from loupe_trainer.errors import DataError
from loupe_trainer.recipe import ReaderName


@dataclass(frozen=True, slots=True)
class Reading:
    """How a place is to be read.

    Attributes:
        reader: `auto` looks at the place.
        part_pattern: For folders.
        streams: Of a recording, those that gate and mode need.
        gate: Tells the parts of a recording without labels apart.
        belt_from_camera: For a gate by height; None takes the recording's own.
    """

    reader: ReaderName = "auto"
    part_pattern: str | None = None
    streams: tuple[Stream, ...] = ("rgb",)
    gate: GateSpec = field(default_factory=GateSpec)
    belt_from_camera: Transform | None = None


def open_data(place: Path, how: Reading) -> DataSet:
    """Open a folder, a JSON Lines index or a recording.

    Raises:
        DataError: Missing, empty, or not what the reader expects.
        RecordingError: The recording is damaged or lacks a stream.
    """
    if not place.exists():
        raise DataError(f"{place}: no such file or folder; check --data, or data.path")
    reader = _look(place) if how.reader == "auto" else how.reader
    if reader == "recording":
        return RecordingSet.open(place, how.streams, how.gate, how.belt_from_camera)
    if reader == "magnetic_tile":
        return PictureSet(tuple(magnetic_tile_items(place)))
    if reader == "jsonl":
        return PictureSet(tuple(jsonl_items(place)))
    return PictureSet(tuple(folder_items(place, how.part_pattern)))


def _look(place: Path) -> ReaderName:
    by_suffix: dict[str, ReaderName] = {".db3": "recording", ".jsonl": "jsonl"}
    if place.is_dir():
        return "magnetic_tile" if (place / "groups.csv").is_file() else "folder"
    if place.suffix in by_suffix:
        return by_suffix[place.suffix]
    raise DataError(f"{place}: give a folder of pictures, a .jsonl index or a .db3 recording")
