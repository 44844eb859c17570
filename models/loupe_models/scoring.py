"""What the numbers out of a graph mean: p-value, regions, and the distance between two scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from loupe_models.frame import Rect
from loupe_models.preprocess import PxMap

MAX_REGIONS = 20
MIN_UNIT = 1e-9


def p_value(score: float, calibration_scores: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Give the share of good parts that would score at least this high (conformal, never 0).

    Args:
        score: Of the frame or part in question.
        calibration_scores: Sorted ascending, of good parts.
    """
    n = len(calibration_scores)
    n_below = int(np.searchsorted(calibration_scores, score, side="left"))
    return (n - n_below + 1) / (n + 1)


def score_unit(calibration_scores: Sequence[float]) -> float:
    """Give the yardstick of score errors: s95 - s50 of the calibration scores."""
    s50, s95 = np.quantile(np.asarray(calibration_scores, dtype=np.float64), (0.5, 0.95))
    return max(float(s95 - s50), MIN_UNIT)


def score_error(
    scores: npt.ArrayLike, reference: npt.ArrayLike, calibration_scores: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Measure how far scores are from their reference, in units of the good parts' spread.

    Normalised scores straddle zero, so a relative error would mean nothing.
    """
    difference = np.asarray(scores, np.float64) - np.asarray(reference, np.float64)
    return np.asarray(np.abs(difference) / score_unit(calibration_scores))


@dataclass(frozen=True, slots=True)
class Region:
    """A connected area of the anomaly map above the threshold, in the frame's pixels."""

    bbox_px: Rect
    area_px: int
    peak: float


def find_regions(
    anomaly_map: npt.NDArray[np.float32],
    threshold: float,
    frame_px_from_map_px: PxMap,
    size_wh: tuple[int, int],
) -> list[Region]:
    """List the areas above the threshold, strongest first, at most 20.

    Args:
        anomaly_map: (H, W), without NaN.
        threshold: The cut that the image score is held against.
        frame_px_from_map_px: From preprocessing.
        size_wh: The frame's size; boxes are clipped to it.
    """
    # In float64, as the score was held against it: a float32 cannot hold every threshold.
    above = (anomaly_map > np.float64(threshold)).astype(np.uint8)
    if not above.any():
        return []
    n, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    peaks = np.full(n, -np.inf, dtype=np.float32)
    inside = np.flatnonzero(above)
    np.maximum.at(peaks, labels.ravel()[inside].astype(np.intp), anomaly_map.ravel()[inside])
    strongest = 1 + np.argsort(-peaks[1:], kind="stable")[:MAX_REGIONS]
    px_map = frame_px_from_map_px
    return [
        Region(
            bbox_px=_box(stats[i], px_map, size_wh),
            area_px=max(
                1, round(int(stats[i, cv2.CC_STAT_AREA]) * px_map.scale_x * px_map.scale_y)
            ),
            peak=float(peaks[i]),
        )
        for i in strongest
    ]


def _box(stats: npt.NDArray[np.int32], px_map: PxMap, size_wh: tuple[int, int]) -> Rect:
    x, y, width, height = (int(v) for v in stats[:4])
    corners = np.array([[x - 0.5, y - 0.5], [x + width - 0.5, y + height - 0.5]])
    (x0, y0), (x1, y1) = px_map.apply(corners) + 0.5
    left, top = max(0, int(np.floor(x0 + 1e-6))), max(0, int(np.floor(y0 + 1e-6)))
    right = min(size_wh[0], int(np.ceil(x1 - 1e-6)))
    bottom = min(size_wh[1], int(np.ceil(y1 - 1e-6)))
    return Rect(left, top, max(1, right - left), max(1, bottom - top))
