"""SqueezeNet 1.1 from an npz of its Caffe weights: small, BSD, and good enough to teach."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.backbones.base import Backbone
from loupe_trainer.errors import WeightsError

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


class SqueezeNet(Backbone):
    """SqueezeNet 1.1 up to its last fire module.

    Pictures of a multiple of 16 px give maps at exactly an eighth and a sixteenth.
    """

    name = "squeezenet_v1.1"
    licence = "BSD-2-Clause"
    strides_px = (8, 16)
    channels = (256, 512)
    mean: Tensor

    def __init__(self, sha256: str) -> None:
        super().__init__()
        self.sha256 = sha256
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        self.fires = nn.ModuleDict({name: Fire(*shape) for name, shape in FIRES.items()})
        mean = torch.tensor(CAFFE_MEAN_BGR).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Same as `features`."""
        return self.features(picture)

    def features(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Give (B, 256, H/8, W/8) of fire5 and (B, 512, H/16, W/16) of fire9."""
        x = picture.flip(1) - self.mean  # Caffe: blue first, 0..255
        x = nnf.pad(x, CENTRED)
        x = nnf.relu(self.conv1(x))
        x = self._run(_pool(x), "fire2", "fire3")
        at_8 = self._run(_pool(x), "fire4", "fire5")
        at_16 = self._run(_pool(at_8), "fire6", "fire7", "fire8", "fire9")
        return at_8, at_16

    def _run(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.fires[name](x)
        return x


def load_squeezenet(weights: Path) -> SqueezeNet:
    """Read the weights, stored as float16 in OIHW order under Caffe's layer names.

    Raises:
        WeightsError: Missing, damaged, or another network's.
    """
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{weights}: cannot be read ({error.strerror}); it should hold SqueezeNet 1.1 as npz "
            f"(conv1.weight, fire2/squeeze1x1.weight ... in OIHW order), converted from "
            f"squeezenet_v1.1.bin of github.com/nihui/ncnn-assets"
        ) from error
    network = SqueezeNet(hashlib.sha256(content).hexdigest())
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            state = {
                _key(name): torch.from_numpy(arrays[name].astype(np.float32))
                for name in arrays.files
                if not name.startswith("conv10.")  # the classifier
            }
        network.load_state_dict(state)
    except (ValueError, RuntimeError, zipfile.BadZipFile, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{weights}: not SqueezeNet 1.1's weights ({reason})") from error
    network.requires_grad_(requires_grad=False).eval()
    return network


def _key(name: str) -> str:
    return f"fires.{name.replace('/', '.')}" if name.startswith("fire") else name


def _pool(x: Tensor) -> Tensor:
    return nnf.max_pool2d(x, 3, stride=2, ceil_mode=True)
