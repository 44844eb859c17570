"""Points in whole hundredths of a millimetre, many of them equally far from each other."""

from __future__ import annotations

import numpy as np

from loupe_models.points import Grid

RNG = np.random.default_rng(3)


def mesh(width: int, height: int, step: int) -> Grid:
    v, u = np.mgrid[:height, :width]
    return np.stack([u * step, v * step, 0 * u], axis=-1).reshape(-1, 3).astype(np.int64)


CLOUDS = {
    "random": RNG.integers(-30_000, 30_000, (300, 3)),
    "flat grid": mesh(20, 15, 120),
    "shuffled grid": RNG.permutation(mesh(20, 15, 7)),
    "few places": RNG.integers(0, 3, (300, 3)),
    "all in one place": np.zeros((300, 3), np.int64),
    "a line": np.outer(np.arange(300) % 150, (3, -1, 2)),
    "wide": RNG.integers(-3_000_000, 3_000_000, (300, 3)),
}
