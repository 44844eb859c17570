"""What a stream is worth: missing, full of holes, over-exposed, black, or well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from loupe_edge.sensor_health import SensorRule, sensor_health
from loupe_models.frame import Frame, Rect

REGION = Rect(16, 12, 64, 56)
RULE = SensorRule(min_depth_valid=0.5, max_saturated=0.3, max_black=0.8)


@pytest.fixture
def frame(make_frame: Callable[..., Frame]) -> Frame:
    return make_frame("good", streams=("rgb", "depth"))


def filled(frame: Frame, level: int, share: float) -> Frame:
    assert frame.rgb is not None
    rgb = frame.rgb.copy()
    rgb[12 : 12 + round(56 * share), 16:80] = level
    return replace(frame, rgb=rgb)


def test_a_good_frame_is_well(frame: Frame) -> None:
    assert sensor_health(frame, REGION, RULE) == {"rgb": "", "depth": ""}


@pytest.mark.parametrize(
    ("level", "share", "told"),
    [
        (255, 0.5, "colour over-exposed in 50% of the region"),
        (250, 0.5, "colour over-exposed in 50% of the region"),
        (249, 0.5, ""),
        (255, 0.2, ""),
        (0, 1.0, "colour black in 100% of the region"),
        (6, 1.0, ""),
        (0, 0.6, ""),
    ],
)
def test_colour_is_judged_by_its_share(frame: Frame, level: int, share: float, told: str) -> None:
    assert sensor_health(filled(frame, level, share), REGION, RULE)["rgb"] == told


def test_only_the_region_counts(frame: Frame) -> None:
    assert frame.rgb is not None
    rgb = np.full_like(frame.rgb, 255)
    rgb[12:68, 16:80] = 120
    assert sensor_health(replace(frame, rgb=rgb), REGION, RULE)["rgb"] == ""
    assert sensor_health(replace(frame, rgb=rgb), Rect(0, 0, 96, 80), RULE)["rgb"] != ""


def test_depth_is_judged_by_its_holes(frame: Frame) -> None:
    assert frame.depth is not None
    holes = frame.depth.copy()
    holes[12:52] = 0
    told = sensor_health(replace(frame, depth=holes), REGION, RULE)["depth"]
    assert told == "depth known for 29% of the region"


def test_what_is_missing_is_named(make_frame: Callable[..., Frame]) -> None:
    assert sensor_health(make_frame(streams=("rgb",)), REGION, RULE) == {
        "rgb": "",
        "depth": "no depth",
    }
    assert sensor_health(make_frame(streams=("depth",)), REGION, RULE) == {
        "rgb": "no colour",
        "depth": "",
    }


def test_a_region_beyond_the_frame_is_cut(frame: Frame) -> None:
    assert sensor_health(frame, Rect(90, 70, 500, 500), RULE)["depth"] == ""
