"""The cheap depth front: a small network on the organized cloud that says what Point-MAE says.

It needs no sampling and no grouping: `xyz` and `valid` are all it takes. Ours; no paper's.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.encoders.point_encoder import GRID_HW, SIDE
from loupe_trainer.encoders.point_spread import adaptive_weights, cell_weights
from loupe_trainer.encoders.surface import N_CHANNELS, surface_channels

STRIDE_PX: Final = 4
DILATIONS: Final = (1, 2, 4)


class SurfaceEncoder(Encoder):
    """Normals, curvature and height, and a few convolutions on them."""

    name = "surface"
    tensors = ("xyz", "valid")

    def __init__(
        self, channels: int, grid_hw: tuple[int, int] = GRID_HW, side: int = SIDE, width: int = 64
    ) -> None:
        """Draw weights.

        Args:
            channels: As many as the exact encoder has.
            grid_hw: Of the organized cloud.
            side: Of the map.
            width: Channels of the convolutions.
        """
        super().__init__()
        self.channels, self.patches_hw = channels, (side, side)
        self.stem = nn.Sequential(
            nn.Conv2d(N_CHANNELS, width // 2, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.around = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, 1, d, d), nn.ReLU()) for d in DILATIONS
        )
        self.head = nn.Conv2d(width, channels, 1)
        # What the exact encoder's features are like on good parts; set when training begins.
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("spread", torch.ones(1, channels, 1, 1))
        rows, columns = (torch.from_numpy(cell_weights(n, side)).float() for n in grid_hw)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        fine = [adaptive_weights(-(-n // STRIDE_PX), side) for n in grid_hw]
        self.is_on_grid = all(-(-n // STRIDE_PX) == side for n in grid_hw)
        self.register_buffer("fine_rows", torch.from_numpy(fine[0]).float(), persistent=False)
        self.register_buffer("fine_columns", torch.from_numpy(fine[1]).float(), persistent=False)

    mean: Tensor
    spread: Tensor
    rows: Tensor
    columns: Tensor
    fine_rows: Tensor
    fine_columns: Tensor
    float32_buffers = ("mean", "spread", "rows", "columns", "fine_rows", "fine_columns")

    def amplify(self, gain: float) -> None:
        """Scale what it says."""
        self.spread.mul_(gain)
        self.mean.mul_(gain)

    def forward(self, xyz: Tensor, valid: Tensor) -> Tensor:
        """Describe a cloud.

        Args:
            xyz: (B, H, W, 3) float32 metres, 0 where invalid.
            valid: (B, H, W) uint8.

        Returns:
            (B, channels, side, side) float32; 0 where a cell sees no point.
        """
        channels = surface_channels(xyz, valid)
        x = self.stem(channels.to(self.head.weight.dtype))
        for layer in self.around:
            x = x + layer(x)
        if not self.is_on_grid:
            x = (self.fine_rows @ x.float() @ self.fine_columns.T).to(x.dtype)
        said = self.head(x)
        # The exact encoder's cell is a sum over the points in it: nothing at a hole, half at an
        # edge. That much is known, and not for the network to learn.
        covered = self.rows @ channels[:, -1:] @ self.columns.T
        cells: Tensor = (said.float() * self.spread + self.mean) * covered
        return cells
