"""Parts on a belt, 20 mm high, and how each mode sees them: the smallest RGB-D there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_models.frame import CameraTime, Frame
from loupe_models.manifest import Mode
from loupe_models.preprocess import Cloud, Crop, PreprocessSpec, RemoveBelt, Resize

SIDE = 32
ALL: tuple[Mode, ...] = ("rgb", "depth", "rgbd")
TENSORS: Mapping[Mode, tuple[Any, ...]] = {
    "rgb": ("rgb",),
    "depth": ("xyz", "valid"),
    "rgbd": ("rgb", "xyz", "valid"),
}
LENS = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
BELT = belt_from_camera((0.0, 0.0, -1.0), (0.0, 0.0, 0.52))
UNIT_M = 0.0001


def spec_of(mode: Mode, side: int = SIDE, min_share: float = 0.01) -> PreprocessSpec:
    cut = (Crop(), Resize(width_px=side, height_px=side))
    steps = cut if mode == "rgb" else (*cut, Cloud(), RemoveBelt(min_share=min_share))
    return PreprocessSpec(steps=steps, tensors=TENSORS[mode])


def exposure(seed: int, kind: str = "good") -> Frame:
    """A part on the belt; a `stain` shows in colour alone, a `dent` in depth alone."""
    rng = np.random.default_rng(seed)
    rgb = np.full((48, 64, 3), 20, np.uint8)
    depth = np.full((48, 64), 5200, np.uint16)
    part = (slice(2, 46), slice(4, 60))
    rgb[part] = rng.normal(120, 4, (44, 56, 3)).clip(0, 255)
    depth[part] = rng.normal(5000, 2, (44, 56)).round()
    x, y = (int(v) for v in rng.integers((14, 12), (44, 32)))
    if kind == "stain":
        rgb[y : y + 6, x : x + 6] = 220
    if kind == "dent":
        depth[y : y + 6, x : x + 6] += 60
    return Frame(
        frame_id=seed, captured_at_ns=0, camera_time=CameraTime(ns=seed, domain="system"),
        rgb=rgb, depth=depth, depth_scale_m=UNIT_M, intrinsics=LENS,
    )  # fmt: skip
