"""Is there something to inspect, and where? A fixed region with an occupancy test."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from loupe_calibration.deproject import ray_table
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_models.checked import Checked
from loupe_models.errors import FrameError
from loupe_models.frame import Frame, Rect

STRIDE = 4  # occupancy is a question of area: every fourth pixel answers it

Channel = Annotated[int, Field(ge=0, le=255)]


class ByColour(Checked):
    """A pixel is occupied when it differs from the bare belt's colour."""

    by: Literal["colour"] = "colour"
    belt_rgb: tuple[Channel, Channel, Channel]
    min_contrast: int = Field(default=40, ge=1, le=255)


class ByHeight(Checked):
    """A pixel is occupied when it stands above the station's belt plane."""

    by: Literal["height"] = "height"
    min_height_m: float = Field(default=0.004, gt=0)


Occupied = Annotated[ByColour | ByHeight, Field(discriminator="by")]


class GateSpec(Checked):
    """Where parts are looked at, and what counts as a part being there.

    Attributes:
        region_px: Fixed region of the frame; None is the whole frame.
        occupied: How a pixel is told from the bare belt; None passes every frame.
        min_fraction: Least occupied share of the region.
        clear_px: Width of the strips at the region's left and right edge that must be bare, so
            that a part is inspected only when it lies wholly inside. 0 asks nothing.
    """

    region_px: Rect | None = None
    occupied: Occupied | None = None
    min_fraction: float = Field(default=0.05, gt=0, lt=1)
    clear_px: int = Field(default=0, ge=0)

    @property
    def warning(self) -> str | None:
        """What to think about before parts pass: a gate that is the whole frame finds no part."""
        if self.region_px is not None:
            return None
        bare = "" if self.occupied else ", and gate.occupied, without which a bare belt is one too"
        return (
            f"the gate is the whole frame: unless a part fills it, what is around the part is "
            f"inspected like the part; in the recipe (not at the station) set "
            f"gate.region_px{bare}, and train anew"
        )


def gate(frame: Frame, spec: GateSpec, belt_from_camera: Transform | None = None) -> Rect | None:
    """Find the region to inspect.

    A rectangle in the frame's label wins: the recording knows where the part is.

    Args:
        frame: The exposure.
        spec: From the bundle's manifest, or the station's override.
        belt_from_camera: The station's belt; required where the gate works by height.

    Returns:
        The region, wholly inside the frame, or None where there is no whole part to inspect.

    Raises:
        FrameError: The region lies outside the frame, or the stream it needs is missing.
    """
    if frame.label is not None and frame.label.rect_px is not None:
        return _inside(frame.label.rect_px, frame)
    region = _inside(spec.region_px or Rect(0, 0, *frame.size_wh), frame)
    if spec.occupied is None:
        return region
    if 2 * spec.clear_px >= region.width_px:
        raise FrameError(
            f"clear_px = {spec.clear_px} leaves no room in a region {region.width_px} px wide"
        )
    occupied = _occupied(frame, region, spec.occupied, belt_from_camera)
    strip = -(-spec.clear_px // STRIDE)
    edges = (occupied[:, :strip], occupied[:, -strip:]) if strip else ()
    if occupied.mean() < spec.min_fraction:
        return None
    if any(edge.mean() > spec.min_fraction / 4 for edge in edges):
        return None
    return region


def _inside(rect: Rect, frame: Frame) -> Rect:
    width, height = frame.size_wh
    fits = (
        rect.x_px >= 0
        and rect.y_px >= 0
        and rect.width_px > 0
        and rect.height_px > 0
        and rect.x_px + rect.width_px <= width
        and rect.y_px + rect.height_px <= height
    )
    if not fits:
        raise FrameError(f"region {tuple(rect)} does not lie inside a {width}x{height} frame")
    return rect


def _occupied(
    frame: Frame, region: Rect, how: ByColour | ByHeight, belt_from_camera: Transform | None
) -> npt.NDArray[np.bool_]:
    x, y, width, height = region
    window = (slice(y, y + height, STRIDE), slice(x, x + width, STRIDE))
    if isinstance(how, ByColour):
        if frame.rgb is None:
            raise FrameError("the gate works by colour, but the frame has none")
        # Bare is within the contrast in every channel; OpenCV asks that in one pass.
        seen = np.ascontiguousarray(frame.rgb[window])
        return np.asarray(cv2.inRange(seen, *_bare(how)) == 0)
    if frame.depth is None or frame.intrinsics is None or frame.depth_scale_m is None:
        raise FrameError("the gate works by height, but the frame has no depth")
    if belt_from_camera is None:
        raise FrameError("the gate works by height: give the station's belt plane")
    depth = frame.depth[window]
    metres = depth.astype(np.float32) * np.float32(frame.depth_scale_m)
    rise = _rise(frame.intrinsics, belt_from_camera, region)
    height_m = rise * metres + np.float32(belt_from_camera.translation_m[2])
    return np.asarray((depth > 0) & (height_m >= how.min_height_m))


@lru_cache(maxsize=8)
def _bare(how: ByColour) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Give the lowest and the highest bare colour, which the next frame shares."""
    belt = np.asarray(how.belt_rgb, np.int16)
    low = np.clip(belt - how.min_contrast + 1, 0, 255)
    high = np.clip(belt + how.min_contrast - 1, 0, 255)
    return low.astype(np.uint8), high.astype(np.uint8)


@lru_cache(maxsize=8)
def _rise(
    intrinsics: Intrinsics, belt_from_camera: Transform, region: Rect
) -> npt.NDArray[np.float32]:
    """Give how far a point rises above the belt for a metre of depth, at every fourth pixel."""
    x, y, width, height = region
    rays = ray_table(intrinsics)[y : y + height : STRIDE, x : x + width : STRIDE]
    return rays @ np.asarray(belt_from_camera.rotation[2], np.float32)
