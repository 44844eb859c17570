"""Frames into a `.db3` recording that is complete, or not there at all."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import FaultError
from loupe_edge.camera_settings import Stream
from loupe_edge.errors import RecordingError
from loupe_edge.labels import label_lines, labels_path, masks_path
from loupe_edge.realsense import to_ns as sdk_ns
from loupe_edge.recording_file import set_times
from loupe_edge.tap import Rig, Tap
from loupe_edge.watched_file import WatchedFile
from loupe_models.frame import Label

__all__ = ["Recorder", "Rig"]


class Recorder:
    """Writes one recording with its labels; nothing is in place until `close` has counted it.

    The SDK's recorder loses frames without a word when it is fed faster than it writes. So each
    write waits until the file holds all but the last few frames, and `close` counts every image.

    Raises:
        RecordingError: The path does not end in `.db3` or is taken.
    """

    def __init__(self, path: Path, rig: Rig, fps: int = 30) -> None:
        if path.suffix != ".db3":
            raise RecordingError(f"{path}: a recording's name ends in .db3 (.bag is no more)")
        if path.exists():
            raise RecordingError(f"{path} exists; choose another name or remove it first")
        self.path = path
        self.rig = rig
        self.fps = fps
        self.n_frames = 0
        self._labels: list[tuple[int, int, Label]] = []
        self._is_labelled = False
        self._times_ns: dict[Stream, list[int]] = {"rgb": [], "depth": []}
        self._folder = _hidden_folder(path)
        self._making = self._folder / path.name
        self._file = WatchedFile(self._making)
        try:
            self._tap = Tap(self._making, rig, fps)
        except RuntimeError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
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
            RecordingError: Nothing was written.
            FaultError: An image that was written is not in the file.
        """
        try:
            self._tap.close()
            if not self.n_frames:
                raise RecordingError(f"{self.path}: no frame was written, so nothing is kept")
            self._file.check_complete()
            self._file.close()
            set_times(self._making, self._times_ns)
            self._move_into_place()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing behind; safe to call twice."""
        self._tap.close()
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

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
        target = self._folder / relative
        target.parent.mkdir(exist_ok=True)
        if not cv2.imwrite(str(target), mask.astype(np.uint8) * 255):
            raise FaultError(f"cannot write {target.name} in {self.path.parent}: is the disk full?")
        return relative

    def _move_into_place(self) -> None:
        """Move the recording last: where it stands, its labels and masks stand too."""
        masks, labels = masks_path(self.path), labels_path(self.path)
        if self._is_labelled:
            (self._folder / labels.name).write_text(label_lines(self._labels), encoding="utf-8")
        if masks.exists():
            shutil.rmtree(masks)
        if (self._folder / masks.name).exists():
            (self._folder / masks.name).rename(masks)
        labels.unlink(missing_ok=True)
        if self._is_labelled:
            (self._folder / labels.name).replace(labels)
        self._making.replace(self.path)


def _hidden_folder(path: Path) -> Path:
    """Make a place on the same disk as the recording, so that moving it there is one step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{path.stem}.", dir=path.parent))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written there: {error.strerror}") from error
