"""Several banks' maps in one: at every place, the bank to which it is oddest (`decisions/0016`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from loupe_trainer.methods.map_scale import MapScale


class Highest(nn.Module):
    """Takes the highest of what the banks say of a place, each on its own scale.

    A defect mostly shows to one bank. A sum lets the others drown it, and its weights must be
    found on good parts, which do not know to which.

    Args:
        n_banks: How many banks it joins.
    """

    def __init__(self, n_banks: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(MapScale() for _ in range(n_banks))

    def fit_maps(self, maps: Sequence[Tensor]) -> list[str]:
        """Fix each bank's scale.

        Args:
            maps: (banks, h, w) of each frame of good parts whose patches are in no bank.

        Returns:
            What was unusual about the fit: nothing ever is, short of an error.

        Raises:
            ThresholdError: A bank hardly varies, or is not finite.
        """
        for bank, scale in enumerate(self.scales):
            cast("MapScale", scale).fit([m[bank].numpy() for m in maps], f"distance (bank {bank})")
        return []

    def forward(self, maps: Tensor) -> Tensor:
        """Join (1, banks, h, w) into (1, 1, h, w), float32."""
        scaled = torch.cat(
            [scale(maps[:, i : i + 1].float()) for i, scale in enumerate(self.scales)], dim=1
        )
        # A runtime's maximum may leave out a NaN; a sum does not, and no answer must look like one.
        return scaled.amax(dim=1, keepdim=True) + 0 * scaled.sum(dim=1, keepdim=True)
