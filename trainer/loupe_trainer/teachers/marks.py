"""Small marks drawn on patches: what a teacher is to notice, whatever the product is."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]

MIN_STRENGTH = 0.15
OVERSAMPLE = 4
LENGTH_PX = (6.0, 40.0)
RADIUS_PX = (1.2, 8.0)


def draw_mark(patch: Rgb, rng: np.random.Generator) -> Rgb:
    """Draw a line or a blot of any colour and strength near the middle of a square patch."""
    side_px = patch.shape[0]
    layer = np.zeros((side_px * OVERSAMPLE,) * 2, np.uint8)
    centre = rng.uniform(0.25, 0.75, 2) * side_px
    (_line if rng.random() < 0.5 else _blot)(layer, centre, rng)
    shrunk = cv2.resize(layer, (side_px, side_px), interpolation=cv2.INTER_AREA)
    share = np.asarray(shrunk, np.float32) / 255
    if rng.random() < 0.5:
        share = np.asarray(cv2.GaussianBlur(share, (0, 0), rng.uniform(0.4, 1.5)), np.float32)
    colour = rng.uniform(0, 255) + rng.normal(0, 10, 3)
    strength = rng.uniform(MIN_STRENGTH, 1)
    mixed = patch + (colour - patch) * (share * strength)[..., None]
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _line(layer: Rgb, centre_px: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw a slightly bent scratch, one or two pixels wide."""
    angle, length_px = rng.uniform(0, math.pi), rng.uniform(*LENGTH_PX)
    along = np.linspace(-0.5, 0.5, 8) * length_px
    across = rng.normal(0, 0.3) * along**2 / length_px
    cos, sin = math.cos(angle), math.sin(angle)
    points = centre_px + np.stack((along * cos - across * sin, along * sin + across * cos), 1)
    corners = np.round(points * OVERSAMPLE).astype(np.int32)
    width = int(rng.integers(3, 9))  # in oversampled pixels
    cv2.polylines(layer, [corners], isClosed=False, color=255, thickness=width)


def _blot(layer: Rgb, centre_px: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw a filled ellipse; small ones are as likely as large ones."""
    low, high = (math.log(r) for r in RADIUS_PX)
    radius_px = math.exp(rng.uniform(low, high))
    axes = radius_px * OVERSAMPLE * np.array((1.0, rng.uniform(0.4, 1)))
    centre = np.round(centre_px * OVERSAMPLE)
    box = ((float(centre[0]), float(centre[1])), (2 * float(axes[0]), 2 * float(axes[1])),
           float(rng.uniform(0, 180)))  # fmt: skip
    cv2.ellipse(layer, box, 255, cv2.FILLED)
