"""Depth map to organized point cloud, fast enough to run on every frame."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import CalibrationError
from loupe_calibration.intrinsics import Intrinsics, rays


@lru_cache(maxsize=8)
def ray_table(intrinsics: Intrinsics) -> npt.NDArray[np.float32]:
    """Give (H, W, 3) directions with z = 1 for every pixel: computed once, read-only."""
    u, v = np.meshgrid(np.arange(intrinsics.width_px), np.arange(intrinsics.height_px))
    xy = rays(np.stack([u, v], axis=-1).astype(np.float64), intrinsics)
    table = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1).astype(np.float32)
    table.setflags(write=False)
    return table


def deproject(
    depth: npt.NDArray[np.uint16], intrinsics: Intrinsics, depth_scale_m: float
) -> npt.NDArray[np.float32]:
    """Turn a depth map into an organized point cloud in the camera's optical frame.

    Args:
        depth: Raw depth, (H, W), device units; 0 means no measurement.
        intrinsics: Of the stream the depth is expressed in; size must equal (H, W).
        depth_scale_m: Metres per depth unit.

    Returns:
        (H, W, 3) points in metres, x right, y down, z forward; NaN where depth is 0.

    Raises:
        CalibrationError: The depth size differs from the intrinsics size.
    """
    if depth.shape != (intrinsics.height_px, intrinsics.width_px):
        raise CalibrationError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, its intrinsics are for "
            f"{intrinsics.width_px}x{intrinsics.height_px}"
        )
    z_m = depth.astype(np.float32)
    z_m *= np.float32(depth_scale_m)
    z_m[depth == 0] = np.nan
    return ray_table(intrinsics) * z_m[..., None]
