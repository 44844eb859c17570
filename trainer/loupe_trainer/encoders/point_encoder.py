"""The depth encoder: what preprocessing made of a cloud in, a map of features out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from loupe_models.manifest import Backbone
from loupe_models.preprocess import Tensors
from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.encoders.point_mae import FrozenPointMae, PointMae
from loupe_trainer.encoders.point_spread import CellSpread

GRID_HW: Final = (224, 224)
SIDE: Final = 56
N_CENTRES: Final = 1024
GROUPED: Final = ("groups", "centres")
LEAST: Final = 1e-6  # deviation: a network that says the same of every group


class PointEncoder(Encoder):
    """Point-MAE and its way to the map; frozen, and in evaluation whoever asks.

    Attributes:
        shape: The network's sizes.
    """

    name = "point_mae"
    tensors = ("groups", "centres", "nn_index", "nn_weight")

    def __init__(
        self,
        network: PointMae,
        origin: Backbone | None,
        grid_hw: tuple[int, int] = GRID_HW,
        side: int = SIDE,
        n_centres: int = N_CENTRES,
    ) -> None:
        """Take the network's weights over as they are now.

        Args:
            network: Is frozen.
            origin: See `Encoder`.
            grid_hw: Of the organized cloud.
            side: Of the map, at most a third of the grid's.
            n_centres: As many as `sample_points` gives.
        """
        super().__init__()
        self.shape, self.channels = network.shape, network.shape.channels
        self.patches_hw = (side, side)
        self.origin = origin
        self.network = FrozenPointMae(network)
        self.spread = CellSpread(grid_hw, side, n_centres)
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("deviation", torch.ones(()))

    mean: Tensor
    deviation: Tensor
    float32_buffers = ("mean", "deviation")

    @torch.no_grad()
    def centre(self, samples: Iterable[Tensors]) -> None:
        """Describe groups by how they differ from the mean group of some good frames.

        A cell without points is 0. What all groups have in common would make a step of every
        outline, larger than what tells groups apart: 13 to 0.8 in a tiny network.

        Args:
            samples: With `groups` and `centres`.
        """
        found = [
            self.network(*(torch.from_numpy(np.array(sample[name])) for name in GROUPED))[0]
            for sample in samples
        ]
        groups = torch.cat(found).double()  # (N * G, C)
        self.mean.copy_(groups.mean(dim=0))
        self.deviation.copy_((groups - groups.mean(dim=0)).square().mean().sqrt().clamp(min=LEAST))

    def amplify(self, gain: float) -> None:
        """Scale what it says."""
        self.deviation.div_(gain)

    def forward(
        self, groups: Tensor, centres: Tensor, nn_index: Tensor, nn_weight: Tensor
    ) -> Tensor:
        """Describe a cloud.

        Args:
            groups: (B, G, M, 3) float32 metres from their centre.
            centres: (B, G, 3) float32 metres.
            nn_index: (B, H*W, 3) int32, three nearest centres of each pixel.
            nn_weight: (B, H*W, 3) float32, their shares; all 0 where there is no point.

        Returns:
            (B, channels, side, side) float32; 0 where a cell sees no point.
        """
        described = (self.network(groups, centres).float() - self.mean) / self.deviation
        cells: Tensor = self.spread(described, nn_index, nn_weight)
        return cells
