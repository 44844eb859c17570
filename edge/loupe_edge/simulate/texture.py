"""Endless surface grain: large random fields, cut anew at a random place for every part.

The fields wrap around, are made once, and are normalised to zero mean and unit deviation. A part's
grain therefore never repeats its phase, and no per-pixel statistics can learn it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
FieldName = Literal["brushed", "grain", "cloudy", "white", "speckle"]

SIZE_PX = 1024
_SEEDS = {"brushed": 11, "grain": 12, "cloudy": 13, "white": 14, "speckle": 15}
# Gaussian widths (x, y) in pixels, and how much of each goes into the field.
_BANDS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "brushed": ((40.0, 1.3, 1.0), (14.0, 1.0, 0.5), (90.0, 4.0, 0.5)),
    "grain": ((1.1, 1.1, 1.0), (2.4, 2.4, 0.7)),
    "cloudy": ((28.0, 28.0, 1.0), (10.0, 10.0, 0.35)),
    "white": ((0.0, 0.0, 1.0),),
    "speckle": ((1.1, 1.1, 1.0),),
}


@lru_cache(maxsize=8)
def _field(name: FieldName) -> Field:
    rng = np.random.default_rng(_SEEDS[name])
    total = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    for sigma_x, sigma_y, weight in _BANDS[name]:
        layer = rng.standard_normal((SIZE_PX, SIZE_PX), dtype=np.float32)
        if sigma_x:
            layer = _blur_around(layer, sigma_x, sigma_y)
        total += weight * layer / layer.std()
    total -= total.mean()
    return np.asarray(total / total.std(), np.float32)


def _blur_around(layer: Field, sigma_x: float, sigma_y: float) -> Field:
    """Blur as on a torus, so that the field can be cut anywhere."""
    pad = int(3 * max(sigma_x, sigma_y)) + 1
    wide = np.pad(layer, pad, mode="wrap")
    blurred = cv2.GaussianBlur(wide, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    return np.asarray(blurred[pad:-pad, pad:-pad], np.float32)


@lru_cache(maxsize=8)
def _wrapped(name: FieldName) -> Field:
    """Give the field repeated once to the right and below: any cut is then a plain slice."""
    return np.tile(_field(name), (2, 2))


def cut(name: FieldName, shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Cut (H, W) at a random place; zero mean, unit deviation; a read-only view.

    Args:
        name: Which field.
        shape: At most 1024 each.
        rng: Chooses the place.
    """
    y, x = (int(i) for i in rng.integers(0, SIZE_PX, 2))
    view = _wrapped(name)[y : y + shape[0], x : x + shape[1]]
    view.flags.writeable = False
    return view
