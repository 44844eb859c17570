"""An organized cloud without its table: what a calibrated station does by its belt plane.

Horwitz and Hoshen, "Back to the Feature" (CVPR workshops 2023), whose pre-processing M3DM and
CMDIAD share: the plane is found in the border of the scan, and of what stands on it the largest
cluster is kept. Theirs counts noise as a cluster, which deletes the part where noise is the
largest; here noise is never kept.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import open3d

from loupe_trainer.errors import DataError

BORDER_PX: Final = 10
PLANE_FIT_M: Final = 0.004
PLANE_POINTS: Final = 50  # a trial
PLANE_TRIALS: Final = 1000
PLANE_KEEP_M: Final = 0.005
CLUSTER_M: Final = 0.006
CLUSTER_POINTS: Final = 30
SIDE_STEP_PX: Final = 100

Cloud = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def part_mask(xyz_m: Cloud) -> Mask:
    """Find the part's pixels.

    Args:
        xyz_m: (H, W, 3) metres, all 0 where nothing was measured.

    Returns:
        (H, W), True on the largest cluster above the plane.

    Raises:
        DataError: Too few points along the border, or nothing that stands on the plane.
    """
    known: Mask = np.isfinite(xyz_m).all(axis=-1) & (xyz_m != 0).any(axis=-1)
    normal, offset_m = _border_plane(xyz_m, known)
    away_m = np.abs(np.where(known[..., None], xyz_m, 0).astype(np.float64) @ normal + offset_m)
    standing = known & (away_m >= PLANE_KEEP_M)
    kept = np.zeros(known.shape, np.bool_)
    kept[standing] = _largest_cluster(xyz_m[standing])
    return kept


def pad_to_square(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Pad with 0 on all sides to a square, its side the next multiple of 100 pixels.

    Args:
        pixels: (H, W) or (H, W, C).
    """
    height, width = pixels.shape[:2]
    side = -(-max(height, width) // SIDE_STEP_PX) * SIDE_STEP_PX
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.zeros((side, side, *pixels.shape[2:]), pixels.dtype)
    padded[top : top + height, left : left + width] = pixels
    return padded


def _border_plane(xyz_m: Cloud, known: Mask) -> tuple[npt.NDArray[np.float64], float]:
    """Give the unit normal and the offset of the plane that most of the border lies on."""
    border = known.copy()
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    n_points = int(border.sum())
    if n_points < PLANE_POINTS:
        raise DataError(f"only {n_points} points along its border, the plane takes {PLANE_POINTS}")
    open3d.utility.random.seed(0)
    (a, b, c, d), _ = _open3d_cloud(xyz_m[border]).segment_plane(
        distance_threshold=PLANE_FIT_M, ransac_n=PLANE_POINTS, num_iterations=PLANE_TRIALS
    )
    length = float(np.linalg.norm((a, b, c)))
    return np.array((a, b, c)) / length, d / length


def _largest_cluster(points_m: Cloud) -> Mask:
    """Say of each point (N, 3) whether it belongs to the largest cluster; noise is none."""
    labels = np.full(len(points_m), -1)
    if len(points_m) >= CLUSTER_POINTS:
        found = _open3d_cloud(points_m).cluster_dbscan(CLUSTER_M, CLUSTER_POINTS)
        labels = np.asarray(found)
    clustered = labels[labels >= 0]
    if not clustered.size:
        raise DataError(
            f"nothing stands on the plane: no {CLUSTER_POINTS} points within {CLUSTER_M:g} m of "
            f"each other among {len(points_m)}"
        )
    return np.asarray(labels == np.bincount(clustered).argmax(), dtype=np.bool_)


def _open3d_cloud(points_m: Cloud) -> open3d.geometry.PointCloud:
    points = open3d.utility.Vector3dVector(points_m.astype(np.float64))
    return open3d.geometry.PointCloud(points)
