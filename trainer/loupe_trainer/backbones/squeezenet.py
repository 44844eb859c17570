"""SqueezeNet 1.1: small, permissively licensed, and good enough to teach.

From torchvision's file, or from an npz of the Caffe weights; the two are different trainings of one
network, and see pictures normalised differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.backbones.base import Backbone
from loupe_trainer.backbones.npz_file import read_arrays
from loupe_trainer.published_weights import PublishedFile, Whose, fetch, tell_whose
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.torch_file import fill, read_state_dict

WHAT: Final = "SqueezeNet 1.1"
PUBLISHED: Final = (
    PublishedFile(
        name="squeezenet1_1 ImageNet-1k V1, torchvision",
        file="squeezenet1_1-b8a52dc0.pth",
        url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        sha256="b8a52dc0",
        licence="BSD-3-Clause",
    ),
)
# Nobody publishes the npz: it is squeezenet_v1.1.bin of github.com/nihui/ncnn-assets (float16,
# OIHW) under Caffe's layer names. This is the hash of the conversion that was checked here.
CONVERTED: Final = PublishedFile(
    name="squeezenet_v1.1",
    file="squeezenet_v1.1_fp16.npz",
    url="https://github.com/nihui/ncnn-assets",
    sha256="e15cd8602be7ab270bea50415caf76d9b22b6ab12dce087f4ec05380711f9530",
    licence="BSD-2-Clause",
)
CAFFE_MEAN_BGR = (104.0, 117.0, 123.0)
# No layer pads at its left and top, so maps drift to the right and down, by half a cell and more.
# Moving the picture by 4 px puts cells within 4 px of the middle of what they describe, and makes
# every size come out even.
CENTRED = (4, -3, 4, -3)
# name: (channels in, squeezed, expanded); what comes out is twice the expanded
FIRES = {
    "fire2": (64, 16, 64), "fire3": (128, 16, 64),
    "fire4": (128, 32, 128), "fire5": (256, 32, 128),
    "fire6": (256, 48, 192), "fire7": (384, 48, 192),
    "fire8": (384, 64, 256), "fire9": (512, 64, 256),
}  # fmt: skip
TORCHVISION_INDEX = {
    "3": "fire2", "4": "fire3", "6": "fire4", "7": "fire5",
    "9": "fire6", "10": "fire7", "11": "fire8", "12": "fire9",
}  # fmt: skip


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1x1 and 3x3 side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, 2 * expanded, H, W)."""
        x = nnf.relu(self.squeeze1x1(x))
        return nnf.relu(torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1))


class CaffeNormalise(nn.Module):
    """Take red-first pictures in 0..255 to what Caffe trained on: blue first, less the mean."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Normalise (B, 3, H, W)."""
        return picture.flip(1) - self.mean


class SqueezeNet(Backbone):
    """SqueezeNet 1.1 up to its last fire module.

    Pictures of a multiple of 16 px give maps at exactly an eighth and a sixteenth.
    """

    strides_px = (8, 16)
    channels = (256, 512)

    def __init__(self, whose: Whose, normalise: nn.Module) -> None:
        super().__init__()
        self.whose = whose
        self.normalise = normalise
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        self.fires = nn.ModuleDict({name: Fire(*shape) for name, shape in FIRES.items()})

    def features(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Give (B, 256, H/8, W/8) of fire5 and (B, 512, H/16, W/16) of fire9."""
        x = nnf.pad(self.normalise(picture), CENTRED)
        x = nnf.relu(self.conv1(x))
        x = self._run(_pool(x), "fire2", "fire3")
        at_8 = self._run(_pool(x), "fire4", "fire5")
        at_16 = self._run(_pool(at_8), "fire6", "fire7", "fire8", "fire9")
        return at_8, at_16

    def _run(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.fires[name](x)
        return x


def load_squeezenet(weights: Path, licence: str | None = None) -> SqueezeNet:
    """Read either file, by its suffix.

    Raises:
        WeightsError: Missing, damaged, another network's, or nobody says their licence.
    """
    is_caffe = weights.suffix == ".npz"
    state = _read_npz(weights) if is_caffe else _read_torchvision(weights)
    owner = tell_whose(weights, WHAT, (*PUBLISHED, CONVERTED), licence)
    network = SqueezeNet(owner, CaffeNormalise() if is_caffe else ImageNetNormalise())
    fill(network, state, weights, WHAT)
    network.requires_grad_(requires_grad=False).eval()
    return network


def fetch_squeezenet(place: Path | None = None) -> str:
    """Say what to fetch."""
    return fetch(PUBLISHED, place)


def _read_npz(weights: Path) -> dict[str, Tensor]:
    """Read float16 arrays in OIHW order under Caffe's layer names."""
    return {
        _npz_key(name): torch.from_numpy(array)
        for name, array in read_arrays(weights, WHAT).items()
        if not name.startswith("conv10.")  # the classifier
    }


def _npz_key(name: str) -> str:
    return f"fires.{name.replace('/', '.')}" if name.startswith("fire") else name


def _read_torchvision(weights: Path) -> dict[str, Tensor]:
    state = read_state_dict(weights)
    return {_torchvision_key(k): v for k, v in state.items() if not k.startswith("classifier.")}


def _torchvision_key(name: str) -> str:
    section, _, rest = name.partition(".")
    index, _, last = rest.partition(".")
    if section != "features":
        return name
    if index == "0":
        return f"conv1.{last}"
    return f"fires.{TORCHVISION_INDEX[index]}.{last}" if index in TORCHVISION_INDEX else name


def _pool(x: Tensor) -> Tensor:
    return nnf.max_pool2d(x, 3, stride=2, ceil_mode=True)
