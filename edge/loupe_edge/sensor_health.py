"""What each stream of a frame is worth, before anybody looks for defects in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np
from pydantic import Field

from loupe_edge.camera_settings import Stream
from loupe_edge.depth_evidence import depth_valid_fraction
from loupe_models.checked import Checked
from loupe_models.frame import Frame, Rect

STRIDE: Final = 4  # over-exposure is a question of area: every fourth pixel answers it
WHITE_LEVEL: Final = 250  # all three channels at least so bright: nothing is left to see
BLACK_LEVEL: Final = 5  # all three channels at most so bright: noise

# Of each stream, what is wrong with it; empty where it is well.
SensorHealth = Mapping[Stream, str]


class SensorRule(Checked):
    """When a stream is not worth looking at; shares of the gate's region.

    Attributes:
        min_depth_valid: Least share of pixels with a depth.
        max_saturated: Largest share of pixels with every channel over-exposed.
        max_black: Largest share of pixels with every channel black.
    """

    min_depth_valid: float = Field(default=0.5, ge=0, le=1)
    max_saturated: float = Field(default=0.5, ge=0, le=1)
    max_black: float = Field(default=0.9, ge=0, le=1)


def sensor_health(frame: Frame, region: Rect, rule: SensorRule) -> SensorHealth:
    """Judge each stream in a region, which is cut to the frame."""
    width, height = frame.size_wh
    right = min(region.x_px + region.width_px, width)
    bottom = min(region.y_px + region.height_px, height)
    x, y = min(region.x_px, right - 1), min(region.y_px, bottom - 1)
    inside = Rect(x, y, right - x, bottom - y)
    return {"rgb": _colour(frame, inside, rule), "depth": _depth(frame, inside, rule)}


def _colour(frame: Frame, region: Rect, rule: SensorRule) -> str:
    if frame.rgb is None:
        return "no colour"
    x, y, width, height = region
    seen = np.ascontiguousarray(frame.rgb[y : y + height : STRIDE, x : x + width : STRIDE])
    n_pixels = seen.shape[0] * seen.shape[1]
    saturated = cv2.countNonZero(cv2.inRange(seen, (WHITE_LEVEL,) * 3, (255,) * 3)) / n_pixels
    if saturated > rule.max_saturated:
        return f"colour over-exposed in {saturated:.0%} of the region"
    black = cv2.countNonZero(cv2.inRange(seen, (0,) * 3, (BLACK_LEVEL,) * 3)) / n_pixels
    return f"colour black in {black:.0%} of the region" if black > rule.max_black else ""


def _depth(frame: Frame, region: Rect, rule: SensorRule) -> str:
    fraction = depth_valid_fraction(frame, region)
    if fraction is None:
        return "no depth"
    if fraction < rule.min_depth_valid:
        return f"depth known for {fraction:.0%} of the region"
    return ""
