"""Pixel AUROC and AU-PRO of resampled pictures, without sorting their pixels each time.

Every picture is cut once into histograms over common bins. A resample is then a weighted sum of
histograms, and its curve a cumulative sum. Inside a bin the curve is taken for a straight line,
which can shift an area by at most half the widest bin's share of the normal pixels over the limit.
Bins are narrow where AU-PRO looks: that is below 0.001 for the pictures as they are. The estimates
themselves are exact and are not made here, but by `pixel_metrics`; intervals and drawn curves are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from loupe_trainer.metrics import PRO_LIMITS, region_sizes

# Shares of the normal pixels above each edge: 500 bins to 5 %, 500 on to 30 %, 500 for the rest.
SHARES_ABOVE: Final = np.concatenate(
    [np.linspace(0, 0.05, 501)[1:], np.linspace(0.05, 0.3, 501)[1:], np.linspace(0.3, 1, 501)[1:-1]]
)
N_SAMPLED: Final = 1_000_000  # normal pixels that the edges are chosen by

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PixelHistograms:
    """One row a picture, one column a bin, from the highest scores to the lowest.

    Attributes:
        normal: (p, k) normal pixels.
        defect: (p, k) defect pixels.
        overlap: (p, k) shares of regions, summed over the picture's regions.
        n_regions: (p,) connected regions, 8 neighbours.
    """

    normal: Floats
    defect: Floats
    overlap: Floats
    n_regions: Floats

    @classmethod
    def of(
        cls, maps: Sequence[npt.NDArray[np.float32]], masks: Sequence[npt.NDArray[np.bool_]]
    ) -> PixelHistograms:
        """Cut (H, W) maps, beside (H, W) masks that are True on the defect, into bins."""
        edges = _edges(maps, masks)
        k = len(edges) + 1
        normal, defect, overlap = (np.zeros((len(maps), k)) for _ in range(3))
        n_regions = np.zeros(len(maps))
        for i, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
            bins = k - 1 - np.searchsorted(edges, anomaly_map, side="right")
            sizes, count = region_sizes(mask)
            normal[i] = np.bincount(bins[~mask], minlength=k)
            defect[i] = np.bincount(bins[mask], minlength=k)
            overlap[i] = np.bincount(bins[mask], weights=1 / sizes, minlength=k)
            n_regions[i] = count
        return cls(normal, defect, overlap, n_regions)

    def take(self, rows: Sequence[int]) -> PixelHistograms:
        """Keep some pictures."""
        kept = list(rows)
        return PixelHistograms(
            self.normal[kept], self.defect[kept], self.overlap[kept], self.n_regions[kept]
        )

    def pro_curve(self, weights: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Give the false-positive rate and the mean region overlap, (r, k + 1) each, from zero.

        Args:
            weights: (r, p) how often each picture counts.
        """
        counts = np.asarray(weights, dtype=np.float64)
        n_regions = (counts @ self.n_regions)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return _share(counts @ self.normal), _accumulate(counts @ self.overlap) / n_regions

    def measure(self, weights: npt.ArrayLike) -> dict[str, Floats]:
        """Give `pixel_auroc`, `au_pro_30` and `au_pro_05`, (r,) each, NaN where undefined."""
        counts = np.asarray(weights, dtype=np.float64)
        false, overlap = self.pro_curve(counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            hit = _share(counts @ self.defect)
        areas = {"pixel_auroc": _area(false, hit, 1.0)}
        return areas | {
            f"au_pro_{limit * 100:02.0f}": _area(false, overlap, limit) for limit in PRO_LIMITS
        }


def _edges(
    maps: Sequence[npt.NDArray[np.float32]], masks: Sequence[npt.NDArray[np.bool_]]
) -> npt.NDArray[np.float32]:
    """Choose edges that part the normal pixels evenly, ties kept together and by themselves."""
    n_pixels = sum(mask.size for mask in masks)
    step = max(1, n_pixels // N_SAMPLED)
    sampled = [m[~t][::step] for m, t in zip(maps, masks, strict=True)]
    normal = np.concatenate([np.empty(0, np.float32), *sampled])
    if not normal.size:
        return normal
    edges = np.quantile(normal, 1 - SHARES_ABOVE, method="higher").astype(np.float32)
    values, counts = np.unique(edges, return_counts=True)
    # A score that many pixels share, as where a map is flat, is a bin of its own: a tie.
    after = np.nextafter(values[counts > 1], np.float32(np.inf))
    return np.union1d(values, after).astype(np.float32)


def _accumulate(counts: Floats) -> Floats:
    return np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))


def _share(counts: Floats) -> Floats:
    above = _accumulate(counts)
    return above / above[:, -1:]


def _area(false: Floats, hit: Floats, limit: float) -> Floats:
    """Integrate curves of straight pieces from 0 to `limit`, and divide by it."""
    left, width = false[:, :-1], np.diff(false)
    inside = np.clip(limit - left, 0, width)
    reached = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    heights = hit[:, :-1] + np.diff(hit) * reached / 2
    return np.asarray(np.sum(inside * heights, axis=1) / limit)
