"""The one camera: a real librealsense pipeline, live by serial number or from a recording."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import LoupeError
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.registration import Registration
from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.errors import CameraError, EndOfRecordingError, RecordingError, StationError
from loupe_edge.exposures import Images, Sets, Shot, Source
from loupe_edge.labels import Labels, read_labels, require_every_label
from loupe_edge.loose_pairing import OTHER
from loupe_edge.pairing import CameraCounters, sync_of
from loupe_edge.realsense import RECORDED_BY, SdkObject, load_sdk, to_intrinsics, to_transform
from loupe_edge.recording_file import Contents, read_contents
from loupe_models.frame import CameraTime, Frame

POLL_MS = 50
DEAD_END_POLLS = 4  # a recording that has stopped delivers what is left within this many polls
RAGGED_FRAMES = 2  # streams do not stop at the same instant, so their ends differ a little
LOCK_STEP_PATIENCE_S = 15.0  # no camera is silent there, the machine is busy


class RealSenseCamera:
    """Frames of one camera or one recording; pixels are copied once, so nothing is held back.

    A recording is read in lock-step, every frame once and in order, unless its settings ask for
    real time. With `record_to`, the SDK writes what a live camera sends into a `.db3` as well.

    Every frame has every stream of the settings, unless `required` names fewer: then a frame has
    those, and of the others what there is; with none required it has at least one (decisions/0010).
    """

    def __init__(
        self,
        settings: CameraSettings,
        record_to: Path | None = None,
        required: Collection[Stream] | None = None,
    ) -> None:
        self.settings = settings
        self._required = frozenset(settings.streams if required is None else required)
        self._record_to = record_to
        self._sdk = load_sdk()
        self._source: Source | None = None
        self._ready: deque[Shot] = deque()
        self._counted = CameraCounters()  # by the sources that are closed
        self._registration: Registration | None = None
        self._labels = Labels({})
        self._contents: Contents | None = None
        self._intrinsics: Intrinsics | None = None
        self._depth_scale_m: float | None = None
        self._has_complained = False
        self._is_ours = False

    @property
    def counters(self) -> CameraCounters:
        """What was counted so far, over all openings."""
        counted, source = self._counted, self._source
        return counted if source is None else counted + source.counters

    def open(self) -> None:
        """Start the streams, in bounded time.

        Raises:
            CameraError: No such camera, or it did not start in time.
            RecordingError: The recording is missing, damaged, or lacks a required stream.
            StationError: Colour and depth have two grids, and the settings forbid to align them.
        """
        if self._source is not None:
            raise CameraError("the camera is open already")
        self._has_complained = False
        self._ready.clear()
        self._read_recording()
        source = self._make_source()
        profile = source.start()
        self._source = source
        try:
            self._learn(source, profile)
        except RuntimeError as error:
            self.close()
            raise CameraError(f"{self._name}: the SDK cannot describe it ({error})") from error
        except LoupeError:
            self.close()
            raise
        source.play()

    def read(self) -> Frame:
        """Wait for the next exposure that has every required stream.

        Raises:
            CameraError: Nothing came in time, a stream is dead, or the streams are out of step.
                The camera stays open: the next call tries again.
            RecordingError: The recording is damaged: not every image in it could be read.
            EndOfRecordingError: The recording is over.
        """
        source = self._source
        if source is None:
            raise CameraError("the camera is not open")
        deadline = time.monotonic() + self._patience_s
        n_empty = 0
        while not self._ready:
            shots = source.poll(POLL_MS)
            self._ready.extend(shots or ())
            n_empty = n_empty + 1 if shots is None else 0
            if n_empty and source.is_over():
                if n_empty >= DEAD_END_POLLS:
                    self._ready.extend(source.rest())
                    if not self._ready:
                        self._end(source)
            elif not self._ready and time.monotonic() > deadline:
                wanted = " and ".join(sorted(self._required)) or " or ".join(self.settings.streams)
                raise CameraError(f"no {wanted} for {self._patience_s} s")
        return self._frame(self._ready.popleft())

    def close(self) -> None:
        """Stop the streams; safe to call twice.

        Raises:
            CameraError: The SDK hangs in stopping; only the end of the process helps.
        """
        source, counted = self._source, self.counters
        self._source, self._counted = None, counted
        self._ready.clear()  # images go back to the SDK before it stops
        if source is not None:
            source.stop()

    def _make_source(self) -> Source:
        if self._required == set(self.settings.streams):
            return Sets(self.settings, self._record_to)
        return Images(self.settings, self._required)

    def _read_recording(self) -> None:
        path = self.settings.recording
        if path is None:
            return
        self._contents = read_contents(path)
        n_images = self._contents.n_images
        missing = [name for name in self.settings.streams if name in self._required]
        missing = [name for name in missing if not n_images[name]]
        if missing or not any(n_images[name] for name in self.settings.streams):
            missing = missing or list(self.settings.streams)
            held = " and ".join(name for name, n in n_images.items() if n) or "no image"
            raise RecordingError(f"{path}: holds {held}, but {' and '.join(missing)} is required")
        self._labels = read_labels(path)
        require_every_label(path, self._labels, n_images)

    def _learn(self, source: Source, profile: SdkObject) -> None:
        """Read from the started device what every frame shares."""
        sdk, device = self._sdk, profile.get_device()
        kinds: dict[SdkObject, Stream] = {sdk.stream.color: "rgb", sdk.stream.depth: "depth"}
        profiles = {
            kinds[p.stream_type()]: p.as_video_stream_profile()
            for p in profile.get_streams()
            if p.stream_type() in kinds
        }
        there = [name for name in self.settings.streams if name in profiles and self._has(name)]
        self._require(there)
        if "rgb" in there and profiles["rgb"].format() != sdk.format.rgb8:
            raise RecordingError(
                f"{self._name}: colour is stored as {profiles['rgb'].format()}; record it with "
                f"`loupe-edge record`, which stores rgb8"
            )
        self._is_ours = device.get_info(sdk.camera_info.name) == RECORDED_BY
        fps = min(profiles[name].fps() for name in there)
        source.expect(fps, 0 if self._is_ours else None)
        self._intrinsics = to_intrinsics(profiles[self._main].intrinsics)
        self._registration = None
        if "depth" in there:
            self._depth_scale_m = float(device.first_depth_sensor().get_depth_scale())
            if "rgb" in there:
                self._learn_grid(profiles["rgb"], profiles["depth"], self._depth_scale_m)

    def _has(self, name: Stream) -> bool:
        """Whether any image of a stream can come; what it is in relation to others is else lost."""
        return self._contents is None or self._contents.n_images[name] > 0

    def _require(self, there: Collection[Stream]) -> None:
        """Depth may be missing for good; without colour's lens nobody knows where depth belongs."""
        if missing := sorted((self._required | {self._main}) - set(there)):
            raise RecordingError(
                f"{self._name}: holds no {' and no '.join(missing)} at all; give one that does, or "
                f"a station that asks for less in camera.streams"
            )

    def _learn_grid(self, rgb: SdkObject, depth: SdkObject, depth_scale_m: float) -> None:
        grids = to_intrinsics(depth.intrinsics), to_intrinsics(rgb.intrinsics)
        rgb_from_depth = to_transform(depth.get_extrinsics_to(rgb))
        if grids[0] == grids[1] and np.allclose(rgb_from_depth.matrix(), np.eye(4), atol=1e-9):
            return
        if not self.settings.align:
            raise StationError(
                f"{self._name}: colour and depth have different grids: set camera.align = true, "
                f"or require one stream only"
            )
        self._registration = Registration(*grids, rgb_from_depth, depth_scale_m)

    def _frame(self, shot: Shot) -> Frame:
        """Make a frame of one exposure; depth lies on colour's grid whether colour came or not."""
        rgb, depth = shot.get("rgb"), shot.get("depth")
        main = shot.get(self._main) or next(iter(shot.values()))
        # np.array copies: a view would hold the SDK's buffer, of which there are few.
        return Frame(
            frame_id=main.stamp.number,
            captured_at_ns=time.time_ns(),
            camera_time=CameraTime(main.stamp.ns, main.stamp.domain),
            rgb=np.array(rgb.image.get_data(), np.uint8) if rgb else None,
            depth=self._depth(depth.image) if depth else None,
            depth_scale_m=self._depth_scale_m,
            intrinsics=self._intrinsics,
            sync=sync_of(rgb.stamp, depth.stamp) if rgb and depth else None,
            label=self._labels.get(main.stamp.number, main.stamp.ns),
        )

    def _depth(self, image: SdkObject) -> npt.NDArray[np.uint16]:
        view = np.asarray(image.get_data(), np.uint16)
        return view.copy() if self._registration is None else self._registration.apply(view)

    def _end(self, source: Source) -> None:
        """Say how the recording ended: whole, with a stream dead before its end, or damaged."""
        contents = self._contents
        if contents is not None and not self._has_complained:
            self._has_complained = True
            if not self.settings.real_time:
                self._require_all_read(contents, source)
            self._require_all_alive(contents)
        raise EndOfRecordingError("the recording is over")

    def _require_all_read(self, contents: Contents, source: Source) -> None:
        """Refuse a file that the SDK could not read to its end.

        The SDK holds back images at the end that have no partner, and a live camera's streams
        start one after the other: only where every stream lacks more did the reading stop early.
        """
        n_images = contents.n_images
        n_unread = {
            name: n_images[name] - source.n_seen.get(name, 0) for name in self.settings.streams
        }
        is_even = len({n for n in n_images.values() if n}) == 1
        is_strict = self._is_ours and is_even and not source.counters.mixed_framesets
        is_strict |= isinstance(source, Images)  # which holds nothing back
        n_held = {"rgb": 0, "depth": 0} if is_strict else contents.n_alone
        if all(n > n_held[name] for name, n in n_unread.items()):
            told = [f"{n} of {n_images[name]} {name}" for name, n in n_unread.items()]
            raise RecordingError(
                f"{self._name}: damaged, {' and '.join(told)} images cannot be read; copy it "
                f"again or record again"
            )

    def _require_all_alive(self, contents: Contents) -> None:
        for name in self._required:
            other = OTHER[name]
            if contents.n_alone[other] > RAGGED_FRAMES:
                raise CameraError(
                    f"no {name} at the end of the recording, where {contents.n_alone[other]} "
                    f"{other} images follow its last: stream dead"
                )

    @property
    def _main(self) -> Stream:
        return "rgb" if "rgb" in self.settings.streams else "depth"

    @property
    def _name(self) -> str:
        return str(self.settings.recording or f"camera {self.settings.serial}")

    @property
    def _patience_s(self) -> float:
        is_lock_step = self.settings.recording is not None and not self.settings.real_time
        least_s = LOCK_STEP_PATIENCE_S if is_lock_step else 0.0
        return max(self.settings.read_timeout_s, least_s)
