"""F2I: the other modality's input picture from this modality's features."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as nnf
from torch import Tensor, nn

WIDTHS: Final = (96, 32)
N_OUT: Final = 3  # red, green, blue; or x, y, z


class FeatureToInput(nn.Module):
    """Three convolutions at the input's size behind one at the features'; as in CMDIAD's code.

    Between the first convolution and the enlargement there is no activation, as published.

    Args:
        channels_in: Of the main modality's features.
        size_px: Side of the square input of the other modality.
    """

    def __init__(self, channels_in: int, size_px: int) -> None:
        super().__init__()
        self.size_px = size_px
        half = max(channels_in // 2, 1)
        self.narrow = nn.Conv2d(channels_in, half, 3, padding=1)
        self.paint = nn.Sequential(
            nn.Conv2d(half, WIDTHS[0], 3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTHS[0], WIDTHS[1], 3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTHS[1], N_OUT, 3, padding=1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, 3, size_px, size_px) float32 of (B, C, h, w)."""
        dtype = self.narrow.weight.dtype
        narrowed = self.narrow(features.to(dtype))
        large = nnf.interpolate(narrowed.float(), size=(self.size_px, self.size_px), mode="bicubic")
        painted: Tensor = self.paint(large.to(dtype))
        return painted.float()
