"""Known defects: what each does to a part's surface, and exactly where.

Every defect covers 0.05 to 1 % of the part. Its contrast is drawn from plain to hardly visible in
the sensor's noise, so that the exam has hard questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import FaultError
from loupe_edge.simulate.parts import KINDS, Kind, good_relief
from loupe_edge.simulate.relief import (
    PX_PER_MM,
    Field,
    Mask,
    Relief,
    Spot,
    bar,
    cover,
    disc,
    grid_mm,
)
from loupe_edge.simulate.scenario import DefectName, KindName
from loupe_edge.simulate.texture import cut

AREA_SHARE = (0.0005, 0.01)
MIN_STRENGTH = 0.06
FAINT_SHARE = 0.04  # of defects that nobody could find for sure
FAINT_STRENGTH = 0.3
SEEN_IN_DEPTH_MM = 0.4
_MAX_DRAWS = 200

Stream = Literal["rgb", "depth"]


@dataclass(frozen=True, slots=True)
class Defect:
    """A part's surface after something went wrong with it.

    Attributes:
        strength: Contrast, 0.06 (noise level) to 1.
        seen: The surface that colour sees; a dent is not in it.
        shape: The surface that depth sees; paint and stains are not in it.
        footprint: (H, W) of the relief's grid: where it differs from a good part.
    """

    name: DefectName
    strength: float
    seen: Relief
    shape: Relief
    footprint: Mask
    visible_in: tuple[Stream, ...]


def area_share(footprint: Mask, kind: KindName) -> float:
    """Give the footprint's share of the part as seen from above."""
    return float(footprint.sum() / good_relief(kind).is_part.sum())


def draw_defect(name: DefectName, kind_name: KindName, rng: np.random.Generator) -> Defect:
    """Draw one defect; draws again until its area is within bounds."""
    kind = KINDS[kind_name]
    strength = _draw_strength(rng)
    for _ in range(_MAX_DRAWS):
        defect = _MAKERS[name](kind, strength, rng)
        if AREA_SHARE[0] <= area_share(defect.footprint, kind.name) <= AREA_SHARE[1]:
            return defect
    raise FaultError(f"no {name} of the right size fits on a {kind.name}")


def _draw_strength(rng: np.random.Generator) -> float:
    """Draw a contrast: mostly plain, falling off, with a few in the noise."""
    if rng.random() < FAINT_SHARE:
        return float(rng.uniform(MIN_STRENGTH, FAINT_STRENGTH))
    return MIN_STRENGTH + (1 - MIN_STRENGTH) * float(rng.beta(4.0, 1.0))


def _scratch(kind: Kind, strength: float, rng: np.random.Generator) -> Defect:
    """Draw a thin bent groove: fresh bright metal with a shaded flank, or dirt all through."""
    good = good_relief(kind.name)
    at = _site(kind.name, 2.0, rng)
    heading, bend = rng.uniform(0, math.pi), rng.uniform(-0.5, 0.5)
    width_mm, length_mm = rng.uniform(1.1, 1.8), rng.uniform(10, 34)
    away = np.full(good.height_mm.shape, np.inf, np.float32)
    for k in range(4):
        angle = heading + bend * k / 3
        step_mm = length_mm / 4
        to = Spot(at.x_mm + step_mm * math.cos(angle), at.y_mm + step_mm * math.sin(angle))
        away = np.minimum(away, bar(at, to, 0.0))
        at = to
    groove = cover(away - np.float32(width_mm / 2), 0.5) * good.is_part
    bright = cover(away - np.float32(width_mm / 4), 0.5) if rng.random() < 0.5 else 0 * groove
    ink = np.float32(0.06) + bright[..., None] * np.ones(3, np.float32)
    return _painted("scratch", kind, strength, groove, ink)


def _stain(kind: Kind, strength: float, rng: np.random.Generator) -> Defect:
    """Let a drop of oil or coolant dry: a ragged blot, darker at its rim."""
    good = good_relief(kind.name)
    radius_mm = rng.uniform(2.0, 4.8)
    at = _site(kind.name, 1.0, rng)
    stretch, angle = rng.uniform(0.6, 1.0), rng.uniform(0, math.pi)
    x, y = grid_mm()
    along = (x - at.x_mm) * math.cos(angle) + (y - at.y_mm) * math.sin(angle)
    across = (y - at.y_mm) * math.cos(angle) - (x - at.x_mm) * math.sin(angle)
    ragged = 0.16 * radius_mm * cut("cloudy", good.height_mm.shape, rng)
    away = np.hypot(along, across / stretch) - radius_mm + ragged
    blot = cover(away, 0.9) * (0.72 + 0.28 * np.exp(-((away + 0.5) ** 2))) * good.is_part
    hue = (0.09, 0.07, 0.05) if rng.random() < 0.7 else (0.04, 0.07, 0.14)
    return _painted("stain", kind, strength, blot.astype(np.float32), np.array(hue, np.float32))


def _painted(
    name: DefectName, kind: Kind, strength: float, where: Field, colour: npt.NDArray[np.float32]
) -> Defect:
    """Lay a colour, one or one a sample, over the surface and take its gloss."""
    good = good_relief(kind.name)
    alpha = np.float32(0.95 * strength) * where
    albedo = good.albedo + alpha[..., None] * (colour - good.albedo)
    gloss = good.gloss * (1 - alpha)
    seen = replace(good, albedo=albedo, gloss=gloss)
    return Defect(name, strength, seen, good, where > 0.3, ("rgb",))


