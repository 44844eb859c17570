"""WideResNet-101-2 from torchvision's file, without torchvision.

Zagoruyko and Komodakis, *Wide Residual Networks* (BMVC 2016); torchvision's: ResNet-101 with
bottlenecks twice as wide, and the stride in their 3x3 convolution. EfficientAD distils its layers 2
and 3; what comes after them is not built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.backbones.base import Backbone
from loupe_trainer.published_weights import PublishedFile, Whose, fetch, tell_whose
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.torch_file import fill, read_state_dict

WHAT: Final = "WideResNet-101-2"
PUBLISHED: Final = (
    PublishedFile(
        name="wide_resnet101_2 ImageNet-1k V1, torchvision",
        file="wide_resnet101_2-32ee1156.pth",
        url="https://download.pytorch.org/models/wide_resnet101_2-32ee1156.pth",
        sha256="32ee1156",
        licence="BSD-3-Clause",
    ),
    PublishedFile(
        name="wide_resnet101_2 ImageNet-1k V2, torchvision",
        file="wide_resnet101_2-d733dc28.pth",
        url="https://download.pytorch.org/models/wide_resnet101_2-d733dc28.pth",
        sha256="d733dc28",
        licence="BSD-3-Clause",
    ),
)
DEPTHS: Final = (3, 4, 23)
UNUSED: Final = ("layer4.", "fc.")
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with batch normalisation, beside a shortcut."""

    def __init__(self, channels: int, middle: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Sequential | None = None
        if channels != out or stride != 1:
            shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, out, H / stride, W / stride)."""
        y = nnf.relu(self.bn1(self.conv1(x)))
        y = nnf.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nnf.relu(y + (x if self.downsample is None else self.downsample(x)))


class WideResNet(Backbone):
    """A ResNet of bottlenecks up to its third layer, with torchvision's names."""

    strides_px = (8, 16)

    def __init__(
        self, whose: Whose, depths: tuple[int, int, int] = DEPTHS, stem: int = 64, widening: int = 2
    ) -> None:
        super().__init__()
        self.whose = whose
        self.normalise = ImageNetNormalise()
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        at_4, at_8, at_16 = (EXPANSION * stem * 2**i for i in range(3))
        self.channels = (at_8, at_16)
        self.layer1 = layer(stem, at_4, widening, depths[0], stride=1)
        self.layer2 = layer(at_4, at_8, widening, depths[1], stride=2)
        self.layer3 = layer(at_8, at_16, widening, depths[2], stride=2)

    def features(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Give layer 2, (B, 512, H/8, W/8), and layer 3, (B, 1024, H/16, W/16)."""
        x = nnf.relu(self.bn1(self.conv1(self.normalise(picture))))
        x = self.layer1(nnf.max_pool2d(x, 3, stride=2, padding=1))
        at_8 = self.layer2(x)
        return at_8, self.layer3(at_8)


def layer(channels: int, out: int, widening: int, depth: int, stride: int) -> nn.Sequential:
    """Make one layer; its first bottleneck takes the stride."""
    middle = widening * out // EXPANSION
    first = Bottleneck(channels, middle, out, stride)
    return nn.Sequential(first, *(Bottleneck(out, middle, out, 1) for _ in range(depth - 1)))


def load_wide_resnet(weights: Path, licence: str | None = None) -> WideResNet:
    """Read torchvision's state dict; version 1 stores it in float16.

    Raises:
        WeightsError: Missing, damaged, another network's, or nobody says their licence.
    """
    state = read_state_dict(weights)
    used = {key: value for key, value in state.items() if not key.startswith(UNUSED)}
    network = WideResNet(tell_whose(weights, WHAT, PUBLISHED, licence))
    fill(network, used, weights, WHAT)
    network.requires_grad_(requires_grad=False).eval()
    return network


def fetch_wide_resnet(place: Path | None = None) -> str:
    """Say what to fetch; version 1 is what the paper's authors distil."""
    return fetch(PUBLISHED, place)
