"""PatchCore's description of a patch, made of a backbone's layers by averages alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

LAYER_DIMENSIONS = 1024
NEIGHBOURHOOD = 3


class PatchEmbedding(nn.Module):
    """Average over 3 by 3 neighbours and over channels, layer by layer, then over layers.

    PatchCore unfolds every layer into neighbourhoods (9 C values a position), pools those to 1024,
    stacks the layers, and pools again. All of that is linear and the same everywhere, so here it
    is one convolution a layer, with the same numbers and a twentieth of the work.
    """

    def __init__(
        self, layer_channels: Sequence[int], channels: int, size_hw: tuple[int, int]
    ) -> None:
        super().__init__()
        self.channels = channels
        self.size_hw = size_hw
        n_layers = len(layer_channels)
        stacked = nnf.adaptive_avg_pool1d(torch.eye(n_layers * LAYER_DIMENSIONS), channels)
        for i, (n, mix) in enumerate(zip(layer_channels, stacked.chunk(n_layers), strict=True)):
            unfolded = torch.eye(n * NEIGHBOURHOOD**2)
            kernel = nnf.adaptive_avg_pool1d(unfolded, LAYER_DIMENSIONS) @ mix  # (9 n, channels)
            rows = kernel.any(dim=0).nonzero().flatten()  # the channels this layer reaches
            weights = kernel.T[rows].reshape(-1, n, NEIGHBOURHOOD, NEIGHBOURHOOD)
            self.register_buffer(f"rows_{i}", rows, persistent=False)
            self.register_buffer(f"kernel_{i}", weights.contiguous(), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Describe the patches of (B, C_i, H_i, W_i) layers.

        Returns:
            (B, channels, H, W) float32; layers of another size are resized to it.
        """
        described = maps[0].new_zeros((len(maps[0]), self.channels, *self.size_hw)).float()
        for i, layer in enumerate(maps):
            kernel, rows = self.get_buffer(f"kernel_{i}"), self.get_buffer(f"rows_{i}")
            part = nnf.conv2d(layer.float(), kernel, padding=NEIGHBOURHOOD // 2)
            if tuple(part.shape[2:]) != self.size_hw:
                part = nnf.interpolate(part, size=self.size_hw, mode="bilinear")
            described.index_add_(1, rows, part)
        return described
