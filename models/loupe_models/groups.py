"""Groups of points around centres, and the way from centres back to pixels.

Point-MAE (Pang et al., ECCV 2022, section 3.1) sees each centre's nearest points relative to it.
What it says of a centre reaches a pixel from its three nearest centres, weighted by the inverse of
the squared distance (PointNet++, Qi et al., NeurIPS 2017, section 3.4; M3DM adds 1e-8 to it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from loupe_models.points import GRID_PER_M, Grid, Indices, find_nearest, grid_points, refuse_few

N_NEAREST: Final = 3
EPSILON_M2: Final = 1e-8  # keeps the weight of a pixel that is itself a centre finite


def group_points(
    xyz: npt.NDArray[np.float32], valid: npt.NDArray[np.uint8], sampled: Indices, size: int
) -> Mapping[str, npt.NDArray[np.generic]]:
    """Group the valid points around the sampled ones.

    Args:
        xyz: (H, W, 3) metres, finite where valid.
        valid: (H, W) 0 or 1.
        sampled: (G,) from `sample_farthest`, at least three.
        size: Points a group, at least two.

    Returns:
        `groups` (G, size, 3) and `centres` (G, 3), float32 metres; `nn_index` int32 and
        `nn_weight` float32, both (H * W, 3) and 0 where not valid.

    Raises:
        FrameError: Fewer valid points than a group takes.
    """
    points = grid_points(xyz, valid)
    refuse_few(len(points), size, "a group")
    centres = points[sampled]
    members, _ = find_nearest(points, centres, size)
    index, weight = _spread(points, centres, valid)
    return {
        "groups": _metres(points[members] - centres[:, None]),
        "centres": _metres(centres),
        "nn_index": index,
        "nn_weight": weight,
    }


def _spread(
    points: Grid, centres: Grid, valid: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Give each pixel its nearest centres and their weights."""
    nearest, squared = find_nearest(centres, points, N_NEAREST)
    weights = 1 / (squared / GRID_PER_M**2 + EPSILON_M2)
    weights /= weights.sum(axis=1, keepdims=True)
    is_valid = valid.ravel() != 0
    index = np.zeros((valid.size, N_NEAREST), np.int32)
    weight = np.zeros((valid.size, N_NEAREST), np.float32)
    index[is_valid], weight[is_valid] = nearest, weights
    return index, weight


def _metres(steps: Grid) -> npt.NDArray[np.float32]:
    return (steps / GRID_PER_M).astype(np.float32)
