"""Procedural pictures: natural statistics out of nothing, for stations that no download reaches.

Dead leaves (opaque shapes that hide each other, sizes by a power law) over clouds, gratings and
grain: edges, corners, stripes and blobs at every scale, contrast and colour.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
_Canvas = npt.NDArray[np.float32]

MIN_LEAF_PX = 2.0
MAX_GRAIN = 12.0


def draw_texture(rng: np.random.Generator, height_px: int, width_px: int) -> Rgb:
    """Draw one picture, (H, W, 3) uint8."""
    canvas = _clouds(rng, height_px, width_px)
    if rng.random() < 0.7:
        canvas = _leaves(rng, canvas)
    if rng.random() < 0.5:
        canvas *= _grating(rng, height_px, width_px)
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.5)).astype(np.float32)
    grain = rng.uniform(0, MAX_GRAIN) * rng.random()
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(grain)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """Sum noise of several octaves between two colours."""
    heights = np.zeros((height_px, width_px), np.float32)
    roughness = rng.uniform(0.4, 0.9)
    stretch = math.exp(rng.normal(0, 0.8))  # brushed and rolled surfaces have a direction
    for octave in range(int(rng.integers(2, 8))):
        n_rows = max(2, min(height_px, round(2**octave * stretch)))
        n_columns = max(2, min(width_px, round(2**octave / stretch)))
        noise = rng.standard_normal((n_rows, n_columns), dtype=np.float32)
        size_wh = (width_px, height_px)
        layer = cv2.resize(noise, size_wh, interpolation=cv2.INTER_CUBIC)
        heights += layer * np.float32(roughness**octave)
    share = (0.5 + 0.5 * np.tanh(heights * rng.uniform(0.3, 1.2)))[..., None]
    one, other = _colour(rng), _colour(rng)
    return np.asarray(one * share + other * (1 - share), np.float32)


def _leaves(rng: np.random.Generator, canvas: _Canvas) -> _Canvas:
    """Drop opaque shapes, the large ones first."""
    height_px, width_px = canvas.shape[:2]
    n = int(rng.integers(10, 160))
    largest_px = rng.uniform(0.1, 0.5) * min(height_px, width_px)
    radii_px = np.sort(np.minimum(MIN_LEAF_PX * rng.pareto(1.2, n) + MIN_LEAF_PX, largest_px))
    for radius_px in radii_px[::-1]:
        centre = rng.uniform(0, (width_px, height_px))
        corners = _outline(rng, float(radius_px)) + centre
        colour = tuple(float(c) for c in _colour(rng))
        cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    return canvas


def _outline(rng: np.random.Generator, radius_px: float) -> npt.NDArray[np.float64]:
    """Give (n, 2) corners of a disc, an ellipse, a polygon or a sliver around the origin."""
    n = int(rng.choice((3, 4, 4, 5, 24, 24)))
    angles = np.arange(n) * (2 * math.pi / n) + rng.uniform(0, 2 * math.pi)
    corners = np.stack((np.cos(angles), np.sin(angles)), 1) * radius_px
    corners[:, 1] *= rng.uniform(0.08, 1.0)
    turn = rng.uniform(0, math.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.asarray(corners @ np.array(((cos, sin), (-sin, cos))))


def _grating(rng: np.random.Generator, height_px: int, width_px: int) -> _Canvas:
    """Give stripes around 1, (H, W, 1)."""
    period_px = math.exp(rng.uniform(math.log(3), math.log(64)))
    angle = rng.uniform(0, math.pi)
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    along = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period_px)
    wave = np.tanh(np.sin(along + rng.uniform(0, 6)) * rng.uniform(0.5, 4))
    return np.asarray(1 + rng.uniform(0.05, 0.4) * wave, np.float32)[..., None]


def _colour(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw a colour; most things in a factory are nearly grey."""
    grey = rng.uniform(10, 245)
    tint = rng.normal(0, 1, 3) * (8 if rng.random() < 0.6 else 60)
    return np.clip(grey + tint, 0, 255).astype(np.float32)
