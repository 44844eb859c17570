"""Map normalisation: what an ordinary and an extreme pixel of a good part look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_models.errors import ThresholdError
from loupe_trainer.precision import StaysFloat32

LOW_QUANTILE, HIGH_QUANTILE = 0.9, 0.995
HIGH_VALUE = 0.1
# Below this share of the upper quantile the affine would amplify float32 rounding.
MIN_RELATIVE_SPREAD = 1e-4
MIN_SPREAD = 1e-12


class MapScale(StaysFloat32):
    """Take the 0.9 quantile of good pixels to 0 and the 0.995 quantile to 0.1."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(HIGH_VALUE))

    def forward(self, anomaly_map: Tensor) -> Tensor:
        """Scale a float32 map."""
        return HIGH_VALUE * (anomaly_map - self.low) / (self.high - self.low)

    def fit(self, maps: Sequence[npt.NDArray[np.float32]], name: str) -> None:
        """Take the quantiles over all pixels of all maps.

        Args:
            maps: The inspected pixels of raw and unpadded ones, of good parts that training has
                not seen.
            name: Of the branch, for errors.

        Raises:
            ThresholdError: The pixels are all but equal, or not finite.
        """
        pixels = np.concatenate([m.ravel() for m in maps]).astype(np.float64)
        low, high = (float(q) for q in np.quantile(pixels, (LOW_QUANTILE, HIGH_QUANTILE)))
        if not np.isfinite(high - low):
            raise ThresholdError(f"the {name} map of a good part is not finite; train again")
        if high - low < max(MIN_RELATIVE_SPREAD * abs(high), MIN_SPREAD):
            raise ThresholdError(
                f"the {name} map hardly varies over {len(maps)} good pictures (quantiles "
                f"{low:.3g} and {high:.3g}), so it has no scale: the pictures are blank or copies "
                f"of each other; collect pictures of at least 10 different good parts, and check "
                f"that the gate's region shows them"
            )
        self.low.fill_(low)
        self.high.fill_(high)
