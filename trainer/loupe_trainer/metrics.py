"""Pixel AUROC and AU-PRO, exact, from one sort of the normal scores.

Both are areas under a step curve that rises at each positive score and moves right at each normal
score. So no curve is ever drawn: a positive of weight w that has a share f of the normal scores
above it contributes w (limit - f). Where positive and normal scores tie, the curve is joined by a
straight line, as the official evaluation code does.

AU-PRO is Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021), section 5.1: the mean
over connected regions of the share found, against the share of normal pixels of all pictures that
are wrongly found, up to a limit, over that limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from loupe_trainer.ranking import Ranking

PRO_LIMITS = (0.30, 0.05)


@dataclass(frozen=True, slots=True)
class PixelMetrics:
    """How well maps show where a defect is; None where no truth mask exists.

    Attributes:
        n_regions: Connected defect regions (8 neighbours) over all masks.
    """

    pixel_auroc: float | None
    au_pro_30: float | None
    au_pro_05: float | None
    n_regions: int


def image_auroc(scores: npt.ArrayLike, is_defect: npt.ArrayLike) -> float:
    """Give the chance that a defect scores above a good one, a tie counting half.

    Args:
        scores: (n,) finite; higher means more anomalous.
        is_defect: (n,) truth.

    Returns:
        In 0..1; NaN where either kind is missing, for then there is nothing to rank.
    """
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(is_defect, dtype=bool)
    if int(truth.sum()) in (0, len(truth)):
        return float("nan")
    ranking = Ranking.of([float(v) for v in values], [bool(t) for t in truth])
    return float(ranking.measure(np.ones((1, len(truth))))["auroc"][0])


def pixel_metrics(
    maps: Sequence[npt.NDArray[np.float32]], masks: Sequence[npt.NDArray[np.bool_]]
) -> PixelMetrics:
    """Compare anomaly maps with truth masks.

    Args:
        maps: (H, W) each, finite; sizes may differ from picture to picture.
        masks: (H, W) each, True on the defect; all False for a good picture.
    """
    none = np.empty(0, np.float32)
    normal = np.concatenate([none, *(m[~t] for m, t in zip(maps, masks, strict=True))])
    defect = np.concatenate([none, *(m[t] for m, t in zip(maps, masks, strict=True))])
    if not normal.size or not defect.size:
        return PixelMetrics(None, None, None, 0)
    normal.sort()
    sizes = [region_sizes(mask) for mask in masks]
    n_regions = sum(count for _, count in sizes)
    per_region = 1 / (np.concatenate([size for size, _ in sizes]) * n_regions)
    alike = np.full(defect.size, 1 / defect.size)
    pro = [area_under_curve(normal, defect, per_region, limit) for limit in PRO_LIMITS]
    return PixelMetrics(area_under_curve(normal, defect, alike, 1.0), pro[0], pro[1], n_regions)


def region_sizes(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], int]:
    """Tell each defect pixel how large its region is.

    Returns:
        (n,) sizes in the order of `array[mask]`, and the number of regions.
    """
    if not mask.any():
        return np.empty(0, np.int64), 0
    n, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    return sizes[labels[mask]], n - 1


def area_under_curve(
    normal: npt.NDArray[np.floating],
    positive: npt.NDArray[np.floating],
    weights: npt.NDArray[np.floating],
    limit: float,
) -> float:
    """Integrate the weighted hit rate over the false-positive rate from 0 to `limit`.

    Args:
        normal: (n,) sorted ascending.
        positive: (m,) scores that should lie above.
        weights: (m,) of the positives, summing to 1.
        limit: Largest false-positive rate considered.

    Returns:
        The area divided by `limit`, in 0..1.
    """
    n = len(normal)
    above = (n - np.searchsorted(normal, positive, side="right")) / n
    not_below = (n - np.searchsorted(normal, positive, side="left")) / n
    width = np.maximum(not_below - above, 1e-300)
    # The hit rate rises in a straight line from `above` to `not_below`, then stays.
    reached = np.clip(limit - above, 0, width)
    area = reached**2 / (2 * width) + np.maximum(limit - not_below, 0)
    return float(np.sum(weights * area) / limit)
