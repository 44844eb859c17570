"""What every picture passes before any network looks: exposure undone, edges mirrored outwards."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from loupe_trainer.methods.efficientad.area import MAP_BORDER
from loupe_trainer.methods.efficientad.config import EfficientAdConfig
from loupe_trainer.methods.efficientad.pictures import Rgb, to_batch
from loupe_trainer.teachers.pdn import STRIDE_PX

MEAN: Final = 118.0  # of natural photographs, on which teachers learnt
LEAST_MEAN: Final = 8.0  # a darker picture shows nothing but noise, which must not be blown up
MARGIN_PX: Final = MAP_BORDER * STRIDE_PX  # what unpadded networks lose on each side
CHUNK: Final = 32


class Level(nn.Module):
    """Bring each picture to one mean, over all its pixels and channels, by one factor.

    A longer exposure multiplies every pixel, and so does a brighter lamp: both cancel here, and
    colours keep their proportions. What changes brightness in one place only stays. Results are
    whole numbers in 0..255, so that pictures levelled once for training are the graph's own.
    """

    def forward(self, picture: Tensor) -> Tensor:
        """Level (B, 3, H, W) float pictures in 0..255."""
        picture = picture.float()
        levelled = picture * (MEAN / picture.mean((1, 2, 3), keepdim=True).clamp(min=LEAST_MEAN))
        return (levelled.clamp(0, 255) + 0.5).floor()


class Mirror(nn.Module):
    """Continue each picture beyond its edges by its own mirror image, 16 px on every side.

    Networks without padding answer for no patch whose middle lies nearer to the edge than that.
    By two gathers with constant indices: reflecting pads are newer than the oldest TensorRT.

    Args:
        size_hw: Of the picture.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size_hw: tuple[int, int]) -> None:
        super().__init__()
        for name, size_px in zip(("rows", "columns"), size_hw, strict=True):
            self.register_buffer(name, _reflected(size_px), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Take (B, 3, H, W) to (B, 3, H + 32, W + 32)."""
        return picture.index_select(2, self.rows).index_select(3, self.columns)


def make_front(config: EfficientAdConfig, size_hw: tuple[int, int]) -> nn.Sequential:
    """Put together what a recipe asks for; empty where it is nothing."""
    mirror = [Mirror(size_hw)] if config.mirrored else []
    return nn.Sequential(*make_foreign_front(config), *mirror)


def make_foreign_front(config: EfficientAdConfig) -> nn.Sequential:
    """Give the same for foreign pictures, which come at whatever size is asked for."""
    return nn.Sequential(*([Level()] if config.levelled else []))


@torch.no_grad()
def pass_front(front: nn.Sequential, pictures: Rgb) -> Rgb:
    """Let (N, H, W, 3) uint8 pictures pass once and for all, as they do in the graph."""
    if not len(front):
        return pictures
    chunks = [
        front(to_batch(pictures[i : i + CHUNK])).byte().permute(0, 2, 3, 1)
        for i in range(0, len(pictures), CHUNK)
    ]
    return torch.cat(chunks).contiguous().numpy()


def _reflected(size_px: int) -> Tensor:
    """Give the source index of each pixel of a mirrored axis; the edge itself is not repeated."""
    places = torch.arange(-MARGIN_PX, size_px + MARGIN_PX).abs()
    return torch.minimum(places, 2 * (size_px - 1) - places)
