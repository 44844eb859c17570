"""The autoencoder: predicts the teacher's features from a bottleneck that sees the whole part."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.errors import RecipeError
from loupe_trainer.teachers.pdn import PdnShape

INPUT_MULTIPLE_PX = 32
MIN_INPUT_PX = 128
DROPOUT = 0.2


def check_input_size(height_px: int, width_px: int) -> None:
    """Make sure that the networks can take pictures of this size.

    Raises:
        RecipeError: Too small, or not a multiple of 32.
    """
    for setting, size_px in (("width_px", width_px), ("height_px", height_px)):
        check_side(setting, size_px)


def check_side(setting: str, size_px: int) -> None:
    """Make sure that the networks can take pictures with a side of this length.

    Args:
        setting: That gives the length, for the message.
        size_px: The length.

    Raises:
        RecipeError: Too small, or not a multiple of 32.
    """
    if size_px < MIN_INPUT_PX or size_px % INPUT_MULTIPLE_PX:
        raise RecipeError(
            f"fit.{setting}: EfficientAD cannot take pictures {size_px} px long: its autoencoder "
            f"halves them five times and needs a bottleneck of at least {MIN_INPUT_PX // 32} by "
            f"{MIN_INPUT_PX // 32}; set {setting} to a multiple of {INPUT_MULTIPLE_PX} "
            f"from {MIN_INPUT_PX} up"
        )


class Autoencoder(nn.Module):
    """Predicts a teacher's output for one fixed input size.

    (B, 3, H, W) ImageNet-normalised pictures give (B, C, H/4 - 8, W/4 - 8) features. At 256 px it
    is the paper's network, whose 8 by 8 convolution leaves one vector for the whole picture;
    at other sizes that convolution follows, so that nothing local gets past it there either.
    """

    def __init__(self, shape: PdnShape, size_hw: tuple[int, int]) -> None:
        super().__init__()
        check_input_size(*size_hw)
        self.input_hw = size_hw
        height_px, width_px = size_hw
        narrow, wide = shape.scaled(32), shape.scaled(64)
        encoder: list[nn.Module] = []
        for channels_in, channels_out in pairwise((3, narrow, narrow, wide, wide, wide)):
            encoder += [nn.Conv2d(channels_in, channels_out, 4, 2, 1), nn.ReLU(inplace=True)]
        bottleneck = (height_px // 32, width_px // 32)
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(wide, wide, bottleneck))
        self.sizes_hw = tuple(zip(_growth(height_px), _growth(width_px), strict=True))
        self.output_hw = (height_px // 4 - 8, width_px // 4 - 8)
        self.decoder = nn.ModuleList(nn.Conv2d(wide, wide, 4, padding=2) for _ in self.sizes_hw)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(wide, shape.feature_channels, 3, padding=1),
        )  # fmt: skip

    @property
    def last(self) -> nn.Conv2d:
        """What gives the features."""
        return cast("nn.Conv2d", self.head[-1])

    def forward(self, picture: Tensor) -> Tensor:
        """Predict what the teacher says of (B, 3, H, W)."""
        x = self.encoder(picture)  # (B, 64, 1, 1)
        for size_hw, conv in zip(self.sizes_hw, self.decoder, strict=True):
            x = nnf.interpolate(x, size=size_hw, mode="bilinear")
            x = self.dropout(nnf.relu(conv(x)))  # one pixel larger: the kernel is even
        x = nnf.interpolate(x, size=self.output_hw, mode="bilinear")
        features: Tensor = self.head(x)
        return features


def _growth(size_px: int) -> tuple[int, ...]:
    """Give the sizes to upsample to, 3, 8, 15, 32, 63, 127 at 256 px."""
    return (
        size_px // 64 - 1,
        size_px // 32,
        size_px // 16 - 1,
        size_px // 8,
        size_px // 4 - 1,
        size_px // 2 - 1,
    )
