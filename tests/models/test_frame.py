"""A frame is right when it is made, or it is not made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loupe_calibration.intrinsics import Intrinsics
from loupe_models.errors import FrameError
from loupe_models.frame import CameraTime, Frame, Label

STAMP = CameraTime(1, "hardware")
RGB = np.zeros((4, 6, 3), np.uint8)
DEPTH = np.zeros((4, 6), np.uint16)
LENS = Intrinsics(6, 4, 5.0, 5.0, 3.0, 2.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "colour, depth, or both"),
        ({"rgb": RGB.astype(np.float32)}, "NxNx3 uint8, got .* float32"),
        ({"rgb": RGB[..., 0]}, "NxNx3 uint8"),
        ({"rgb": np.zeros((4, 6, 4), np.uint8)}, "NxNx3 uint8"),
        ({"rgb": RGB[:0]}, "NxNx3 uint8"),
        ({"depth": DEPTH}, "scale in metres"),
        ({"depth": DEPTH, "depth_scale_m": 0.0}, "scale in metres"),
        ({"depth": DEPTH, "depth_scale_m": float("nan")}, "scale in metres"),
        ({"depth": DEPTH, "depth_scale_m": 0.001}, "intrinsics of its grid"),
        ({"depth": DEPTH.astype(np.int32), "depth_scale_m": 0.001, "intrinsics": LENS}, "uint16"),
        ({"rgb": RGB[:, :5], "intrinsics": LENS}, "sizes differ: intrinsics 6x4, rgb 5x4"),
        (
            {"rgb": RGB[:3], "depth": DEPTH, "depth_scale_m": 0.001, "intrinsics": LENS},
            "sizes differ: depth 6x4, intrinsics 6x4, rgb 6x3",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        Frame(0, 0, STAMP, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"rgb": RGB},
        {"depth": DEPTH, "depth_scale_m": 0.001, "intrinsics": LENS},
        {"rgb": RGB, "depth": DEPTH, "depth_scale_m": 0.001, "intrinsics": LENS},
    ],
    ids=["colour only", "depth only", "both"],
)
def test_each_stream_is_optional_and_arrays_become_read_only(fields: dict[str, Any]) -> None:
    frame = Frame(0, 0, STAMP, **{k: v.copy() if k in ("rgb", "depth") else v
                                  for k, v in fields.items()})  # fmt: skip
    assert frame.size_wh == (6, 4)
    for array in (frame.rgb, frame.depth):
        if array is not None:
            with pytest.raises(ValueError, match="read-only"):
                array[0, 0] = 1


def test_the_part_is_the_labels() -> None:
    frame = Frame.from_image(RGB, frame_id=7)
    assert (frame.frame_id, frame.part_id) == (7, None)
    assert frame.with_label(Label(part_id="A1")).part_id == "A1"
    assert frame.part_id is None
