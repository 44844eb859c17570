"""Depth map to organized point cloud, fast enough to run on every frame."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import CalibrationError
from loupe_calibration.intrinsics import Intrinsics, rays


@lru_cache(maxsize=8)
def ray_planes(intrinsics: Intrinsics) -> npt.NDArray[np.float32]:
    """Give (2, H, W) x / z and y / z of every pixel's ray: computed once, read-only."""
    u, v = np.meshgrid(np.arange(intrinsics.width_px), np.arange(intrinsics.height_px))
    xy = rays(np.stack([u, v], axis=-1).astype(np.float64), intrinsics)
    planes = np.ascontiguousarray(np.moveaxis(xy, -1, 0), dtype=np.float32)
    planes.setflags(write=False)
    return planes


@lru_cache(maxsize=8)
def ray_table(intrinsics: Intrinsics) -> npt.NDArray[np.float32]:
    """Give (H, W, 3) directions with z = 1 for every pixel: computed once, read-only."""
    x, y = ray_planes(intrinsics)
    table = np.stack([x, y, np.ones_like(x)], axis=-1)
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
    return cloud_along(ray_planes(intrinsics), depth, depth_scale_m)


def cloud_along(
    planes: npt.NDArray[np.float32], depth: npt.NDArray[np.uint16], depth_scale_m: float
) -> npt.NDArray[np.float32]:
    """Deproject any grid of pixels whose rays are known, such as a crop.

    Args:
        planes: (2, H, W) from `ray_planes`, sampled as the depth is.
        depth: Raw depth, (H, W), device units; 0 means no measurement.
        depth_scale_m: Metres per depth unit.

    Returns:
        (H, W, 3) points in metres in the optical frame; NaN where depth is 0.
    """
    z_m = depth.astype(np.float32)
    z_m *= np.float32(depth_scale_m)
    with np.errstate(invalid="ignore"):
        z_m += np.float32(0) / z_m  # adds 0, or NaN to a hole: 8 times faster than a mask
    # Plane by plane, then interleaved: 4 times faster than numpy's broadcast over the last axis.
    return np.asarray(cv2.merge([planes[0] * z_m, planes[1] * z_m, z_m]), dtype=np.float32)
