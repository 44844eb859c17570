"""The SDK's own software device and recorder: images in, a `.db3` out."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.errors import RecordingError
from loupe_edge.realsense import RECORDED_BY, SdkObject, from_intrinsics, from_transform, load_sdk


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


class Tap:
    """A software device whose images the SDK's recorder writes.

    Raises:
        RuntimeError: The SDK cannot write there.
    """

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
