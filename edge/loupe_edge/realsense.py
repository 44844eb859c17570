"""librealsense, loaded once, and its words turned into ours."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import Stream
from loupe_edge.errors import CameraError, RecordingError, StationError
from loupe_edge.pairing import Stamp
from loupe_models.frame import TimeDomain

# pyrealsense2 is a compiled module without stubs: its objects are opaque to the type checker.
SdkObject = Any

# Names our recordings carry, so that a reader knows their streams share one frame counter.
RECORDED_BY = "Loupe recorder"


@lru_cache(maxsize=1)
def load_sdk() -> ModuleType:
    """Import pyrealsense2, with a libusb of its own where the system has none.

    Raises:
        StationError: The `camera` extra is not installed.
    """
    try:
        if ctypes.util.find_library("usb-1.0") is None:
            libusb = importlib.import_module("libusb_package").get_library_path()
            ctypes.CDLL(str(libusb), mode=ctypes.RTLD_GLOBAL)
        sdk = importlib.import_module("pyrealsense2")
    except ImportError as error:
        raise StationError(
            f"cameras and recordings need librealsense ({error}): pip install 'loupe[camera]'"
        ) from error
    sdk.log_to_console(sdk.log_severity.none)
    return sdk


def to_intrinsics(given: SdkObject) -> Intrinsics:
    """Translate a stream's intrinsics.

    Raises:
        CameraError: A lens model that Loupe does not know.
    """
    sdk = load_sdk()
    models = {
        sdk.distortion.none: "none",
        sdk.distortion.brown_conrady: "brown_conrady",
        sdk.distortion.inverse_brown_conrady: "inverse_brown_conrady",
    }
    coeffs = tuple(float(c) for c in given.coeffs)
    if given.model not in models and any(coeffs):
        raise CameraError(f"the camera's lens model {given.model} is not one Loupe can deproject")
    k1, k2, p1, p2, k3 = coeffs
    return Intrinsics(
        width_px=given.width,
        height_px=given.height,
        fx_px=given.fx,
        fy_px=given.fy,
        cx_px=given.ppx,
        cy_px=given.ppy,
        distortion=models.get(given.model, "none"),  # type: ignore[arg-type]
        coeffs=(k1, k2, p1, p2, k3),
    )


def from_intrinsics(ours: Intrinsics) -> SdkObject:
    """Translate our intrinsics for the SDK."""
    sdk = load_sdk()
    made = sdk.intrinsics()
    made.width, made.height = ours.size_wh
    made.fx, made.fy = ours.fx_px, ours.fy_px
    made.ppx, made.ppy = ours.cx_px, ours.cy_px
    made.model = getattr(sdk.distortion, ours.distortion)
    made.coeffs = list(ours.coeffs)
    return made


def from_transform(ours: Transform) -> SdkObject:
    """Translate a rigid transform for the SDK, which stores rotations column by column."""
    made = load_sdk().extrinsics()
    made.rotation = np.asarray(ours.rotation).T.ravel().tolist()
    made.translation = list(ours.translation_m)
    return made


def to_transform(given: SdkObject) -> Transform:
    """Translate SDK extrinsics, whose rotations are stored column by column."""
    rotation = np.reshape(given.rotation, (3, 3)).T
    return Transform.from_matrix(np.column_stack([rotation, given.translation]))


def rgb_from_depth(recording: Path) -> Transform:
    """Read from a recording how its depth camera stands to its colour camera.

    Raises:
        RecordingError: It cannot be played, or does not say.
    """
    with _profiles(recording) as profiles:
        return to_transform(profiles["depth"].get_extrinsics_to(profiles["rgb"]))


def stream_size_wh(recording: Path, stream: Stream) -> tuple[int, int]:
    """Read from a recording how wide and high the images of a stream are, pixels.

    Raises:
        RecordingError: It cannot be played, or does not say.
    """
    with _profiles(recording) as profiles:
        profile = profiles[stream].as_video_stream_profile()
        return profile.width(), profile.height()


@contextmanager
def _profiles(recording: Path) -> Iterator[Mapping[Stream, SdkObject]]:
    """Give what a recording says of its streams, while the SDK holds it."""
    sdk = load_sdk()
    names: dict[SdkObject, Stream] = {sdk.stream.color: "rgb", sdk.stream.depth: "depth"}
    try:
        device = sdk.context().load_device(str(recording))
        yield {
            names[profile.stream_type()]: profile
            for sensor in device.query_sensors()
            for profile in sensor.get_stream_profiles()
            if profile.stream_type() in names
        }
    except (RuntimeError, KeyError) as error:
        raise RecordingError(
            f"{recording}: does not say how its streams lie ({error}); record it again"
        ) from error


def to_domain(given: SdkObject) -> TimeDomain:
    """Translate a frame's timestamp domain."""
    sdk = load_sdk()
    if given == sdk.timestamp_domain.hardware_clock:
        return "hardware"
    return "global" if given == sdk.timestamp_domain.global_time else "system"


def to_ns(timestamp_ms: float) -> int:
    """Turn the SDK's milliseconds into nanoseconds, at the microsecond that a double can hold."""
    return round(timestamp_ms * 1000) * 1000


def stream_of(image: SdkObject) -> Stream:
    """Tell colour from depth."""
    is_depth = image.get_profile().stream_type() == load_sdk().stream.depth
    return "depth" if is_depth else "rgb"


def stamp_of(image: SdkObject) -> Stamp:
    """Read an image's number and time."""
    return Stamp(
        number=int(image.get_frame_number()),
        ns=to_ns(image.get_timestamp()),
        domain=to_domain(image.get_frame_timestamp_domain()),
    )
