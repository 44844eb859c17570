"""Point-MAE's encoder: groups of points in, one feature vector a group out.

Pang et al., *Masked Autoencoders for Point Cloud Self-supervised Learning* (ECCV 2022), and CMDIAD
(arXiv 2405.13571) for what is taken out of it: the outputs of blocks 3 and 11, each through the
final LayerNorm, joined. The published runs left the network in training mode; here nothing is
random and nothing is updated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from loupe_trainer.encoders.float32_parts import Norm
from loupe_trainer.encoders.point_blocks import Blocks, PositionMlp
from loupe_trainer.encoders.point_groups import FrozenGroupNet, GroupNet
from loupe_trainer.encoders.point_shape import PointShape


class PointMae(nn.Module):
    """The encoder with the published checkpoint's names.

    Attributes:
        shape: Its sizes.
    """

    def __init__(self, shape: PointShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = GroupNet(shape)
        self.pos_embed = PositionMlp(shape.width)
        self.blocks = Blocks(shape.depth, shape.width, shape.n_heads)
        self.norm = Norm(shape.width)

    def in_units(self, groups: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Take metres to what the network sees; see `PointShape.unit_m`."""
        unit_m = self.shape.unit_m
        if unit_m is None:
            return groups, centres
        return groups / unit_m, (centres - centres.mean(1, keepdim=True)) / unit_m

    def forward(self, tokens: Tensor, centres: Tensor) -> Tensor:
        """Describe groups.

        Args:
            tokens: (B, G, width) from the mini-PointNet.
            centres: (B, G, 3) in the network's units.

        Returns:
            (B, G, channels).
        """
        said = self.blocks(tokens, self.pos_embed(centres))
        return torch.cat([self.norm(said[tap]) for tap in self.shape.taps], -1)


class FrozenPointMae(nn.Module):
    """The encoder as it is exported: the mini-PointNet in its cheap form, nothing trained."""

    def __init__(self, plain: PointMae) -> None:
        super().__init__()
        self.shape = plain.shape
        self.groups = FrozenGroupNet(plain.encoder, plain.shape.norm)
        self.plain = plain
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, groups: Tensor, centres: Tensor) -> Tensor:
        """Take (B, G, M, 3) and (B, G, 3) metres, and give (B, G, channels) float32."""
        groups, centres = self.plain.in_units(groups, centres)
        described: Tensor = self.plain(self.groups(groups), centres)
        return described.float()

    def train(self, mode: bool = True) -> FrozenPointMae:  # noqa: ARG002
        """Stay in evaluation, whoever asks."""
        super().train(mode=False)
        return self
