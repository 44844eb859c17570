"""Frames into a `.db3` recording that is complete, or not there at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from loupe_calibration.errors import FaultError
from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import Stream
from loupe_edge.claim import Claim
from loupe_edge.errors import RecordingError
from loupe_edge.labels import belt_path, label_lines, labels_path, masks_path
from loupe_edge.realsense import to_ns as sdk_ns
from loupe_edge.recording_file import set_times
from loupe_edge.tap import Rig, Tap
from loupe_edge.watched_file import WatchedFile
from loupe_models.atomic import write_bytes
from loupe_models.frame import Label
from loupe_models.png import write_png

__all__ = ["Recorder", "Rig"]

_BELT = TypeAdapter(Transform)


class Recorder:
    """Writes one recording with its labels; nothing is in place until `close` has counted it.

    The SDK's recorder loses frames without a word when it is fed faster than it writes. So each
    write waits until the file holds all but the last few frames, and `close` counts every image.

    Args:
        path: NAME.db3; labels and masks go beside it.
        rig: The streams.
        fps: What the recording says of itself.
        belt: `belt_from_camera` where it is known, for NAME.belt.json.

    Raises:
        RecordingError: The path does not end in `.db3`, anything of the recording is there
            already, or another process is writing it.
    """

    def __init__(self, path: Path, rig: Rig, fps: int = 30, belt: Transform | None = None) -> None:
        self.path = path
        self.rig = rig
        self.fps = fps
        self.n_frames = 0
        self._labels: list[tuple[int, int, Label]] = []
        self._is_labelled = False
        self._times_ns: dict[Stream, list[int]] = {"rgb": [], "depth": []}
        self._belt = belt
        self._claim = Claim(path)
        self._file = WatchedFile(self._claim.making)
        try:
            self._tap = Tap(self._claim.making, rig, fps)
        except RuntimeError as error:
            self._claim.give_up()
            raise FaultError(f"{path}: the SDK cannot record there ({error})") from error

    def write(
        self,
        rgb: npt.NDArray[np.uint8] | None = None,
        depth: npt.NDArray[np.uint16] | None = None,
        label: Label | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> int:
        """Write one exposure; give its frame number, counted from 1.

        A stream left out is an exposure that stream never made.

        Args:
            rgb: (H, W, 3) uint8 of the rig's size.
            depth: (H, W) uint16 of the rig's size, device units, 0 means no measurement.
            label: What is known of the frame; its `mask` is filled in. Once one frame has a
                label, every frame has a line in the file, so that a missing line is damage.
            mask: Truth, (H, W) of the frame.

        Raises:
            RecordingError: A size or dtype that is not the rig's.
            FaultError: The file does not grow: the disk is full, or the recorder died.
            OSError: The disk does not take the mask.
        """
        self.n_frames += 1
        timestamp_ms = self.n_frames * 1000.0 / self.fps
        self._file.expect(self._tap.push(self.n_frames, timestamp_ms, rgb, depth))
        time_ns = sdk_ns(timestamp_ms)
        self._times_ns["rgb"] += [time_ns] * (rgb is not None)
        self._times_ns["depth"] += [time_ns] * (depth is not None)
        self._is_labelled |= label is not None
        if label is not None and mask is not None:
            label = replace(label, mask=self._write_mask(mask))
        self._labels.append((self.n_frames, time_ns, label or Label()))
        return self.n_frames

    def close(self) -> None:
        """Finish the file, count its images, and move it into place with labels and masks.

        Raises:
            RecordingError: Nothing was written, or the name was taken meanwhile.
            FaultError: An image that was written is not in the file.
            OSError: The disk does not take the labels.
        """
        try:
            self._tap.close()
            if not self.n_frames:
                raise RecordingError(f"{self.path}: no frame was written, so nothing is kept")
            self._file.check_complete()
            self._file.close()
            set_times(self._claim.making, self._times_ns)
            self._write_labels()
            self._claim.put_in_place()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing behind; safe to call twice."""
        self._tap.close()
        self._file.close()
        self._claim.give_up()

    def __enter__(self) -> Recorder:
        """Start writing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the recording in place, or leave nothing where the writing failed."""
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _write_mask(self, mask: npt.NDArray[np.bool_]) -> str:
        relative = f"{masks_path(self.path).name}/{self.n_frames:06d}.png"
        write_png(self._claim.making.parent / relative, mask.astype(np.uint8) * 255)
        return relative

    def _write_labels(self) -> None:
        """Put what is known beside the recording; the disk is asked now, not in the background."""
        if self._is_labelled:
            labels = label_lines(self._labels).encode("utf-8")
            write_bytes(labels_path(self._claim.making), labels)
        if self._belt is not None:
            write_bytes(belt_path(self._claim.making), _BELT.dump_json(self._belt, indent=2))
