"""Levelling: undo what lamp and exposure time did to a picture, before any network looks."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from loupe_trainer.methods.efficientad.pictures import Rgb, to_batch

MEAN: Final = 118.0  # of natural photographs, on which teachers learnt
SPREAD: Final = 60.0
LEAST_SPREAD: Final = 2.0  # noise of a blank picture; less must not be blown up
CHUNK: Final = 32


class Level(nn.Module):
    """Bring each picture to one mean and one spread, over all its pixels and channels.

    A longer exposure multiplies every pixel, a paler lamp as well; both cancel here, and colours
    keep their proportions. What changes brightness in one place only stays. Results are whole
    numbers in 0..255, so that pictures levelled once for training are the graph's own.
    """

    def forward(self, picture: Tensor) -> Tensor:
        """Level (B, 3, H, W) float pictures in 0..255."""
        picture = picture.float()
        mean = picture.mean((1, 2, 3), keepdim=True)
        spread = (picture - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
        levelled = (picture - mean) * (SPREAD / (spread + LEAST_SPREAD)) + MEAN
        return (levelled.clamp(0, 255) + 0.5).floor()


@torch.no_grad()
def level_pictures(pictures: Rgb) -> Rgb:
    """Level (N, H, W, 3) uint8 pictures as the graph does."""
    level = Level()
    chunks = [
        level(to_batch(pictures[i : i + CHUNK])).byte().permute(0, 2, 3, 1)
        for i in range(0, len(pictures), CHUNK)
    ]
    return torch.cat(chunks).contiguous().numpy()
