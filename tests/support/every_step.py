"""A small part with holes, every step of preprocessing, and where a front differs from numpy's."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.cuda.front import GpuFront
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.preprocess import (
    Cloud,
    Crop,
    Group,
    PreprocessSpec,
    RemoveBelt,
    Resize,
    SamplePoints,
    preprocess,
)

WHOLE = Rect(0, 0, 40, 30)
BELT = belt_from_camera((0, 0, -1), (0, 0, 0.6))
SPEC = PreprocessSpec(
    steps=(
        Crop(),
        Resize(width_px=40, height_px=40),
        Cloud(),
        RemoveBelt(),
        SamplePoints(n_points=32),
        Group(size=16),
    ),
    tensors=("rgb", "xyz", "valid", "groups", "centres", "nn_index", "nn_weight"),
)


class Sharpen(BaseModel):
    """A step such as a later version may bring."""

    model_config = ConfigDict(frozen=True)

    step: str = "sharpen"


def part_frame(seed: int, relief: int = 30) -> Frame:
    """A part on the belt, up to `relief` mm of bumps high; with none, many distances tie."""
    rng = np.random.default_rng(seed)
    depth = np.full((30, 40), 600, np.uint16)
    depth[5:25, 8:32] = 560 + rng.integers(-relief // 2, relief // 2 + 1, (20, 24))
    depth[rng.random(depth.shape) < 0.1] = 0
    rgb = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    lens = Intrinsics(40, 30, 40, 40, 19.5, 14.5)
    return Frame(0, 0, CameraTime(0, "system"), rgb, depth, 0.001, lens)


def differing(front: GpuFront, frame: Frame) -> set[str]:
    """Name the tensors that are not the reference's to the byte."""
    right = preprocess(frame, WHOLE, SPEC, BELT).tensors
    ours = front.preprocess(frame, WHOLE, SPEC, BELT).tensors
    return {name for name in right if ours[name].tobytes() != right[name].tobytes()}
