"""Frames into a `.db3` recording, through the SDK's own software device and recorder."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import FaultError
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.errors import RecordingError
from loupe_edge.labels import label_lines, labels_path, masks_path
from loupe_edge.realsense import RECORDED_BY, SdkObject, from_intrinsics, from_transform, load_sdk
from loupe_edge.realsense import to_ns as sdk_ns
from loupe_edge.recording_file import open_read_only, stream_of
from loupe_models.frame import Label

MAX_IN_FLIGHT = 4  # the SDK's writer drops silently when more frames than it queues are waiting
WRITE_TIMEOUT_S = 10.0
POLL_S = 0.001


@dataclass(frozen=True, slots=True)
class Rig:
    """The streams of a recording.

    Attributes:
        rgb: Of the colour stream; None records no colour.
        depth: Of the depth stream; None records no depth.
        depth_scale_m: Metres per depth unit.
        rgb_from_depth: From the depth camera's optical frame to the colour camera's.
    """

    rgb: Intrinsics | None = None
    depth: Intrinsics | None = None
    depth_scale_m: float = 0.001
    rgb_from_depth: Transform = field(default_factory=Transform.identity)

    def __post_init__(self) -> None:
        if self.rgb is None and self.depth is None:
            raise RecordingError("a recording needs colour, depth, or both")


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
        self._folder = _hidden_folder(path)
        self._making = self._folder / path.name
        self._file = _WatchedFile(self._making)
        try:
            self._tap = _Tap(self._making, rig, fps)
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
            label: What is known of the frame; its `mask` is filled in.
            mask: Truth, (H, W) of the frame.

        Raises:
            RecordingError: A size or dtype that is not the rig's.
            FaultError: The file does not grow: the disk is full, or the recorder died.
        """
        self.n_frames += 1
        timestamp_ms = self.n_frames * 1000.0 / self.fps
        n_images = self._tap.push(self.n_frames, timestamp_ms, rgb, depth)
        self._file.expect(n_images)
        if label is not None:
            if mask is not None:
                label = replace(label, mask=self._write_mask(mask))
            self._labels.append((self.n_frames, sdk_ns(timestamp_ms), label))
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
        (self._folder / labels.name).write_text(label_lines(self._labels), encoding="utf-8")
        if masks.exists():
            shutil.rmtree(masks)
        if (self._folder / masks.name).exists():
            (self._folder / masks.name).rename(masks)
        (self._folder / labels.name).replace(labels)
        self._making.replace(self.path)


