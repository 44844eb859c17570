"""What a run learnt from: nothing of it may be tested on, whatever it is called by then."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.data.recording import RecordingSet
from loupe_trainer.errors import DataError
from loupe_trainer.run import RunFolder
from loupe_trainer.split import LEARNING, ROLES

Frame = tuple[str, int | None]  # a file, or its content, and the frame's number in a recording


@dataclass(frozen=True, slots=True)
class LearntFrom:
    """Everything that a run's split says was learnt from.

    Attributes:
        names: By file name.
        contents: By the sha256 of the file.
        parts: Ids of parts; two places may use one id for two parts, so that an id means a part
            only under `root`.
        root: The folder that holds all of the run's pictures, or its recording.
    """

    names: frozenset[Frame]
    contents: frozenset[Frame]
    parts: frozenset[str]
    root: Path

    @classmethod
    def of(cls, run: RunFolder) -> LearntFrom | None:
        """Read a run's split; None where it is not at hand, and so nothing can be checked."""
        lines = {role: _lines(run.split / f"{role}.jsonl") for role in ROLES}
        known = [line for role in LEARNING for line in lines[role]]
        if not known:
            return None
        places = {_place(line) for role in ROLES for line in lines[role]}
        return cls(
            names=frozenset((str(line["filename"]), _frame(line)) for line in known),
            contents=frozenset(
                (str(line["sha256"]), _frame(line)) for line in known if "sha256" in line
            ),
            parts=frozenset(str(line["part"]) for line in known),
            root=Path(os.path.commonpath(places)),
        )

    def holds(self, item: Item, data: DataSet, sha256: Mapping[Path, str]) -> bool:
        """Whether an item was learnt from: its file, a copy of it, or its part in another frame."""
        frame = item.stamp.frame_id if item.stamp else None
        origin = _origin(item, data)
        seen = {(str(item.source.resolve()), frame), (str(origin), None)}
        is_same_part = item.part_id in self.parts and origin.is_relative_to(self.root)
        return bool(
            seen & self.names
            or (sha256.get(item.source, ""), frame) in self.contents
            or is_same_part
        )


def refuse_learnt(run: RunFolder, data: DataSet, sha256: Mapping[Path, str]) -> bool:
    """Hold data against what a run learnt from.

    Returns:
        Whether the run's split was at hand: without it nothing could be checked.

    Raises:
        DataError: Some of the data was learnt from.
    """
    learnt = LearntFrom.of(run)
    if learnt is None:
        return False
    known = sum(learnt.holds(item, data, sha256) for item in data.items)
    if known:
        raise DataError(
            f"{known} of {len(data.items)} frames show what this bundle learnt from, the same "
            f"picture or the same part, so a number would mean nothing: give "
            f"{run.split / 'test.jsonl'}, or data of other parts"
        )
    return True


def _origin(item: Item, data: DataSet) -> Path:
    """Find the file that the pixels came from: a recording may have been made of pictures."""
    if isinstance(data, RecordingSet):
        source = Path(data.labels[item.key].source)
        return source.resolve() if source.is_file() else item.source.resolve()
    return item.source.resolve()


def _place(line: Mapping[str, object]) -> str:
    """Name the folder of a picture, but a recording itself: its neighbours are other data."""
    file = Path(str(line["filename"]))
    return str(file.parent if _frame(line) is None else file)


def _frame(line: Mapping[str, object]) -> int | None:
    frame = line.get("frame")
    return frame if isinstance(frame, int) else None


def _lines(file: Path) -> list[dict[str, object]]:
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise DataError(
            f"{file}: damaged ({error}), so that nobody can tell what was learnt from: "
            f"train again with a new --out"
        ) from error
