"""What both viewpoints see of the parts on the belt, before the sensor spoils it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.deproject import ray_table
from loupe_calibration.intrinsics import Intrinsics, project
from loupe_calibration.transform import Transform
from loupe_edge.simulate.belt import empty_belt
from loupe_edge.simulate.lighting import Look
from loupe_edge.simulate.optics import Optics
from loupe_edge.simulate.raycast import Scene
from loupe_edge.simulate.relief import (
    HALF_X_MM,
    HALF_Y_MM,
    PART_MM,
    PX_PER_MM,
    Mask,
    Relief,
    grid_mm,
)

Rgb = npt.NDArray[np.uint8]
Metres = npt.NDArray[np.float32]

MESH_STEP = 2  # every second sample of the relief becomes a vertex: one and a half per millimetre
# Half extents and height of what surrounds a part's surface, and of its sheet with the shadow.
BODY_M = (0.0395, 0.0575, 0.02)
SHEET_M = (HALF_X_MM / 1000, HALF_Y_MM / 1000, 0.0)
BELT_SILENCE = 20
LOBE_SPREAD = 0.09  # of the mirror's blur, in tangents
COLOUR_GLARE = 0.12
DEPTH_GLARE = 0.62


def solid(relief: Relief) -> Scene:
    """Mesh a relief, without the belt around it, in the part's own frame."""
    height_mm = relief.height_mm[::MESH_STEP, ::MESH_STEP]
    x_mm, y_mm = (axis[::MESH_STEP, ::MESH_STEP] for axis in grid_mm())
    vertices_m = np.stack([x_mm, y_mm, height_mm], axis=-1).reshape(-1, 3) / np.float32(1000)
    index = np.arange(height_mm.size, dtype=np.uint32).reshape(height_mm.shape)
    corners = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    a, b, c, d = (corner.ravel() for corner in corners)
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    above = height_mm.ravel()[triangles].max(axis=1) > PART_MM
    return Scene(vertices_m, triangles[above])


@dataclass(frozen=True, slots=True)
class Placed:
    """A part on the belt.

    Attributes:
        seen: What colour's rays meet; for a dent, the part without it.
        shape: What depth's rays meet.
        sound: The same part without its defect: its rays find the truth mask.
        look: From `shade`.
        footprint: (H, W) uint8 of the defect on the relief's grid; None for a good part.
        belt_from_part: Pose.
    """

    seen: Scene
    shape: Scene
    sound: Scene
    look: Look
    footprint: npt.NDArray[np.uint8] | None
    belt_from_part: Transform


@dataclass(frozen=True, slots=True)
class Rendered:
    """Noise-free views.

    Attributes:
        colour: (H, W, 3) uint8.
        depth_m: (H, W) along the depth camera's axis.
        silence: (H, W) uint8: how little of the infrared pattern comes back, depth view.
        windows: Depth-view slices that hold parts, where edges and shadows are to be expected.
    """

    colour: Rgb
    depth_m: Metres
    silence: npt.NDArray[np.uint8]
    windows: tuple[tuple[slice, slice], ...]


def render(view: Optics, parts: tuple[Placed, ...], position_m: float) -> Rendered:
    """Ray-cast both views.

    Args:
        view: The camera over the belt.
        parts: Whatever is near; those out of sight cost nothing.
        position_m: How far the belt has moved.
    """
    stage = empty_belt(view)
    colour = stage.draw(position_m)
    depth_m = stage.depth_m.copy()
    silence = np.full(depth_m.shape, BELT_SILENCE, np.uint8)
    windows = []
    for part in parts:
        _cast_shadow(colour, view, part)
        _draw_colour(colour, view, part)
        window = _draw_depth(depth_m, silence, view, part)
        if window is not None:
            windows.append(window)
    blurred = cv2.GaussianBlur(colour, (5, 5), 0.8)  # the lens; without it edges are stairs
    return Rendered(np.asarray(blurred, np.uint8), depth_m, silence, tuple(windows))


def truth_mask(view: Optics, part: Placed) -> Mask | None:
    """Give the defect's pixels in the colour frame, (H, W); None for a good part.

    A pixel belongs to it when its ray meets the changed surface, or would have met the sound one
    there: the inside of a hole hides behind its rim.
    """
    if part.footprint is None:
        return None
    mask = np.zeros((view.rgb.height_px, view.rgb.width_px), np.bool_)
    window = _window(part, view.rgb, view.belt_from_rgb)
    if window is None:
        return mask
    for scene in {part.seen, part.sound}:
        hit = _look(scene, part, window, view.rgb, view.belt_from_rgb)
        found = cv2.remap(part.footprint, hit.u, hit.v, cv2.INTER_LINEAR)
        mask[window] |= np.asarray(found >= 128)
    return mask


def _draw_colour(colour: Rgb, view: Optics, part: Placed) -> None:
    window = _window(part, view.rgb, view.belt_from_rgb)
    if window is None:
        return
    hit = _look(part.seen, part, window, view.rgb, view.belt_from_rgb)
    lit = cv2.remap(part.look.lit, hit.u, hit.v, cv2.INTER_LINEAR)
    gloss = cv2.remap(part.look.answer, hit.u, hit.v, cv2.INTER_LINEAR)[..., 1]
    glare = cv2.multiply(gloss, _lobe(view.rgb)[window], scale=COLOUR_GLARE / 255)
    shine = cv2.add(lit, cv2.merge([glare] * 3))
    colour[window] = cv2.blendLinear(shine, colour[window], hit.share, 1 - hit.share)


