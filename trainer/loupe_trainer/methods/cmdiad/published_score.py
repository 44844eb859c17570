"""The published image score: each bank's farthest patch, re-weighted, and added up."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_models.errors import ThresholdError
from loupe_trainer.methods.cmdiad.fusion import LinearFusion
from loupe_trainer.precision import StaysFloat32

MIN_RELATIVE_SPREAD: Final = 1e-6
Values = npt.NDArray[np.float32]


class PublishedScore(StaysFloat32):
    """Adds the banks' scores up, on the scale of map peaks, so that one threshold serves both.

    A score is the farthest patch's, re-weighted; the map is blurred. On good parts both spread by
    luck alone, so mean and standard deviation of one are taken to those of the other.

    Args:
        n_banks: How many banks it joins.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, n_banks: int) -> None:
        super().__init__()
        self.fusion = LinearFusion(n_banks)
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, scores: Tensor) -> Tensor:
        """Give (1,) float32 of the banks' (1, banks)."""
        return self.fused(scores) * self.factor + self.offset

    def fused(self, scores: Tensor) -> Tensor:
        """Give the same before it is scaled."""
        added: Tensor = self.fusion(scores)
        return added.flatten()

    def fit_scale(self, scores: Values, peaks: Values) -> None:
        """Take the scores of good frames to the peaks of their normalised maps.

        Args:
            scores: (N,) before they are scaled.
            peaks: (N,) of the same frames.

        Raises:
            ThresholdError: The scores are all but equal, or not finite.
        """
        spread, mean = float(scores.std(dtype=np.float64)), float(scores.mean(dtype=np.float64))
        if not np.isfinite(spread) or spread <= MIN_RELATIVE_SPREAD * abs(mean):
            raise ThresholdError(
                f"the image score hardly varies over {len(scores)} good pictures (about "
                f"{mean:.3g}, give or take {spread:.3g}), so it has no scale: collect pictures of "
                f"at least 10 different good parts, and check that the gate's region shows them"
            )
        factor = float(peaks.std(dtype=np.float64)) / spread
        self.factor.fill_(factor)
        self.offset.fill_(float(peaks.mean(dtype=np.float64)) - factor * mean)
