"""The memory bank: how far each patch is from the nearest patch of any good part.

PatchCore's bank (arXiv 2106.08265) with the normalisation and the re-weighting of M3DM (arXiv
2303.00601) and CMDIAD (arXiv 2405.13571). It knows features only, no encoder.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from loupe_trainer.errors import DataError
from loupe_trainer.methods.cmdiad.scoring import reweight
from loupe_trainer.methods.cmdiad.search import DEFAULT_SHORTLIST, NearestRow, make_table
from loupe_trainer.precision import KeepsFloat32

LEAST_ROWS: Final = 2
N_NEIGHBOURS: Final = 2  # other rows that the re-weighting looks at
ROWS_PER_BLOCK: Final = 1024
LEAST_RELATIVE_DEVIATION: Final = 1e-6  # less is float32 rounding


class MemoryBank(KeepsFloat32):
    """Measures patches against the coreset of good ones.

    Features are put over the standard deviation of the bank's own elements (the published code
    mixes one bank's mean with another's deviation), and about each channel's mean: distances do not
    feel that, their rounding does.

    Attributes:
        n_channels: Of the features it takes.
        is_projected: Whether it searches in fewer dimensions than those.
        search: Holds the rows.
    """

    centre: Tensor
    deviation: Tensor
    axes: Tensor
    neighbours: Tensor
    float32_buffers = ("centre", "deviation", "axes")

    def __init__(
        self,
        features: Tensor,
        n_dimensions: int | None = None,
        n_shortlist: int = DEFAULT_SHORTLIST,
        deviation: float | None = None,
    ) -> None:
        """Build from a coreset.

        Args:
            features: (N, C) float32, the patches to keep.
            n_dimensions: Search in that many principal axes of the features; None in all C.
            n_shortlist: See `NearestRow`.
            deviation: What features are put over; None takes their own standard deviation.

        Raises:
            DataError: No or constant features, some not finite, or too many dimensions asked for.
        """
        super().__init__()
        normal = _Normal(features, n_dimensions, deviation)
        self.n_channels = features.shape[1]
        self.is_projected = n_dimensions is not None
        table, unit = make_table(normal.rows)
        self.search = NearestRow(table, unit, n_shortlist)
        self.register_buffer("centre", normal.centre)
        self.register_buffer("deviation", normal.deviation)
        self.register_buffer("axes", normal.axes)
        self.register_buffer("neighbours", _neighbours(normal.rows))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Measure the patches of one frame.

        Args:
            tokens: (1, C, h, w).

        Returns:
            Distances (1, 1, h, w) and the re-weighted score (1,), both float32 and in deviations of
            the bank's elements; NaN where a token is.
        """
        patches = self.normalise(tokens.flatten(2)[0].T)
        distances, rows = self.search(patches)
        farthest, where = distances.max(dim=0, keepdim=True)
        others = self.neighbours.index_select(0, rows.index_select(0, where))[0]
        to_others = self.search.distances_to(patches.index_select(0, where), others)
        score = reweight(farthest, to_others, self.n_channels)
        return distances.view(1, 1, *tokens.shape[2:]), score

    def normalise(self, features: Tensor) -> Tensor:
        """Take features (n, C) to where the bank is searched: (n, D) float32."""
        normal = (features.float() - self.centre) / self.deviation
        return normal @ self.axes if self.is_projected else normal


class _Normal:
    """A coreset about its mean, over its deviation, and in its principal axes if asked for."""

    def __init__(self, features: Tensor, n_dimensions: int | None, deviation: float | None) -> None:
        _check(features, n_dimensions)
        features = features.float()
        self.centre = features.mean(dim=0)
        self.deviation = features.std(correction=0)
        largest = float(features.abs().max())
        if not float(self.deviation) > LEAST_RELATIVE_DEVIATION * largest:
            raise DataError(
                f"the {len(features)} features of the bank hardly differ (deviation "
                f"{float(self.deviation):.3g} at values up to {largest:.3g}): the pictures are "
                f"blank, or the encoder's weights are"
            )
        if deviation is not None:
            self.deviation = torch.tensor(deviation)
        rows = (features - self.centre) / self.deviation
        self.axes = _principal_axes(rows, n_dimensions) if n_dimensions else torch.empty(0)
        self.rows = rows @ self.axes if n_dimensions else rows


def _check(features: Tensor, n_dimensions: int | None) -> None:
    if features.ndim != 2 or len(features) < LEAST_ROWS or features.shape[1] == 0:
        raise DataError(
            f"a bank is made of (N, C) features of two patches or more, not of "
            f"{tuple(features.shape)}"
        )
    if not bool(torch.isfinite(features).all()):
        raise DataError("some features of the bank are not finite")
    if n_dimensions is not None and not 1 <= n_dimensions <= features.shape[1]:
        raise DataError(f"{n_dimensions} dimensions of {features.shape[1]} channels: take fewer")


def _principal_axes(rows: Tensor, n_dimensions: int) -> Tensor:
    """Give the (C, D) orthonormal axes along which rows vary most: distances can only shrink."""
    covariance = rows.T.double() @ rows.double()
    vectors: Tensor = torch.linalg.eigh(covariance).eigenvectors
    return vectors[:, -n_dimensions:].flip(1).float().contiguous()


def _neighbours(rows: Tensor) -> Tensor:
    """Give (N, 2) int64: the two other rows next to each; (2, 1) in the smallest bank."""
    n, n_others = len(rows), min(N_NEIGHBOURS, len(rows) - 1)
    found = torch.empty(n, n_others, dtype=torch.int64)
    half_squares = rows.square().sum(dim=1) / 2
    for start in range(0, n, ROWS_PER_BLOCK):
        block = rows[start : start + ROWS_PER_BLOCK]
        closeness = torch.addmm(half_squares[None], block, rows.T, beta=-1)
        closeness[range(len(block)), range(start, start + len(block))] = -math.inf
        found[start : start + len(block)] = closeness.topk(n_others, dim=1).indices
    return found
