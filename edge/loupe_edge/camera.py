"""The one camera: a real librealsense pipeline, live by serial number or from a recording."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import CameraError, EndOfRecordingError, RecordingError
from loupe_edge.labels import Labels, read_labels
from loupe_edge.pairing import CameraCounters, Pairing, Stamp
from loupe_edge.realsense import (
    RECORDED_BY,
    SdkObject,
    is_identity,
    load_sdk,
    to_domain,
    to_intrinsics,
    to_ns,
)
from loupe_models.frame import CameraTime, Frame

POLL_MS = 50
DEAD_END_POLLS = 4  # a recording that has stopped delivers what is left within this many polls


class RealSenseCamera:
    """Frames of one camera or one recording; pixels are copied once, so nothing is held back.

    A recording is read in lock-step, every frame once and in order, unless its settings ask for
    real time. With `record_to`, the SDK writes what a live camera sends into a `.db3` as well.
    """

    def __init__(self, settings: CameraSettings, record_to: Path | None = None) -> None:
        self.settings = settings
        self._record_to = record_to
        self._sdk = load_sdk()
        self._pipeline: SdkObject = None
        self._playback: SdkObject = None
        self._align: SdkObject = None
        self._labels = Labels({})
        self._intrinsics: Intrinsics | None = None
        self._depth_scale_m: float | None = None
        self._pairing = Pairing(settings.streams, settings.fps)
        self._began_ns: int | None = None

    @property
    def counters(self) -> CameraCounters:
        """What was counted since `open`."""
        return self._pairing.counters

    def open(self) -> None:
        """Start the streams, in bounded time.

        Raises:
            CameraError: No such camera, or it did not start in time.
            RecordingError: The recording is missing, damaged, or lacks a required stream.
        """
        self._began_ns = None
        pipeline, profile = self._start()
        self._pipeline = pipeline
        try:
            self._learn(profile)
            if self._playback is not None:
                # The SDK's resume waits until a first frame is taken, so it cannot be waited for.
                threading.Thread(target=self._playback.resume, daemon=True).start()
        except (CameraError, RecordingError):
            self.close()
            raise

    def read(self) -> Frame:
        """Wait for the next exposure that has every required stream.

        Raises:
            CameraError: Nothing came in time, a stream is dead, or the streams are out of step.
                The camera stays open: the next call tries again.
            EndOfRecordingError: The recording is over.
        """
        if self._pipeline is None:
            raise CameraError("the camera is not open")
        deadline = time.monotonic() + self.settings.read_timeout_s
        n_empty = 0
        while True:
            arrived, frameset = self._pipeline.try_wait_for_frames(POLL_MS)
            if arrived:
                frame = self._take(frameset)
                if frame is not None:
                    return self._wait_until_due(frame)
                continue
            n_empty += 1
            if self._is_over() and n_empty >= DEAD_END_POLLS:
                raise EndOfRecordingError("the recording is over")
            if time.monotonic() > deadline and not self._is_over():
                wanted = " or ".join(self.settings.streams)
                raise CameraError(f"no {wanted} for {self.settings.read_timeout_s} s")

    def close(self) -> None:
        """Stop the streams; safe to call twice. The SDK's stop may hang: callers watch the time."""
        pipeline, self._pipeline = self._pipeline, None
        self._playback = self._align = None
        if pipeline is not None:
            pipeline.stop()

    def _start(self) -> tuple[SdkObject, SdkObject]:
        """Start in a thread of its own: without a camera the SDK blocks for 15 s."""
        config = self._config()
        pipeline = self._sdk.pipeline()
        outcome: list[SdkObject | RuntimeError] = []

        def start() -> None:
            try:
                self._load(config, pipeline)
                outcome.append(pipeline.start(config))
            except RuntimeError as error:
                outcome.append(error)

        thread = threading.Thread(target=start, name="camera-start", daemon=True)
        thread.start()
        thread.join(self.settings.start_timeout_s)
        what = self.settings.recording or f"camera {self.settings.serial}"
        if not outcome:
            raise CameraError(f"{what} did not start within {self.settings.start_timeout_s} s")
        if isinstance(outcome[0], RuntimeError):
            reason = str(outcome[0]).strip()
            if self.settings.recording is not None:
                raise RecordingError(
                    f"{what}: not a whole recording, or without {self._wanted()} "
                    f"({reason}); record it again"
                ) from outcome[0]
            raise CameraError(f"{what}: {reason}") from outcome[0]
        return pipeline, outcome[0]

    def _load(self, config: SdkObject, pipeline: SdkObject) -> None:
        """Hold the player until every stream is started: it waits for none of them."""
        if self.settings.recording is not None:
            device = config.resolve(self._sdk.pipeline_wrapper(pipeline)).get_device()
            self._playback = device.as_playback()
            self._playback.set_real_time(False)  # `_wait_until_due` paces
            self._playback.pause()

    def _config(self) -> SdkObject:
        config = self._sdk.config()
        path = self.settings.recording
        if path is not None:
            if not path.is_file():
                raise RecordingError(f"{path}: no such recording")
            config.enable_device_from_file(str(path), repeat_playback=False)
            return config
        serial = self.settings.serial or ""
        found = [
            d.get_info(self._sdk.camera_info.serial_number) for d in self._sdk.context().devices
        ]
        if serial not in found:
            raise CameraError(
                f"camera {serial} is not connected ({', '.join(found) or 'no camera'} found): "
                f"check cable and serial number"
            )
        config.enable_device(serial)
        size = (self.settings.width_px, self.settings.height_px)
        kinds = {"rgb": (self._sdk.stream.color, self._sdk.format.rgb8),
                 "depth": (self._sdk.stream.depth, self._sdk.format.z16)}  # fmt: skip
        for name in self.settings.streams:
            kind, pixels = kinds[name]
            config.enable_stream(kind, *size, pixels, self.settings.fps)
        if self._record_to is not None:
            config.enable_record_to_file(str(self._record_to))
        return config

    def _learn(self, profile: SdkObject) -> None:
        """Read from the started device what every frame shares."""
        sdk, device = self._sdk, profile.get_device()
        kinds = {sdk.stream.color: "rgb", sdk.stream.depth: "depth"}
        profiles = {
            kinds[p.stream_type()]: p.as_video_stream_profile()
            for p in profile.get_streams()
            if p.stream_type() in kinds
        }
        if missing := [name for name in self.settings.streams if name not in profiles]:
            raise RecordingError(
                f"{self.settings.recording}: has {' and '.join(sorted(profiles)) or 'no stream'}, "
                f"but {' and '.join(missing)} is required"
            )
        if "rgb" in profiles and profiles["rgb"].format() != sdk.format.rgb8:
            raise RecordingError(
                f"{self.settings.recording}: colour is stored as {profiles['rgb'].format()}; "
                f"record it with `loupe-edge record`, which stores rgb8"
            )
        fps = min(profiles[name].fps() for name in self.settings.streams)
        is_ours = device.get_info(sdk.camera_info.name) == RECORDED_BY
        self._pairing = Pairing(self.settings.streams, fps, 0 if is_ours else None)
        self._intrinsics = to_intrinsics(profiles[self.settings.streams[0]].intrinsics)
        if "depth" in self.settings.streams:
            self._depth_scale_m = float(np.float32(device.first_depth_sensor().get_depth_scale()))
        if len(self.settings.streams) > 1:
            self._learn_grid(profiles)
        if self.settings.recording is not None:
            self._labels = read_labels(self.settings.recording)

    def _learn_grid(self, profiles: dict[str, SdkObject]) -> None:
        rgb, depth = profiles["rgb"], profiles["depth"]
        self._intrinsics = to_intrinsics(rgb.intrinsics)
        shares_grid = to_intrinsics(depth.intrinsics) == self._intrinsics
        if not (shares_grid and is_identity(depth.get_extrinsics_to(rgb))):
            self._align = self._sdk.align(self._sdk.stream.color)

    def _take(self, frameset: SdkObject) -> Frame | None:
        """Make a frame of a set of images, or nothing where they are not one new exposure."""
        images = {"rgb": frameset.get_color_frame(), "depth": frameset.get_depth_frame()}
        stamps: dict[str, Stamp] = {
            name: _stamp(images[name]) for name in self.settings.streams if images[name]
        }
        if not self._pairing.judge(stamps):
            return None
        if self._align is not None:
            images["depth"] = self._align.process(frameset).get_depth_frame()
        main = stamps[self._main]
        # np.array copies: a view would hold the SDK's buffer, of which there are few.
        return Frame(
            frame_id=main.number,
            captured_at_ns=time.time_ns(),
            camera_time=CameraTime(main.ns, main.domain),
            rgb=np.array(images["rgb"].get_data(), np.uint8) if "rgb" in stamps else None,
            depth=np.array(images["depth"].get_data(), np.uint16) if "depth" in stamps else None,
            depth_scale_m=self._depth_scale_m,
            intrinsics=self._intrinsics,
            sync=self._pairing.sync(stamps),
            label=self._labels.get(main.number, main.ns),
        )

    def _wait_until_due(self, frame: Frame) -> Frame:
        """Pace a recording by its own stamps; the SDK would repeat how fast it was written."""
        if not self.settings.real_time:
            return frame
        if self._began_ns is None:
            self._began_ns = time.monotonic_ns() - frame.camera_time.ns
        wait_ns = self._began_ns + frame.camera_time.ns - time.monotonic_ns()
        time.sleep(max(0, wait_ns) / 1e9)
        return replace(frame, captured_at_ns=time.time_ns())

    @property
    def _main(self) -> str:
        return "rgb" if "rgb" in self.settings.streams else "depth"

    def _wanted(self) -> str:
        return " and ".join(self.settings.streams)

    def _is_over(self) -> bool:
        if self._playback is None:
            return False
        return bool(self._playback.current_status() == self._sdk.playback_status.stopped)


def _stamp(image: SdkObject) -> Stamp:
    return Stamp(
        number=int(image.get_frame_number()),
        ns=to_ns(image.get_timestamp()),
        domain=to_domain(image.get_frame_timestamp_domain()),
    )
