"""A part's surface as seen from above: height, colour and gloss on one fine grid.

Millimetres throughout; x along the belt's travel, y to the left of it, so rows run down as y falls
and the sheet looks as the camera sees it. Shapes are signed distances, negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rgb = tuple[float, float, float]

PX_PER_MM = 3.0
HALF_X_MM = 54.0
HALF_Y_MM = 72.0
SHAPE_HW = (round(2 * HALF_Y_MM * PX_PER_MM), round(2 * HALF_X_MM * PX_PER_MM))
PART_MM = 0.5  # lower than this is belt


class Spot(NamedTuple):
    """Where something sits on a part."""

    x_mm: float
    y_mm: float


@dataclass(frozen=True, slots=True)
class Relief:
    """One surface.

    Attributes:
        height_mm: (H, W) above the belt; 0 is belt.
        albedo: (H, W, 3) share of light given back, 0 to 1.
        gloss: (H, W) 0 to 1.
    """

    height_mm: Field
    albedo: npt.NDArray[np.float32]
    gloss: Field

    @property
    def is_part(self) -> Mask:
        """(H, W) where the surface stands above the belt."""
        return np.asarray(self.height_mm > PART_MM)


@lru_cache(maxsize=1)
def grid_mm() -> tuple[Field, Field]:
    """Give x and y of every sample, each (H, W)."""
    rows, columns = np.mgrid[: SHAPE_HW[0], : SHAPE_HW[1]].astype(np.float32)
    x_mm = (columns + 0.5) / PX_PER_MM - HALF_X_MM
    y_mm = HALF_Y_MM - (rows + 0.5) / PX_PER_MM
    return x_mm.astype(np.float32), y_mm.astype(np.float32)


def disc(at: Spot, radius_mm: float) -> Field:
    """Distance to a circle."""
    x, y = grid_mm()
    away = np.hypot(x - at.x_mm, y - at.y_mm)
    return np.asarray(away - np.float32(radius_mm), np.float32)


def block(at: Spot, width_mm: float, height_mm: float, round_mm: float = 0.0) -> Field:
    """Distance to a rectangle with round corners."""
    x, y = grid_mm()
    dx = np.abs(x - at.x_mm) - np.float32(width_mm / 2 - round_mm)
    dy = np.abs(y - at.y_mm) - np.float32(height_mm / 2 - round_mm)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    inside = np.minimum(np.maximum(dx, dy), 0)
    return np.asarray(outside + inside - np.float32(round_mm), np.float32)


def bar(start: Spot, end: Spot, width_mm: float) -> Field:
    """Distance to a thick line with round ends."""
    x, y = grid_mm()
    ux, uy = end.x_mm - start.x_mm, end.y_mm - start.y_mm
    along = ((x - start.x_mm) * ux + (y - start.y_mm) * uy) / max(ux * ux + uy * uy, 1e-9)
    along = np.clip(along, 0, 1)
    away = np.hypot(x - start.x_mm - along * ux, y - start.y_mm - along * uy)
    return np.asarray(away - np.float32(width_mm / 2), np.float32)


def cover(distance: Field, soft_mm: float = 0.5) -> Field:
    """Turn a distance into coverage 0 to 1 with an edge `soft_mm` wide."""
    return np.asarray(np.clip(0.5 - distance / np.float32(soft_mm), 0, 1), np.float32)


def lettering(text: str, at: Spot, height_mm: float, weight: int = 2) -> Field:
    """Coverage of printed text, centred on a spot."""
    zoom = 4
    scale = height_mm * PX_PER_MM * zoom / 22.0  # a Hershey capital is 22 pixels high at scale 1
    thick = max(1, round(weight * scale / 1.5))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, thick)
    sheet = np.zeros((SHAPE_HW[0] * zoom, SHAPE_HW[1] * zoom), np.uint8)
    x = (at.x_mm + HALF_X_MM) * PX_PER_MM * zoom - width / 2
    y = (HALF_Y_MM - at.y_mm) * PX_PER_MM * zoom + height / 2
    cv2.putText(
        sheet, text, (round(x), round(y)), cv2.FONT_HERSHEY_DUPLEX, scale, 255, thick, cv2.LINE_AA
    )
    small = cv2.resize(sheet, SHAPE_HW[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small / np.float32(255), np.float32)


class Workpiece:
    """A relief in the making: material is added, cut away and painted, in order."""

    def __init__(self) -> None:
        self.height_mm = np.zeros(SHAPE_HW, np.float32)
        self.albedo = np.zeros((*SHAPE_HW, 3), np.float32)
        self.gloss = np.zeros(SHAPE_HW, np.float32)

    def add(self, distance: Field, height_mm: float, edge_mm: float = 1.0) -> None:
        """Raise the surface inside a shape; the edge is a draft `edge_mm` wide."""
        self.height_mm += np.float32(height_mm) * cover(distance, edge_mm)

    def cut_through(self, distance: Field) -> None:
        """Leave nothing but belt inside a shape."""
        self.height_mm *= 1 - cover(distance, 1.4)

    def paint(self, coverage: Field, colour: Rgb, gloss: float) -> None:
        """Give a coverage its colour and gloss."""
        self.albedo += coverage[..., None] * (np.asarray(colour, np.float32) - self.albedo)
        self.gloss += coverage * (np.float32(gloss) - self.gloss)

    def finish(self) -> Relief:
        """Let go of it."""
        for array in (self.height_mm, self.albedo, self.gloss):
            array.setflags(write=False)
        return Relief(self.height_mm, self.albedo, self.gloss)
