"""The patch description network: what a 33 px patch looks like, every 4 px."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as nnf
from torch import Tensor, nn

RECEPTIVE_FIELD_PX = 33
STRIDE_PX = 4
FEATURE_CHANNELS = 384

PdnSize = Literal["S", "M"]


@dataclass(frozen=True, slots=True)
class PdnShape:
    """Which network: the paper's small or medium one, every layer `width` times as wide."""

    size: PdnSize = "S"
    width: float = 1.0

    @property
    def feature_channels(self) -> int:
        """Channels of the teacher; a student has twice as many."""
        return self.scaled(FEATURE_CHANNELS)

    def scaled(self, channels: int) -> int:
        """Give a layer's channels, a multiple of 8 so that vector units are kept full."""
        return max(8, round(channels * self.width / 8) * 8)


class Pdn(nn.Module):
    """Patch description network, convolutional throughout: any size from 33 px up.

    Without padding, as in anomaly detection, (B, 3, H, W) gives (B, C, H/4 - 8, W/4 - 8): a frame
    of zeros around the picture would be the most striking thing that teacher and student see.
    With padding, as in teacher pretraining, H/4 by W/4. Weights are the same.
    """

    def __init__(self, shape: PdnShape, channels: int, *, padding: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.channels = channels
        self.padding = padding
        layers = _small(shape, padding) if shape.size == "S" else _medium(shape, channels, padding)
        self.body = nn.Sequential(*layers)
        last_kernel_px = 4 if shape.size == "S" else 1
        last_channels = shape.scaled(256) if shape.size == "S" else channels
        self.last = nn.Conv2d(last_channels, channels, last_kernel_px)

    def forward(self, picture: Tensor) -> Tensor:
        """Describe every patch of (B, 3, H, W) ImageNet-normalised pictures."""
        features: Tensor = self.last(self.body(picture))
        return features

    def describe(self, body: Tensor, channels: slice) -> Tensor:
        """Finish only some channels of what `body` gave; the others cost nothing."""
        bias = self.last.bias
        return nnf.conv2d(
            body, self.last.weight[channels], None if bias is None else bias[channels]
        )


def teacher_network(shape: PdnShape, *, padding: bool = False) -> Pdn:
    """Make a teacher, untrained."""
    return Pdn(shape, shape.feature_channels, padding=padding)


def student_network(shape: PdnShape) -> Pdn:
    """Make a student: its first half mimics the teacher, its second the autoencoder."""
    return Pdn(shape, 2 * shape.feature_channels)


def _small(shape: PdnShape, padding: bool) -> list[nn.Module]:
    first, second = shape.scaled(128), shape.scaled(256)
    pad = int(padding)
    return [
        nn.Conv2d(3, first, 4, padding=3 * pad), nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(first, second, 4, padding=3 * pad), nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(second, second, 3, padding=pad), nn.ReLU(inplace=True),
    ]  # fmt: skip


def _medium(shape: PdnShape, channels: int, padding: bool) -> list[nn.Module]:
    first, second = shape.scaled(256), shape.scaled(512)
    pad = int(padding)
    return [
        nn.Conv2d(3, first, 4, padding=3 * pad), nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(first, second, 4, padding=3 * pad), nn.ReLU(inplace=True),
        nn.AvgPool2d(2, 2, padding=pad),
        nn.Conv2d(second, second, 1), nn.ReLU(inplace=True),
        nn.Conv2d(second, second, 3, padding=pad), nn.ReLU(inplace=True),
        nn.Conv2d(second, channels, 4), nn.ReLU(inplace=True),
    ]  # fmt: skip
