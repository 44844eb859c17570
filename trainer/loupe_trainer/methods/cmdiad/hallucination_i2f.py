"""I2F: the other modality's features from this modality's input picture."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.precision import StaysFloat32

N_IN: Final = 3  # red, green, blue; or x, y, z
STEM: Final = (64, 128)
NARROW, WIDE = 128, 512
N_GROUPS, N_BOTTLENECKS = 3, 4
STRIDE_PX: Final = 4


class InputToFeature(nn.Module):
    """What the published code calls HRNet: a stem that quarters the picture, then bottlenecks.

    Its multi-resolution stages are commented out there, and its last layer takes another number of
    channels than it is given; here it takes the 512 that the bottlenecks give.

    Args:
        channels_out: Of the other modality's features.
    """

    def __init__(self, channels_out: int) -> None:
        super().__init__()
        self.first = FirstLayer()
        self.stem = nn.Sequential(nn.ReLU(), *_conv_norm(*STEM, 3, 2))
        widths = [STEM[1], *[WIDE] * (N_GROUPS * N_BOTTLENECKS - 1)]
        self.body = nn.Sequential(*(Bottleneck(width) for width in widths))
        self.last = nn.Conv2d(WIDE, channels_out, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Give (B, C, H / 4, W / 4) float32 of (B, 3, H, W)."""
        stemmed = self.stem(self.first(picture).to(self.last.weight.dtype))
        features: Tensor = self.last(self.body(stemmed))
        return features.float()


class FirstLayer(StaysFloat32):
    """A 3x3 convolution of stride 2 and its batch norm, in float32 also where the rest is not.

    A cloud half a metre away, in float16, knows half millimetres; and its variance in metres is
    where float16 has few steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, _ = _conv_norm(N_IN, STEM[0], 3, 2)

    def forward(self, picture: Tensor) -> Tensor:
        """Give (B, 64, H / 2, W / 2) float32; in evaluation as one convolution."""
        if self.training:
            normed: Tensor = self.norm(self.conv(picture))
            return normed
        mean, variance = self.norm.running_mean, self.norm.running_var
        if mean is None or variance is None:
            raise TypeError("a batch norm without running statistics cannot be folded")
        factor = self.norm.weight / (variance + self.norm.eps).sqrt()
        weight = self.conv.weight * factor.view(-1, 1, 1, 1)
        bias = self.norm.bias - mean * factor
        return nnf.conv2d(picture.float(), weight, bias, self.conv.stride, self.conv.padding)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut, as in a ResNet."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_conv_norm(channels_in, NARROW, 1), *_conv_norm(NARROW, NARROW, 3),
            *_conv_norm(NARROW, WIDE, 1)[:2],
        )  # fmt: skip
        self.shortcut = nn.Sequential(
            *([] if channels_in == WIDE else _conv_norm(channels_in, WIDE, 1)[:2])
        )
        self.activation = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, 512, h, w)."""
        added: Tensor = self.activation(self.branch(features) + self.shortcut(features))
        return added


def _conv_norm(
    channels_in: int, channels_out: int, side: int, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    conv = nn.Conv2d(channels_in, channels_out, side, stride, padding=side // 2, bias=False)
    return conv, nn.BatchNorm2d(channels_out), nn.ReLU()
