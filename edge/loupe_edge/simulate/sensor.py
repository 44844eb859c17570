"""What the sensor makes of a clean view: colour noise, and stereo depth with its holes.

Noise fields are cut from large prepared ones at a random place, which is twenty times cheaper than
drawing them anew and as good where no two frames share a place.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.simulate.lighting import Light
from loupe_edge.simulate.optics import DEPTH_SCALE_M, STEREO_BASELINE_M
from loupe_edge.simulate.render import Rendered
from loupe_edge.simulate.texture import SIZE_PX, cut

Rgb = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.uint16]
Metres = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

READ_NOISE = 1.4  # grey levels
SHOT_NOISE = 0.16  # per square root of a grey level
DISPARITY_NOISE_PX = 0.08  # what a D435 reaches on a well-lit, textured surface
SILENT = 0.72  # share of the pattern lost at which matching fails, give or take SILENT_SPREAD
SILENT_SPREAD = 0.13
EDGE_WINDOW_HW = (3, 5)  # around what is hidden nothing matches either
NOISE_UNITS = 16  # the colour noise field keeps sixteenths of a deviation


def expose(clean: Rgb, light: Light, rng: np.random.Generator) -> Rgb:
    """Give the colour frame that a clean view becomes.

    Args:
        clean: (H, W, 3) uint8.
        light: Its brightness and tint; they act on the whole frame.
        rng: Of this frame.
    """
    levels = np.arange(256, dtype=np.float32)
    gains = light.brightness * np.asarray(light.tint_rgb, np.float32)
    curves = np.clip(levels[:, None] * gains, 0, 255).astype(np.uint8)
    lit: Rgb = np.asarray(cv2.LUT(clean, curves[None]), np.uint8)
    spread = np.sqrt(READ_NOISE**2 + SHOT_NOISE**2 * levels) * NOISE_UNITS
    deviation = cv2.LUT(lit, spread.astype(np.uint8))
    height, width = clean.shape[:2]
    y, x = (int(i) for i in rng.integers(0, SIZE_PX, 2))
    unit = _colour_noise()[y : y + height, x : x + width]
    noise = cv2.multiply(unit, deviation, scale=1 / NOISE_UNITS**2, dtype=cv2.CV_16S)
    return np.asarray(cv2.add(lit, noise, dtype=cv2.CV_8U), np.uint8)


def measure(clean: Rendered, intrinsics: Intrinsics, rng: np.random.Generator) -> Depth:
    """Give the depth map that a stereo camera makes of a clean view.

    The deviation grows with the square of the distance. Nothing is measured where the second
    imager cannot see, and hardly anything where the surface is dark or mirrors the projector.

    Args:
        clean: Both views.
        intrinsics: Of the depth stream.
        rng: Of this frame.

    Returns:
        (H, W) uint16 in units of `DEPTH_SCALE_M`, 0 for no measurement.
    """
    shape = clean.depth_m.shape
    factor = np.float32(intrinsics.fx_px * STEREO_BASELINE_M)
    per_px = clean.depth_m * clean.depth_m / factor
    noise = cut("speckle", shape, rng)
    depth_m = clean.depth_m + np.float32(DISPARITY_NOISE_PX) * per_px * noise
    depth = np.rint(depth_m * np.float32(1 / DEPTH_SCALE_M)).astype(np.uint16)
    limit = np.float32(255 * SILENT) + np.float32(255 * SILENT_SPREAD) * cut("grain", shape, rng)
    depth[clean.silence > limit] = 0
    for window in clean.windows:
        depth[window][_hidden(clean.depth_m[window], factor)] = 0
    return np.asarray(depth, np.uint16)


def _hidden(depth_m: Metres, factor: np.float32) -> Mask:
    """Find what the second imager, to the right, cannot see for something nearer beside it."""
    columns = np.arange(depth_m.shape[1], dtype=np.float32)
    seen_at = columns - factor / depth_m
    nearest = np.minimum.accumulate(seen_at[:, ::-1], axis=1)[:, ::-1]
    # Half a pixel of grace: on a slope neighbours may change places by rounding alone.
    hidden = (seen_at > nearest + np.float32(0.5)).astype(np.uint8)
    # A matching window that straddles the edge finds nothing either.
    return np.asarray(cv2.dilate(hidden, np.ones(EDGE_WINDOW_HW, np.uint8)) > 0)


@lru_cache(maxsize=1)
def _colour_noise() -> npt.NDArray[np.int16]:
    """Noise per channel, correlated a little as a demosaiced picture's is, repeated once."""
    rng = np.random.default_rng(21)
    noise = rng.standard_normal((SIZE_PX, SIZE_PX, 3), dtype=np.float32)
    soft = np.asarray(cv2.GaussianBlur(noise, (3, 3), 0.5), np.float32)
    soft *= NOISE_UNITS / soft.std()
    return np.tile(soft.astype(np.int16), (2, 2, 1))