def _cast_shadow(colour: Rgb, view: Optics, part: Placed) -> None:
    """Darken the belt around a part, and what is seen of it through the part's holes."""
    window = _window(part, view.rgb, view.belt_from_rgb, SHEET_M)
    if window is None:
        return
    origin, directions = _rays(part, window, view.rgb, view.belt_from_rgb)
    u, v = _on_sheet(origin, directions, -origin[2] / directions[..., 2])
    light = cv2.remap(part.look.on_belt, u, v, cv2.INTER_LINEAR, None, cv2.BORDER_CONSTANT, 255)
    colour[window] = cv2.multiply(colour[window], cv2.merge([light] * 3), scale=1 / 255)


def _draw_depth(
    depth_m: Metres, silence: npt.NDArray[np.uint8], view: Optics, part: Placed
) -> tuple[slice, slice] | None:
    window = _window(part, view.depth, view.belt_from_depth)
    if window is None:
        return None
    hit = _look(part.shape, part, window, view.depth, view.belt_from_depth)
    depth_m[window] = np.minimum(depth_m[window], hit.depth_m)
    answer = cv2.remap(part.look.answer, hit.u, hit.v, cv2.INTER_LINEAR)
    # Straight below, a glossy surface mirrors the projector into the imagers.
    mirrored = cv2.multiply(answer[..., 1], _lobe(view.depth)[window], scale=DEPTH_GLARE / 255)
    silent = cv2.add(answer[..., 0], mirrored)
    silence[window] = np.where(hit.share > 0, silent, silence[window])
    return window


@lru_cache(maxsize=8)
def _lobe(intrinsics: Intrinsics) -> npt.NDArray[np.uint8]:
    """Where in the picture a mirror lying on the belt would throw light into the lens."""
    u, v = np.meshgrid(np.arange(intrinsics.width_px), np.arange(intrinsics.height_px))
    x = (u - intrinsics.cx_px) / intrinsics.fx_px
    y = (v - intrinsics.cy_px) / intrinsics.fy_px
    spread = 2 * LOBE_SPREAD**2
    return np.asarray(255 * np.exp(-(x * x + y * y) / spread), np.uint8)


def _window(
    part: Placed,
    intrinsics: Intrinsics,
    belt_from_camera: Transform,
    extent_m: tuple[float, float, float] = BODY_M,
) -> tuple[slice, slice] | None:
    """Give the slices of the picture that a part can reach; None when it is out of sight."""
    x, y, z = extent_m
    corners = np.array([(i, j, k) for i in (-x, x) for j in (-y, y) for k in (0.0, z)], np.float32)
    seen = belt_from_camera.inverse().apply(part.belt_from_part.apply(corners))
    uv = project(seen, intrinsics)
    left, top = np.maximum(np.floor(uv.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(uv.max(axis=0)).astype(int) + 1, intrinsics.size_wh)
    if left >= right or top >= bottom:
        return None
    return slice(int(top), int(bottom)), slice(int(left), int(right))


class _Hit(NamedTuple):
    """Where a window's rays land, each (h, w).

    Attributes:
        depth_m: Along the camera's axis; inf for a miss.
        u: Column on the relief's grid; off the grid for a miss.
        v: Row, likewise.
        share: 1 on the part, 0 where the belt shows, between on the last of its edge.
    """

    depth_m: Metres
    u: Metres
    v: Metres
    share: Metres


def _look(
    scene: Scene,
    part: Placed,
    window: tuple[slice, slice],
    intrinsics: Intrinsics,
    belt_from_camera: Transform,
) -> _Hit:
    """Cast a window's rays in the part's frame."""
    origin, directions = _rays(part, window, intrinsics, belt_from_camera)
    depth_m, _ = scene.cast(origin, directions)
    u, v = _on_sheet(origin, directions, np.minimum(depth_m, np.float32(1e3)))
    # The mesh's foot follows its grid in steps; a little higher its contour is smooth.
    height_m = origin[2] + directions[..., 2] * depth_m
    share = np.clip((height_m - PART_MM / 2000) * np.float32(1000), 0, 1)
    return _Hit(depth_m, u, v, share.astype(np.float32))


def _rays(
    part: Placed,
    window: tuple[slice, slice],
    intrinsics: Intrinsics,
    belt_from_camera: Transform,
) -> tuple[Metres, Metres]:
    """Give the camera's place (3,) and a window's directions (h, w, 3) in the part's frame."""
    part_from_camera = part.belt_from_part.inverse() @ belt_from_camera
    turn = np.asarray(part_from_camera.rotation, np.float32)
    origin = np.asarray(part_from_camera.translation_m, np.float32)
    return origin, ray_table(intrinsics)[window] @ turn.T


def _on_sheet(origin: Metres, directions: Metres, reach: Metres) -> tuple[Metres, Metres]:
    """Give column and row on the relief's grid of the points at `reach` along each ray."""
    scale = np.float32(1000 * PX_PER_MM)  # samples in a metre
    x_px = (origin[0] + directions[..., 0] * reach) * scale
    y_px = (origin[1] + directions[..., 1] * reach) * scale
    half_x_px, half_y_px = (np.float32(half * PX_PER_MM - 0.5) for half in (HALF_X_MM, HALF_Y_MM))
    return x_px + half_x_px, half_y_px - y_px
