"""What is known of a recording: labels, masks and belt, `NAME.*` beside `NAME.db3`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from loupe_edge.camera_settings import Stream
from loupe_edge.errors import RecordingError
from loupe_models.checked import Checked
from loupe_models.frame import Label
from loupe_models.strict_json import loads


class LabelLine(Checked):
    """One line of the file: a frame's number and stamp, and what is known of it."""

    frame: int
    camera_ns: int
    label: Label


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels by frame number and the camera's time; a stale labels file matches nothing."""

    by_frame: Mapping[tuple[int, int], Label]

    def get(self, frame_id: int, camera_ns: int) -> Label | None:
        """Give what is known of a frame; both its number and its time must match."""
        return self.by_frame.get((frame_id, camera_ns))

    def __len__(self) -> int:
        """Count the labelled frames."""
        return len(self.by_frame)


def labels_path(recording: Path) -> Path:
    """Give the place of a recording's labels."""
    return recording.with_suffix(".labels.jsonl")


def masks_path(recording: Path) -> Path:
    """Give the folder of a recording's truth masks."""
    return recording.with_suffix(".masks")


def belt_path(recording: Path) -> Path:
    """Give the place of a recording's belt, `belt_from_camera` as JSON."""
    return recording.with_suffix(".belt.json")


def read_labels(recording: Path) -> Labels:
    """Read a recording's labels; none where there is no labels file.

    Raises:
        RecordingError: A line is not a label, or a frame has two.
    """
    path = labels_path(recording)
    if not path.is_file():
        return Labels({})
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: not readable labels ({error}); record again") from error
    by_frame: dict[tuple[int, int], Label] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = LabelLine.model_validate(loads(line))
        except (ValueError, ValidationError) as error:
            raise RecordingError(f"{path}:{number}: not a label ({error}); record again") from error
        if (entry.frame, entry.camera_ns) in by_frame:
            raise RecordingError(
                f"{path}:{number}: frame {entry.frame} is labelled twice; keep the true line"
            )
        by_frame[entry.frame, entry.camera_ns] = entry.label
    return Labels(by_frame)


def require_every_label(recording: Path, labels: Labels, n_images: Mapping[Stream, int]) -> None:
    """Make sure that a labels file is whole; that there is none is no fault.

    Raises:
        RecordingError: It labels fewer frames than the recording has.
    """
    path, n_frames = labels_path(recording), n_images["rgb"] or n_images["depth"]
    if len(labels) < n_frames and path.is_file():
        raise RecordingError(
            f"{path}: labels {len(labels)} of the recording's {n_frames} frames; copy it again, "
            f"or delete it: then nothing is known of the parts, and the gate says where they are"
        )


def read_mask(recording: Path, label: Label) -> npt.NDArray[np.bool_] | None:
    """Read a label's truth mask: (H, W) of the whole frame, or None where it has none.

    Raises:
        RecordingError: The mask is named but missing, outside its folder, or no picture.
    """
    if label.mask is None:
        return None
    path = recording.parent / label.mask
    if masks_path(recording).resolve() not in path.resolve().parents:
        raise RecordingError(f"{labels_path(recording)}: mask {label.mask} lies outside its folder")
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise RecordingError(f"{path}: missing or not a picture; copy the recording's masks too")
    return np.asarray(mask > 127)


def label_lines(entries: Iterable[tuple[int, int, Label]]) -> str:
    """Write labels as the file holds them.

    Args:
        entries: Frame number, camera nanoseconds, label.
    """
    lines = [LabelLine(frame=frame, camera_ns=ns, label=label) for frame, ns, label in entries]
    return "".join(line.model_dump_json() + "\n" for line in lines)
