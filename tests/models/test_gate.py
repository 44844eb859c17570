"""Whole parts pass the gate, and nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_models.errors import FrameError
from loupe_models.frame import CameraTime, Frame, Label, Rect
from loupe_models.gate import GateSpec, gate

WIDTH, HEIGHT = 160, 120
LENS = Intrinsics(WIDTH, HEIGHT, 150.0, 150.0, 80.0, 60.0)
BELT = belt_from_camera((0, 0, -1), (0, 0, 0.6))
REGION = Rect(20, 10, 120, 100)
BY_COLOUR = {"by": "colour", "belt_rgb": (30, 30, 30)}
BY_HEIGHT = {"by": "height", "min_height_m": 0.004}


def spec(**fields: Any) -> GateSpec:
    return GateSpec.model_validate({"region_px": REGION, **fields})


def frame_with_part(x_px: int | None, width_px: int = 40) -> Frame:
    """A 50 px high, 10 mm thick grey part whose left edge is at `x_px`; None is the bare belt."""
    rgb = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    depth = np.full((HEIGHT, WIDTH), 600, np.uint16)
    if x_px is not None:
        part = (slice(35, 85), slice(max(0, x_px), max(0, x_px + width_px)))
        rgb[part], depth[part] = 120, 590
    return Frame(0, 0, CameraTime(0, "system"), rgb, depth, 0.001, LENS)


@pytest.mark.parametrize("occupied", [BY_COLOUR, BY_HEIGHT], ids=["colour", "height"])
@pytest.mark.parametrize(
    ("x_px", "is_inspected"),
    [
        (None, False),  # bare belt
        (60, True),  # in the middle
        (28, True),  # just inside
        (118, False),  # leaving: cut off by the region's right edge
        (2, False),  # arriving: cut off by the left edge
        (24, False),  # whole, but touching the strip that must be bare
        (-30, False),  # outside the region
    ],
)
def test_only_a_whole_part_is_inspected(
    occupied: dict[str, Any], x_px: int | None, is_inspected: bool
) -> None:
    rect = gate(frame_with_part(x_px), spec(occupied=occupied, clear_px=8), BELT)
    assert rect == (REGION if is_inspected else None)


def test_the_belts_holes_are_not_parts() -> None:
    frame = Frame(
        0, 0, CameraTime(0, "system"), depth=np.zeros((HEIGHT, WIDTH), np.uint16),
        depth_scale_m=0.001, intrinsics=LENS,
    )  # fmt: skip
    assert gate(frame, spec(occupied=BY_HEIGHT), BELT) is None


def test_without_a_test_of_occupancy_every_frame_passes() -> None:
    assert gate(frame_with_part(None), spec()) == REGION
    assert gate(frame_with_part(None), GateSpec()) == Rect(0, 0, WIDTH, HEIGHT)


def test_without_strips_a_part_at_the_border_passes() -> None:
    assert gate(frame_with_part(118), spec(occupied=BY_COLOUR)) == REGION


def test_the_labels_rectangle_wins() -> None:
    rect = Rect(1, 2, 30, 40)
    frame = frame_with_part(None).with_label(Label(rect_px=rect))
    assert gate(frame, spec(occupied=BY_COLOUR)) == rect
    unplaced = frame_with_part(None).with_label(Label(part_id="7"))
    assert gate(unplaced, spec(occupied=BY_COLOUR)) is None


@pytest.mark.parametrize("rect", [(0, 0, 161, 9), (0, 0, 9, 121), (155, 0, 9, 9)])
def test_a_region_outside_the_frame_is_an_error(rect: tuple[int, int, int, int]) -> None:
    with pytest.raises(FrameError, match="does not lie inside a 160x120 frame"):
        gate(frame_with_part(60), spec(region_px=rect))


@pytest.mark.parametrize("rect", [(-1, 0, 9, 9), (0, -1, 9, 9), (0, 0, 0, 9), (0, 0, 9, 10**40)])
def test_a_region_that_is_in_no_frame_is_no_region(rect: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValidationError, match="region_px"):
        spec(region_px=rect)


@pytest.mark.parametrize("rect", [(-1, 0, 9, 9), (0, 0, 161, 9), (0, 0, 0, 9)])
def test_a_label_outside_the_frame_is_an_error(rect: tuple[int, int, int, int]) -> None:
    with pytest.raises(FrameError, match="does not lie inside"):
        gate(frame_with_part(60).with_label(Label(rect_px=Rect(*rect))), GateSpec())


def test_strips_that_leave_no_room_are_an_error_not_an_empty_belt() -> None:
    with pytest.raises(FrameError, match="leaves no room"):
        gate(frame_with_part(60), spec(occupied=BY_COLOUR, clear_px=60))


def test_what_the_gate_needs_and_lacks_is_named() -> None:
    colour = Frame.from_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(FrameError, match="no depth"):
        gate(colour, spec(occupied=BY_HEIGHT), BELT)
    with pytest.raises(FrameError, match="belt plane"):
        gate(frame_with_part(60), spec(occupied=BY_HEIGHT))
    depth = Frame(
        0, 0, CameraTime(0, "system"), depth=np.ones((HEIGHT, WIDTH), np.uint16),
        depth_scale_m=0.001, intrinsics=LENS,
    )  # fmt: skip
    with pytest.raises(FrameError, match="by colour, but the frame has none"):
        gate(depth, spec(occupied=BY_COLOUR))


@pytest.mark.parametrize(
    "fields",
    [
        {"occupied": {"by": "colour", "belt_rgb": (0, 0, 256)}},
        {"occupied": {"by": "smell"}},
        {"min_fraction": 0.0},
        {"min_fraction": float("nan")},
        {"clear_px": -1},
        {"regoin_px": (0, 0, 1, 1)},
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**fields)
