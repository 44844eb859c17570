"""The belt and the frame around it: everything that is there when no part is.

Rails and floor stand still and are ray-cast once; of the belt only the weave moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.deproject import ray_table
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.simulate.optics import BELT_RGB, Optics
from loupe_edge.simulate.raycast import boxes
from loupe_edge.simulate.texture import SIZE_PX, cut

Rgb = npt.NDArray[np.uint8]
Metres = npt.NDArray[np.float32]

BELT_HALF_WIDTH_M = 0.082
RAIL_WIDTH_M = 0.022
RAIL_HEIGHT_M = 0.008
FLOOR_M = -0.40
LENGTH_M = 4.0
WEAVE_PX_PER_M = 2048.0  # the weave repeats every half metre
RAIL_RGB = (150, 154, 158)
FLOOR_RGB = (34, 34, 38)


@dataclass(frozen=True, slots=True)
class EmptyBelt:
    """Both views without parts.

    Attributes:
        colour: (H, W, 3) uint8, lit, without the weave.
        weave_map: Two (H, W) float32 maps into the weave at belt position 0; off the belt they
            point at nothing.
        depth_m: (H, W) along the depth camera's axis.
    """

    colour: Rgb
    weave_map: tuple[Metres, Metres]
    depth_m: Metres

    def draw(self, position_m: float) -> Rgb:
        """Draw the colour view with the belt moved on by `position_m`."""
        shift = np.float32(position_m * WEAVE_PX_PER_M % SIZE_PX)
        map_x, map_y = self.weave_map
        grey = cv2.remap(_weave(), map_x - shift, map_y, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
        return np.asarray(cv2.multiply(self.colour, cv2.merge([grey] * 3), scale=1 / 128), np.uint8)


@lru_cache(maxsize=4)
def empty_belt(view: Optics) -> EmptyBelt:
    """Ray-cast the stage once for both viewpoints."""
    points, normals = _cast(view.rgb, view.belt_from_rgb)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    on_belt = (np.abs(z) < 1e-4) & (np.abs(y) <= BELT_HALF_WIDTH_M)
    lamp = 1.04 - 3.2 * (x - 0.03) ** 2 - 2.5 * (y - 0.02) ** 2
    colour = np.where(on_belt[..., None], BELT_RGB, _rail_colour(y)[..., None] * RAIL_RGB)
    colour = np.where((z < -0.01)[..., None], FLOOR_RGB, colour)
    facing = 0.55 + 0.45 * np.clip(normals[..., 2], 0, 1)
    beside_rail = 1 - 0.45 * np.exp(-(BELT_HALF_WIDTH_M - np.abs(y)) / 0.005) * on_belt
    colour = np.clip(colour * (lamp * facing * beside_rail)[..., None], 0, 255).astype(np.uint8)
    map_x = x * np.float32(WEAVE_PX_PER_M)
    map_y = np.where(on_belt, -y * np.float32(WEAVE_PX_PER_M), np.float32(-SIZE_PX / 2))
    depth_points, _ = _cast(view.depth, view.belt_from_depth)
    depth_m = view.belt_from_depth.inverse().apply(depth_points)[..., 2]
    return EmptyBelt(colour, (map_x.astype(np.float32), map_y.astype(np.float32)), depth_m)


def _cast(intrinsics: Intrinsics, belt_from_camera: Transform) -> tuple[Metres, Metres]:
    """Give where every pixel's ray meets the stage, belt frame, and the normal there."""
    far = LENGTH_M / 2
    low, high = BELT_HALF_WIDTH_M, BELT_HALF_WIDTH_M + RAIL_WIDTH_M
    stage = boxes(
        (
            ((-far, -low, -0.05), (far, low, 0.0)),
            ((-far, low, -0.05), (far, high, RAIL_HEIGHT_M)),
            ((-far, -high, -0.05), (far, -low, RAIL_HEIGHT_M)),
            ((-far, -far, FLOOR_M - 0.1), (far, far, FLOOR_M)),
        )
    )
    turn = np.asarray(belt_from_camera.rotation, np.float32)
    origin = np.asarray(belt_from_camera.translation_m, np.float32)
    directions = ray_table(intrinsics) @ turn.T
    reach, normals = stage.cast(origin, directions)
    return origin + directions * reach[..., None], np.abs(normals)


def _rail_colour(y: Metres) -> Metres:
    """Brightness across an aluminium profile: a milled face with a dark slot along it."""
    across = (np.abs(y) - BELT_HALF_WIDTH_M) / RAIL_WIDTH_M
    slot = np.exp(-0.5 * ((across - 0.5) / 0.09) ** 4)
    edge = np.exp(-0.5 * ((across - 0.06) / 0.04) ** 2)
    return np.asarray(0.86 - 0.62 * slot + 0.25 * edge, np.float32)


@lru_cache(maxsize=1)
def _weave() -> Rgb:
    """Weave a belt, 128 on average, that wraps around."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    period = 2 * np.pi / 16
    threads = np.sin(columns * period) * np.sin(rows * period)
    worn = cut("cloudy", (SIZE_PX, SIZE_PX), rng)
    fuzz = cut("grain", (SIZE_PX, SIZE_PX), rng)
    grey = 128 * (1 + 0.035 * threads + 0.03 * worn + 0.012 * fuzz)
    # Rails and floor all look at this one row, which holds still and plain.
    grey[SIZE_PX // 2] = 128
    return np.asarray(np.clip(grey, 0, 255), np.uint8)
