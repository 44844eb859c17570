"""What depth says of a frame: how much of it can be trusted, and how large a region is."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.deproject import ray_table
from loupe_calibration.transform import Transform
from loupe_edge.verdict import WireRegion
from loupe_models.frame import Frame, Rect
from loupe_models.scoring import Region

MAX_SIDE_SAMPLES = 64  # a region's size needs no more points than this along each side
MM_PER_M = 1000.0


def depth_valid_fraction(frame: Frame, region: Rect) -> float | None:
    """Give the share of the region's pixels that carry a depth; None without depth."""
    if frame.depth is None:
        return None
    x, y, width, height = region
    window = frame.depth[y : y + height, x : x + width]
    return cv2.countNonZero(window) / (width * height)


def measure_region(region: Region, frame: Frame, belt_from_camera: Transform | None) -> WireRegion:
    """Put a region on the wire, with its place and size on the belt where depth and belt are known.

    Args:
        region: In the frame's pixels.
        frame: The exposure; its depth, if any, shares the region's pixels.
        belt_from_camera: The station's belt.
    """
    flat = WireRegion(bbox_px=region.bbox_px, area_px=region.area_px, peak=region.peak)
    points_m = _belt_points(region.bbox_px, frame, belt_from_camera)
    if points_m is None:
        return flat
    x, y, z = (float(v) * MM_PER_M for v in np.median(points_m, axis=0))
    across = np.ptp(points_m[:, :2], axis=0) * MM_PER_M
    return flat.model_copy(
        update={"centroid_mm": (x, y, z), "size_mm": (float(across[0]), float(across[1]))}
    )


def _belt_points(
    bbox: Rect, frame: Frame, belt_from_camera: Transform | None
) -> npt.NDArray[np.float32] | None:
    """Give the box's valid points (N, 3) in the belt frame, metres; None where there are none."""
    if frame.depth is None or frame.intrinsics is None or frame.depth_scale_m is None:
        return None
    if belt_from_camera is None:
        return None
    x, y, width, height = bbox
    step = max(1, -(-max(width, height) // MAX_SIDE_SAMPLES))
    window = (slice(y, y + height, step), slice(x, x + width, step))
    depth = frame.depth[window]
    valid = depth > 0
    if not valid.any():
        return None
    metres = depth[valid].astype(np.float32) * np.float32(frame.depth_scale_m)
    return belt_from_camera.apply(ray_table(frame.intrinsics)[window][valid] * metres[:, None])
