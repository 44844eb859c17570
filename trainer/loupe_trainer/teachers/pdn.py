"""The patch description network: what a 33 px patch looks like, every 4 px."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.precision import StaysFloat32

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
        self.stem = Stem(shape, padding=padding)
        self.body = nn.Sequential(*_body(shape, channels, padding=padding))
        last_kernel_px = 4 if shape.size == "S" else 1
        last_channels = shape.scaled(256) if shape.size == "S" else channels
        self.last = nn.Conv2d(last_channels, channels, last_kernel_px)

    def forward(self, picture: Tensor) -> Tensor:
        """Describe every patch of (B, 3, H, W) ImageNet-normalised pictures."""
        return self.describe(self.stem(picture))

    def describe(self, stemmed: Tensor, channels: slice = slice(None)) -> Tensor:
        """Go on from what `stem` gave; channels that are not asked for cost nothing."""
        return self._say(self.body(stemmed), channels)

    def describe_halves(self, stemmed: Tensor) -> tuple[Tensor, Tensor]:
        """Give both halves of the channels, each computed by itself: cutting would copy them."""
        hidden, n = self.body(stemmed), self.channels // 2
        return self._say(hidden, slice(0, n)), self._say(hidden, slice(n, None))

    def _say(self, hidden: Tensor, channels: slice) -> Tensor:
        weight, bias = self.last.weight[channels], self.last.bias
        return nnf.conv2d(hidden, weight, None if bias is None else bias[channels])


def teacher_network(shape: PdnShape, *, padding: bool = False) -> Pdn:
    """Make a teacher, untrained."""
    return Pdn(shape, shape.feature_channels, padding=padding)


def student_network(shape: PdnShape) -> Pdn:
    """Make a student: its first half mimics the teacher, its second the autoencoder."""
    return Pdn(shape, 2 * shape.feature_channels)


def initialise(network: Pdn) -> Pdn:
    """Give weights that keep the signal's size: PyTorch's own shrink it, and biases take over."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class FirstConv(StaysFloat32, nn.Conv2d):
    """Sees the picture itself, and keeps float32 in a half copy.

    It is 1 % of the work. Rounded, its weights and the picture move a score three times as far as
    all that comes after them.
    """


class Stem(nn.Sequential):
    """What both sizes begin with: edges and spots, at a quarter of the resolution.

    Without padding, what no whole patch reaches is cut off first: at 256 px the last 3 rows and
    columns, which would cost 1.6 % of the second convolution and be dropped by the pooling.
    """

    def __init__(self, shape: PdnShape, *, padding: bool) -> None:
        factor = 1 if shape.size == "S" else 2
        first, second = shape.scaled(128 * factor), shape.scaled(256 * factor)
        pad = int(padding)
        super().__init__(
            FirstConv(3, first, 4, padding=3 * pad), nn.ReLU(inplace=True),
            nn.AvgPool2d(2, 2, padding=pad),
            nn.Conv2d(first, second, 4, padding=3 * pad), nn.ReLU(inplace=True),
            nn.AvgPool2d(2, 2, padding=pad),
        )  # fmt: skip
        self.padding = padding

    def forward(self, picture: Tensor) -> Tensor:
        """Begin on (B, 3, H, W), float32 also in a half copy."""
        if not self.padding:
            height_px, width_px = _sides_px(picture)
            picture = picture[:, :, : _reached(height_px), : _reached(width_px)]
        first, *others = self
        x: Tensor = first(picture)
        dtype = next(others[2].parameters()).dtype
        if dtype == torch.float16:  # a half copy; under autocast the layer has chosen by itself
            x = x.to(dtype)
        for layer in others:
            x = layer(x)
        return x


def _sides_px(picture: Tensor) -> tuple[int, int]:
    """Give height and width as numbers: an exported graph has one size, and computes no shapes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python integer")
        return int(picture.shape[2]), int(picture.shape[3])


def _reached(size_px: int) -> int:
    """Give how far the last whole patch reaches."""
    return size_px - (size_px - RECEPTIVE_FIELD_PX) % STRIDE_PX


def _body(shape: PdnShape, channels: int, *, padding: bool) -> list[nn.Module]:
    pad = int(padding)
    if shape.size == "S":
        hidden = shape.scaled(256)
        return [nn.Conv2d(hidden, hidden, 3, padding=pad), nn.ReLU(inplace=True)]
    hidden = shape.scaled(512)
    return [
        nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True),
        nn.Conv2d(hidden, hidden, 3, padding=pad), nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, 4), nn.ReLU(inplace=True),
    ]  # fmt: skip
