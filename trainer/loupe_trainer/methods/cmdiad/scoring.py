"""From distances to a score and a map, as M3DM (arXiv 2303.00601) and CMDIAD publish them."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as nnf
from torch import Tensor

from loupe_trainer.planes import Blur, Continued, inner, inside_mask
from loupe_trainer.precision import StaysFloat32

SIGMA_PX: Final = 4.0
REACH_SIGMAS: Final = 4.0  # what lies farther out weighs less than 1e-4 together


def reweight(distance: Tensor, to_neighbours: Tensor, n_channels: int) -> Tensor:
    """Make a score of the farthest patch's distance by how lonely its nearest row is in the bank.

    The published w = 1 - exp(s / sqrt(D)) / sum_j exp(t_j / sqrt(D)), times s, where t_j are the
    distances from the same patch to the two rows next to its nearest one. The largest exponent is
    taken off all of them first, so that nothing overflows. No row of the bank is nearer than s, so
    t_j >= s and w lies between 1/2 (the three are equally far) and 1. A patch far from everything
    has t_j - s of at most the rows' own spacing, so w keeps its range while s grows: large scores
    stay in order, and grow as the distance does.

    Args:
        distance: (1,) float32, s.
        to_neighbours: (m,) float32, t_j; m >= 1.
        n_channels: D.

    Returns:
        (1,) float32.
    """
    root = math.sqrt(n_channels)
    own, others = distance.float() / root, to_neighbours.float() / root
    largest = torch.maximum(own, others.amax(dim=0, keepdim=True))
    total = torch.exp(others - largest).sum(dim=0, keepdim=True)
    return (1 - torch.exp(own - largest) / total) * distance


class DistanceMap(StaysFloat32):
    """Bring patch distances to the network's input size: bilinear, then a Gaussian in float32.

    The published blur goes through a picture of 256 grey levels; this one does not. The border is
    continued with its own values, as there.
    """

    inside: Tensor

    def __init__(
        self, size_hw: tuple[int, int], sigma_px: float = SIGMA_PX, border_px: int = 0
    ) -> None:
        """Make one.

        Args:
            size_hw: Of the map.
            sigma_px: Of the Gaussian.
            border_px: So far from the edge distances count as 0, before the blur spreads them.
        """
        super().__init__()
        self.size_hw, self.border_px = size_hw, border_px
        self.register_buffer("inside", inside_mask(size_hw, border_px), persistent=False)
        self.blur = Blur(sigma_px, REACH_SIGMAS, has_zeros_around=False)
        self.around = Continued(size_hw, self.blur.reach_px)

    def forward(self, distances: Tensor) -> Tensor:
        """Give (1, 1, H, W) float32 for (1, 1, h, w)."""
        size = list(self.size_hw)
        large = nnf.interpolate(distances.float(), size, mode="bilinear", align_corners=False)
        counted = large * self.inside if self.border_px else large
        blurred: Tensor = self.blur(self.around(counted))
        return blurred

    def judged(self, maps: Tensor) -> Tensor:
        """Give what lies inside the border of (..., H, W): what a fit may look at, as a view."""
        return inner(maps, self.border_px)
