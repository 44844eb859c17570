"""Where the simulated camera stands, and which region of its picture a part is inspected in.

Modelled on a RealSense D435 looking down on a belt 160 mm wide: the depth viewpoint lies 15 mm
beside the colour camera, sees wider, and has its own intrinsics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics, project
from loupe_calibration.transform import Transform
from loupe_models.frame import Rect
from loupe_models.gate import ByColour, GateSpec

CAMERA_HEIGHT_M = 0.32
TILT_RAD = math.radians(1.5)  # nobody mounts a camera perfectly square
DEPTH_SCALE_M = 0.0001
STEREO_BASELINE_M = 0.05

BELT_RGB = (38, 84, 68)
# Half the widest part, with its rotation and lateral offset, and the tallest.
ENVELOPE_HALF_X_M = 0.0425
ENVELOPE_HALF_Y_M = 0.0620
ENVELOPE_TOP_M = 0.019
SLACK_M = 0.044  # how far a part travels while wholly inside the region
CLEAR_PX_AT_640 = 8


@dataclass(frozen=True, slots=True)
class Optics:
    """Both viewpoints and the belt below them."""

    rgb: Intrinsics
    depth: Intrinsics
    rgb_from_depth: Transform
    belt_from_rgb: Transform

    @property
    def belt_from_depth(self) -> Transform:
        """From the depth viewpoint to the belt."""
        return self.belt_from_rgb @ self.rgb_from_depth


@lru_cache(maxsize=4)
def optics(width_px: int = 640, height_px: int = 480) -> Optics:
    """Stand the camera over the belt; sizes other than 640×480 scale the same field of view."""
    sx, sy = width_px / 640, height_px / 480
    rgb = Intrinsics(
        width_px, height_px, 615.2 * sx, 615.0 * sy, 322.3 * sx - 0.5, 238.6 * sy - 0.5
    )
    depth = Intrinsics(
        width_px, height_px, 385.4 * sx, 385.4 * sy, 318.9 * sx - 0.5, 241.2 * sy - 0.5
    )
    turn = math.radians(0.25)
    rgb_from_depth = Transform(
        rotation=((1, 0, 0), (0, math.cos(turn), -math.sin(turn)),
                  (0, math.sin(turn), math.cos(turn))),
        translation_m=(0.0148, 0.0002, 0.0003),
    )  # fmt: skip
    up = np.array((0.0, math.sin(TILT_RAD), -math.cos(TILT_RAD)))
    below = np.array((0.0, 0.0, CAMERA_HEIGHT_M))
    return Optics(rgb, depth, rgb_from_depth, belt_from_camera(up, below))


@lru_cache(maxsize=4)
def gate_spec(width_px: int = 640, height_px: int = 480) -> GateSpec:
    """Give the gate that passes exactly the frames in which one part lies wholly inside."""
    clear_px = max(4, round(CLEAR_PX_AT_640 * width_px / 640))
    view = optics(width_px, height_px)
    x, y = ENVELOPE_HALF_X_M + SLACK_M / 2, ENVELOPE_HALF_Y_M
    corners = np.array([(i, j, ENVELOPE_TOP_M) for i in (-x, x) for j in (-y, y)])
    uv = project(view.belt_from_rgb.inverse().apply(corners), view.rgb)
    margin = np.array((clear_px, 2))
    left, top = np.floor(uv.min(axis=0) - margin).astype(int)
    right, bottom = np.ceil(uv.max(axis=0) + margin).astype(int)
    return GateSpec(
        region_px=Rect(int(left), int(top), int(right - left), int(bottom - top)),
        occupied=ByColour(belt_rgb=BELT_RGB, min_contrast=45),
        min_fraction=0.2,
        clear_px=clear_px,
    )