def _hidden_folder(path: Path) -> Path:
    """Make a place on the same disk as the recording, so that moving it there is one step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{path.stem}.", dir=path.parent))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written there: {error.strerror}") from error


class _Tap:
    """The software device whose frames the SDK records."""

    def __init__(self, path: Path, rig: Rig, fps: int) -> None:
        sdk = load_sdk()
        self._sdk = sdk
        self._rig = rig
        self._device = sdk.software_device()
        self._device.register_info(sdk.camera_info.name, RECORDED_BY)
        self._streams: dict[str, tuple[SdkObject, SdkObject]] = {}
        for name, intrinsics in (("depth", rig.depth), ("rgb", rig.rgb)):
            if intrinsics is not None:
                self._streams[name] = self._add_stream(name, intrinsics, fps)
        if len(self._streams) == 2:
            depth, rgb = self._streams["depth"][1], self._streams["rgb"][1]
            depth.register_extrinsics_to(rgb, from_transform(rig.rgb_from_depth))
        self._recorder = sdk.recorder(str(path), self._device)
        self._queue = sdk.frame_queue(1)
        self._open = self._recorder.query_sensors()
        for sensor in self._open:
            sensor.open(sensor.get_stream_profiles()[0])
            sensor.start(self._queue)

    def _add_stream(
        self, name: str, intrinsics: Intrinsics, fps: int
    ) -> tuple[SdkObject, SdkObject]:
        sdk = self._sdk
        is_depth = name == "depth"
        sensor = self._device.add_sensor("Depth" if is_depth else "Color")
        stream = sdk.video_stream()
        stream.type = sdk.stream.depth if is_depth else sdk.stream.color
        stream.fmt = sdk.format.z16 if is_depth else sdk.format.rgb8
        stream.bpp = 2 if is_depth else 3
        stream.uid, stream.index, stream.fps = int(not is_depth), 0, fps
        stream.width, stream.height = intrinsics.size_wh
        stream.intrinsics = from_intrinsics(intrinsics)
        if is_depth:
            sensor.add_read_only_option(sdk.option.depth_units, self._rig.depth_scale_m)
        return sensor, sensor.add_video_stream(stream)

    def push(
        self,
        number: int,
        timestamp_ms: float,
        rgb: npt.NDArray[np.uint8] | None,
        depth: npt.NDArray[np.uint16] | None,
    ) -> int:
        """Hand one exposure to the SDK; give how many images it should write."""
        given: dict[str, npt.NDArray[np.generic]] = {}
        if depth is not None:
            given["depth"] = _fitting("depth", depth, self._rig.depth, np.dtype(np.uint16))
        if rgb is not None:
            given["rgb"] = _fitting("rgb", rgb, self._rig.rgb, np.dtype(np.uint8))
        for name, pixels in given.items():
            self._push(name, pixels, number, timestamp_ms)
        return len(given)

    def _push(
        self, name: str, pixels: npt.NDArray[np.generic], number: int, timestamp_ms: float
    ) -> None:
        sensor, profile = self._streams[name]
        frame = self._sdk.software_video_frame()
        frame.pixels = pixels
        frame.bpp = pixels.strides[1]
        frame.stride = pixels.strides[0]
        frame.timestamp = timestamp_ms
        frame.domain = self._sdk.timestamp_domain.hardware_clock
        frame.frame_number = number
        frame.profile = profile.as_video_stream_profile()
        if name == "depth":
            frame.depth_units = self._rig.depth_scale_m
        sensor.on_video_frame(frame)

    def close(self) -> None:
        """Stop the streams and let the SDK finish the file; safe to call twice."""
        for sensor in self._open:
            sensor.stop()
            sensor.close()
        self._open = []
        self._recorder = self._queue = None
        self._streams = {}
        self._device = None
        gc.collect()  # the SDK closes the file when its last reference goes


def _fitting(
    name: str,
    pixels: npt.NDArray[np.generic],
    lens: Intrinsics | None,
    dtype: np.dtype[np.generic],
) -> npt.NDArray[np.generic]:
    """Check pixels: the SDK reads as many bytes as the profile says, whatever it is given."""
    if lens is None:
        raise RecordingError(f"{name} was given, but the recording's rig has no {name}")
    shape = (*lens.size_wh[::-1], 3) if name == "rgb" else lens.size_wh[::-1]
    if pixels.shape != shape or pixels.dtype != dtype:
        raise RecordingError(
            f"{name} is {pixels.shape} {pixels.dtype}, the recording's is {shape} {dtype}"
        )
    return np.ascontiguousarray(pixels)


class _WatchedFile:
    """Counts the images that have reached the SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._n_expected = 0
        self._n_seen = 0
        self._last_id = 0

    def expect(self, n_images: int) -> None:
        """Note what was handed over, and wait until only the last few are still on their way."""
        self._n_expected += n_images
        began = time.monotonic()
        while self._n_expected - self._count() > MAX_IN_FLIGHT:
            if time.monotonic() - began > WRITE_TIMEOUT_S:
                raise FaultError(
                    f"{self._path.name} stopped growing at {self._n_seen} of "
                    f"{self._n_expected} images: is the disk full?"
                )
            time.sleep(POLL_S)

    def check_complete(self) -> None:
        """Count once more, from the beginning.

        Raises:
            FaultError: An image is missing.
        """
        self._last_id = self._n_seen = 0
        if (n := self._count()) != self._n_expected:
            raise FaultError(
                f"{self._path.name} holds {n} of {self._n_expected} images: the recorder lost "
                f"some; record again on a quieter machine, or free some disk"
            )

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _count(self) -> int:
        if self._connection is None:
            self._connection = open_read_only(self._path)
        try:
            rows = self._connection.execute(
                "SELECT m.id, t.name FROM messages m JOIN topics t ON t.id = m.topic_id "
                "WHERE m.id > ? ORDER BY m.id",
                (self._last_id,),
            ).fetchall()
        except sqlite3.Error:  # the tables are not there yet, or a write is under way
            return self._n_seen
        for row_id, topic in rows:
            self._last_id = row_id
            self._n_seen += stream_of(topic) is not None
        return self._n_seen
