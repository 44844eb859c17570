"""Points of an organized cloud, sampled and grouped the same way on every machine.

Point-MAE (Pang et al., ECCV 2022, section 3.1) looks at a cloud in groups: centres by
farthest-point sampling, and around each its nearest neighbours. Which points those are must not
depend on rounding, so coordinates are rounded to 0.01 mm, squared distances are compared as
integers, and of two equal distances the point with the lower index counts as the nearer, or is
sampled first. An index counts the valid pixels in row-major order.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from loupe_models.errors import FrameError

GRID_PER_M: Final = 1e5
MAX_SQUARED = 2**50  # up to here the square of the tree's float64 root rounds to the integer again
INT64_BITS = 63  # without the sign

Grid = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]


def grid_points(xyz: npt.NDArray[np.float32], valid: npt.NDArray[np.uint8]) -> Grid:
    """Give the valid points, (N, 3), in whole hundredths of a millimetre.

    Args:
        xyz: (H, W, 3) metres, finite where valid.
        valid: (H, W) 0 or 1.
    """
    points_m = xyz[valid != 0].astype(np.float64)
    rounded = np.rint(points_m * GRID_PER_M)  # the product itself is exact
    return np.asarray(rounded, dtype=np.int64)


def sample_farthest(points: Grid, n_points: int) -> Indices:
    """Sample points, the first being point 0, each next one the farthest from all before it.

    Where fewer places differ than are asked for, point 0 is given again.

    Args:
        points: (N, 3) from `grid_points`.
        n_points: How many.

    Returns:
        (n_points,) indices in the order of sampling.

    Raises:
        FrameError: Fewer points than asked for, or too far apart to be compared exactly.
    """
    refuse_few(len(points), n_points, "sample_points")
    bits = len(points).bit_length()
    _refuse_wide(points, bits)
    # Sorted along the longest axis, all that can lie nearer to a new centre than to an older one
    # is a slice. With the distance above and the index below, upside down, the greatest number is
    # the farthest point, and among equals the one with the lowest index.
    axis = int(np.argmax(np.ptp(points, axis=0)))
    order = np.argsort(points[:, axis], kind="stable")
    lines = np.ascontiguousarray(points[order].T)
    along: list[int] = lines[axis].tolist()
    rank = len(points) - 1 - order
    farness = np.full(len(points), np.iinfo(np.int64).max)
    chosen = np.empty(n_points, np.intp)
    at, reach = int(np.flatnonzero(order == 0)[0]), along[-1] - along[0]
    for i in range(n_points):
        chosen[i] = order[at]
        low, high = along[at] - reach, along[at] + reach
        some = slice(bisect_left(along, low), bisect_right(along, high))
        keys = _squared(lines[:, some], lines[:, at].tolist())
        keys <<= bits
        keys |= rank[some]
        np.minimum(farness[some], keys, out=farness[some])
        at = int(farness.argmax())
        reach = math.isqrt(int(farness[at]) >> bits)
    return chosen


def _squared(lines: Grid, point: list[int]) -> npt.NDArray[np.int64]:
    """Give squared distances of points (3, N) from one point."""
    squared: npt.NDArray[np.int64] = lines[0] - point[0]
    squared *= squared
    for line, centre in zip(lines[1:], point[1:], strict=True):
        away = line - centre
        away *= away
        squared += away
    return squared


def refuse_few(n_valid: int, n_needed: int, by: str) -> None:
    """Refuse a part of which too little is seen.

    Raises:
        FrameError: Fewer valid points than are needed.
    """
    if n_valid < n_needed:
        raise FrameError(
            f"{n_valid} valid points, {by} needs {n_needed}: the part is too small, or its depth "
            f"has too many holes"
        )


def _refuse_wide(points: Grid, bits: int) -> None:
    refuse_wide([int(span) for span in np.ptp(points, axis=0)], bits)


def refuse_wide(spans: Sequence[int], bits: int) -> None:
    """Refuse points whose distances cannot be compared exactly.

    A squared distance shares 63 bits with an index, and the tree takes the root of it.

    Args:
        spans: From the least to the greatest coordinate, by axis, in grid steps.
        bits: Of an index.

    Raises:
        FrameError: They lie too far apart.
    """
    most = min(MAX_SQUARED, 1 << (INT64_BITS - bits))
    if sum(span * span for span in spans) >= most:
        raise FrameError(
            f"points up to {max(spans) / GRID_PER_M:.3g} m apart cannot be compared exactly, at "
            f"most {math.isqrt(most // 3) / GRID_PER_M:.3g} m can: are these millimetres?"
        )


def find_nearest(among: Grid, queries: Grid, k: int) -> tuple[Indices, npt.NDArray[np.int64]]:
    """Find the k nearest points of each query, in order of distance and then of index.

    Args:
        among: (N, 3) on the grid, at least k and two.
        queries: (Q, 3) on the grid.
        k: How many, from two.

    Returns:
        Indices, and squared distances in squared grid steps, both (Q, k).

    Raises:
        FrameError: Points too far apart to be compared exactly.
    """
    _refuse_wide(np.concatenate([among, queries]), len(among).bit_length())
    tree = cKDTree(among.astype(np.float64), balanced_tree=False)
    index = np.empty((len(queries), k), np.intp)
    squared = np.empty((len(queries), k), np.int64)
    n_candidates, rows = k + 1 + k // 32, np.arange(len(queries))
    while len(rows):
        n_candidates = min(n_candidates, len(among))
        found, d2 = _candidates(tree, queries[rows], n_candidates)
        index[rows], squared[rows] = found[:, :k], d2[:, :k]
        # The tree breaks ties as it likes. What ties with the last place is known to be among the
        # candidates once one of them lies beyond it; else more of them are asked for.
        is_open = (d2[:, -1] == d2[:, k - 1]) & (n_candidates < len(among))
        rows, n_candidates = rows[is_open], 2 * n_candidates
    return index, squared


def _candidates(tree: cKDTree, queries: Grid, n: int) -> tuple[Indices, npt.NDArray[np.int64]]:
    """Give indices and squared distances (Q, n), in order of distance and then of index."""
    distance, found = tree.query(queries.astype(np.float64), k=n)
    index = np.asarray(found, dtype=np.intp)
    squared = np.rint(distance * distance).astype(np.int64)
    tied = np.flatnonzero((squared[:, 1:] == squared[:, :-1]).any(axis=1))
    bits = tree.n.bit_length()
    keys = np.sort(squared[tied] << bits | index[tied], axis=1)
    index[tied] = keys & ((1 << bits) - 1)
    return index, squared
