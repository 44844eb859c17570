"""How a surface looks under the station's lamp: shaded once a part, on the relief's own grid.

A part barely turns while it passes, so its light travels with it; each frame then only looks up
what each ray hits. What does change with the place in the picture, the lamp's glare, is kept
apart as gloss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from loupe_edge.simulate.parts import Finish
from loupe_edge.simulate.relief import PX_PER_MM, Field, Relief
from loupe_edge.simulate.texture import cut

Sheet = npt.NDArray[np.uint8]

SHADOW_STEP_MM = 1.4
N_SHADOW_STEPS = 12


@dataclass(frozen=True, slots=True)
class Light:
    """The lamp over the belt.

    Attributes:
        direction: Unit vector towards the lamp, belt frame.
        brightness: 1 is as adjusted.
        tint_rgb: Colour temperature, around 1.
        ambient: Share of light that comes from everywhere.
    """

    direction: tuple[float, float, float]
    brightness: float
    tint_rgb: tuple[float, float, float]
    ambient: float


def draw_light(variation: float, rng: np.random.Generator) -> Light:
    """Let the lamp wander; variation 0 keeps it still."""
    azimuth = math.radians(125 + 9 * variation * rng.uniform(-1, 1))
    elevation = math.radians(60 + 3 * variation * rng.uniform(-1, 1))
    warm = 0.015 * variation * rng.uniform(-1, 1)
    flat = math.cos(elevation)
    return Light(
        (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)),
        1 + 0.06 * variation * rng.uniform(-1, 1),
        (1 + warm, 1.0, 1 - warm),
        0.52 + 0.03 * variation * rng.uniform(-1, 1),
    )


@dataclass(frozen=True, slots=True)
class Surface:
    """What shading needs of a relief, whatever the lamp does.

    Attributes:
        normals: (H, W, 3) unit.
        openness: (H, W) share of the sky a sample sees: dark in holes and beside walls.
    """

    relief: Relief
    normals: npt.NDArray[np.float32]
    openness: Field


def prepare_surface(relief: Relief) -> Surface:
    """Work out normals and openness."""
    height = relief.height_mm
    slope_y, slope_x = np.gradient(height * np.float32(PX_PER_MM))
    normals = np.stack([-slope_x, slope_y, np.ones_like(height)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    openness = np.ones_like(height)
    for reach_mm, weight in ((1.2, 0.10), (4.0, 0.07)):
        around = cv2.GaussianBlur(height, (0, 0), reach_mm * PX_PER_MM)
        openness *= np.exp(-np.float32(weight) * np.maximum(around - height, 0))
    return Surface(relief, normals, openness)


@dataclass(frozen=True, slots=True)
class Look:
    """A part under its lamp, looked up by every ray that hits it.

    Attributes:
        lit: (H, W, 3) uint8 colour of the part, carried on a little beyond its outline.
        on_belt: (H, W) uint8 light that reaches the belt; 255 where nothing stands in its way.
        answer: (H, W, 2) uint8: how little of the infrared pattern comes back, and gloss.
    """

    lit: Sheet
    on_belt: Sheet
    answer: Sheet


def shade(surface: Surface, finish: Finish, light: Light, rng: np.random.Generator) -> Look:
    """Bake a part's look.

    Args:
        surface: From `prepare_surface`.
        finish: The kind's grain.
        light: The lamp while this part passes.
        rng: Chooses the grain's phase, so that no two parts carry the same.
    """
    relief = surface.relief
    shape = relief.height_mm.shape
    grain, cloud = cut(finish.grain, shape, rng), cut("cloudy", shape, rng)
    reached = _reached(relief.height_mm, light)
    facing = surface.normals @ np.asarray(light.direction, np.float32)
    facing = np.maximum(facing + np.float32(finish.bump) * grain * surface.normals[..., 2], 0)
    ambient, key = np.float32(light.ambient), np.float32(1 - light.ambient)
    level = ambient * surface.openness + key / np.float32(light.direction[2]) * facing * reached
    wear = 1 + np.float32(finish.grain_share) * grain + np.float32(finish.cloud) * cloud
    glint = np.float32(0.5) * relief.gloss * _highlight(surface.normals, light) * reached
    lit = relief.albedo * (level * wear)[..., None] + glint[..., None]
    on_belt = surface.openness * (ambient + key * reached)
    dark = np.clip(1 - relief.albedo.max(axis=-1) / np.float32(0.2), 0, 1)
    silence = np.float32(0.3) * relief.gloss + np.float32(0.9) * dark
    answer = np.stack([silence, relief.gloss], axis=-1)
    return Look(_to_bytes(lit), _to_bytes(on_belt), _to_bytes(answer))


def _to_bytes(share: npt.NDArray[np.float32]) -> Sheet:
    return np.clip(share * 255, 0, 255).astype(np.uint8)


def _highlight(normals: npt.NDArray[np.float32], light: Light) -> Field:
    """Mirror-like share for an eye straight above: it finds rounded edges, not flats."""
    half = np.asarray(light.direction, np.float32) + np.array((0, 0, 1), np.float32)
    half /= np.linalg.norm(half)
    return np.asarray(np.maximum(normals @ half, 0) ** 60, np.float32)


def _reached(height_mm: Field, light: Light) -> Field:
    """Walk from every sample towards the lamp: 1 where nothing higher stands in the way."""
    small = cv2.resize(height_mm, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    x, y, z = light.direction
    flat = math.hypot(x, y)
    blocked = np.zeros_like(small)
    for k in range(1, N_SHADOW_STEPS + 1):
        away_mm = k * SHADOW_STEP_MM
        shift_px = away_mm * PX_PER_MM / 2 / flat
        move = np.array([[1, 0, -x * shift_px], [0, 1, y * shift_px]], np.float32)
        ahead = cv2.warpAffine(small, move, small.shape[::-1])
        blocked = np.maximum(blocked, ahead - small - np.float32(away_mm * z / flat))
    shadow = np.clip(blocked / np.float32(2.0), 0, 1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 1.2 * PX_PER_MM / 2)
    return np.asarray(1 - cv2.resize(shadow, height_mm.shape[::-1]), np.float32)