def _dent(kind: Kind, strength: float, rng: np.random.Generator) -> Defect:
    """Press the surface in, too softly for the lamp to show it."""
    good = good_relief(kind.name)
    radius_mm = rng.uniform(2.0, 4.2)
    away = disc(_site(kind.name, radius_mm * 0.6, rng, flat=True), 0.0)
    bowl = np.exp(-0.5 * (away / (0.62 * radius_mm)) ** 2)
    depth_mm = np.float32(4.0 * strength) * bowl * good.is_part
    shape = replace(good, height_mm=_lowered(good.height_mm, depth_mm))
    return Defect("dent", strength, good, shape, (bowl > 0.3) & good.is_part, ("depth",))


def _hole(kind: Kind, strength: float, rng: np.random.Generator) -> Defect:
    """Leave a pore: right through where strong, a shallow pit where weak."""
    good = good_relief(kind.name)
    radius_mm = rng.uniform(1.5, 3.3)
    at = _site(kind.name, radius_mm + 0.5, rng, flat=True)
    inside = cover(disc(at, radius_mm), 0.7)
    is_through = strength > 0.5
    floor_mm = np.float32(0) if is_through else _lowered(good.height_mm, 7 * strength)
    height_mm = good.height_mm + inside * (floor_mm - good.height_mm)
    dark = np.float32(0.9 if is_through else 1.3 * strength) * inside
    albedo = good.albedo * (1 - dark[..., None])
    worn = Relief(height_mm.astype(np.float32), albedo, good.gloss * (1 - inside))
    return _structural("hole", kind, strength, worn)


def _lowered(height_mm: Field, by_mm: Field | float) -> Field:
    """Press a surface in, but never through."""
    pressed = np.maximum(height_mm - by_mm, 1.0)
    return np.asarray(np.minimum(height_mm, pressed), np.float32)


def _missing_feature(kind: Kind, strength: float, rng: np.random.Generator) -> Defect:
    """Forget a fastener, which bares its seat, or a line of print."""
    layout = kind.layout
    which = int(rng.integers(len(layout.fasteners) + 1))
    if which == len(layout.fasteners):
        changed = replace(layout, mark=None)
    else:
        rest = layout.fasteners[:which] + layout.fasteners[which + 1 :]
        changed = replace(layout, fasteners=rest)
    return _structural("missing_feature", kind, strength, kind.draw(changed))


def _misplaced_feature(kind: Kind, strength: float, rng: np.random.Generator) -> Defect:
    """Set a fastener beside its seat, or print a line askew of its place."""
    layout = kind.layout
    angle, far_mm = rng.uniform(0, 2 * math.pi), 1.6 + 3.2 * strength
    dx, dy = far_mm * math.cos(angle), far_mm * math.sin(angle)
    which = int(rng.integers(len(layout.fasteners) + 1))
    if which == len(layout.fasteners) and layout.mark is not None:
        # Print slips along its line: across it would land on the line above.
        slipped = Spot(layout.mark.x_mm + math.copysign(2.0 + far_mm, dx), layout.mark.y_mm - 0.8)
        changed = replace(layout, mark=slipped)
    else:
        home = layout.fasteners[which]
        spots = list(layout.fasteners)
        spots[which] = Spot(home.x_mm + dx, home.y_mm + dy)
        changed = replace(layout, fasteners=tuple(spots))
    return _structural("misplaced_feature", kind, strength, kind.draw(changed))


def _structural(name: DefectName, kind: Kind, strength: float, worn: Relief) -> Defect:
    """Find where a changed surface differs, and which streams can tell."""
    good = good_relief(kind.name)
    lowered = np.abs(worn.height_mm - good.height_mm)
    recoloured = np.abs(worn.albedo - good.albedo).max(axis=-1)
    footprint = ((lowered > 0.15) | (recoloured > 0.02)) & (good.is_part | worn.is_part)
    in_depth: tuple[Stream, ...] = ("depth",) if lowered.max() > SEEN_IN_DEPTH_MM else ()
    return Defect(name, strength, worn, worn, footprint, ("rgb", *in_depth))


@lru_cache(maxsize=8)
def _room_mm(kind: KindName, flat: bool) -> Field:
    """Distance of every sample to the nearest edge of the part, or of anything not flat."""
    good = good_relief(kind)
    usable = good.is_part
    if flat:
        slope = np.hypot(*np.gradient(good.height_mm)) * PX_PER_MM
        usable = usable & (slope < 0.2)
    distance = cv2.distanceTransform(usable.astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(distance / np.float32(PX_PER_MM), np.float32)


def _site(kind: KindName, room_mm: float, rng: np.random.Generator, flat: bool = False) -> Spot:
    """Choose a place with room around it."""
    rows, columns = np.nonzero(_room_mm(kind, flat) > room_mm)
    k = int(rng.integers(len(rows)))
    x, y = grid_mm()
    return Spot(float(x[rows[k], columns[k]]), float(y[rows[k], columns[k]]))


_MAKERS: dict[DefectName, Callable[[Kind, float, np.random.Generator], Defect]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "hole": _hole,
    "missing_feature": _missing_feature,
    "misplaced_feature": _misplaced_feature,
}
