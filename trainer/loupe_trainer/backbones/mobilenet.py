"""MobileNet 1.0 (Howard et al., arXiv 1704.04861), from an npz of Keras' weights.

Its tokens tell cracks and uneven areas of a surface better than SqueezeNet's do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.backbones.base import Backbone
from loupe_trainer.backbones.npz_file import read_arrays
from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import PLACE, PublishedFile, Whose, tell_whose
from loupe_trainer.torch_file import fill

WHAT: Final = "MobileNet 1.0"
# Nobody publishes the npz: it is the first twelve blocks of the TensorFlow.js model (float16, HWIO)
# under Keras' layer names. This is the hash of the conversion that was checked here.
CONVERTED: Final = PublishedFile(
    name="mobilenet_v1_1.0_224",
    file="mobilenet_v1_1.0_224_blocks1-12_fp16.npz",
    url="https://storage.googleapis.com/tfjs-models/tfjs/mobilenet_v1_1.0_224/model.json",
    sha256="dba8ffad3d2ffb2ebb6eabe142eb52010f8b7c06c755872c23f963a6b6ea0f4b",
    licence="Apache-2.0",
)
EPSILON: Final = 1e-3  # Keras' batch normalisation
# (channels in, channels out, stride) of the eleven blocks that are run
BLOCKS: Final = (
    (32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
    *((512, 512, 1),) * 5,
)  # fmt: skip
AT_8: Final = 5  # blocks before the map at an eighth is taken
# Strided layers pad at their right and bottom only, so maps drift to the left and up. Moving the
# picture by 5 px puts cells within 3 px of the middle of what they describe.
CENTRED: Final = (5, -5, 5, -5)

Arrays = dict[str, npt.NDArray[np.float32]]


class Convolution(nn.Module):
    """A convolution with its batch normalisation folded in, padded as TensorFlow does, ReLU6."""

    def __init__(self, channels: int, out: int, size: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, size, stride, groups=groups)
        self._padding = (0, 1, 0, 1) if stride > 1 else ((size - 1) // 2,) * 4

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, out, H / stride, W / stride)."""
        return nnf.relu6(self.conv(nnf.pad(x, self._padding)))


class MobileNet(Backbone):
    """MobileNet 1.0 up to its eleventh block.

    Pictures of a multiple of 16 px give maps at exactly an eighth and a sixteenth.
    """

    strides_px = (8, 16)
    channels = (256, 512)

    def __init__(self, whose: Whose) -> None:
        super().__init__()
        self.whose = whose
        self.stem = Convolution(3, 32, 3, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Convolution(channels, channels, 3, stride, groups=channels),
                Convolution(channels, out, 1, 1),
            )
            for channels, out, stride in BLOCKS
        )

    def features(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Give (B, 256, H/8, W/8) of the fifth block and (B, 512, H/16, W/16) of the eleventh."""
        x = self.stem(nnf.pad(picture / 127.5 - 1, CENTRED))
        for block in self.blocks[:AT_8]:
            x = block(x)
        at_8 = x
        for block in self.blocks[AT_8:]:
            x = block(x)
        return at_8, x


def load_mobilenet(weights: Path, licence: str | None = None) -> MobileNet:
    """Read the npz.

    Raises:
        WeightsError: Missing, damaged, another network's, or nobody says their licence.
    """
    arrays = read_arrays(weights, WHAT)
    network = MobileNet(tell_whose(weights, WHAT, (CONVERTED,), licence))
    state = _folded(arrays, weights, "conv1/kernel", "conv1_bn", "stem.conv")
    for i in range(len(BLOCKS)):
        for j, (layer, kernel) in enumerate((("dw", "depthwise_kernel"), ("pw", "kernel"))):
            name = f"conv_{layer}_{i + 1}"
            state |= _folded(
                arrays, weights, f"{name}/{kernel}", f"{name}_bn", f"blocks.{i}.{j}.conv"
            )
    fill(network, state, weights, WHAT)
    network.requires_grad_(requires_grad=False).eval()
    return network


def fetch_mobilenet(place: Path | None = None) -> str:
    """Say what to fetch, and what to make of it: nobody publishes the file."""
    return (
        f"fetch the arrays that {CONVERTED.url} lists, and save them under the names they have "
        f"there (conv1/kernel, conv1_bn/gamma, conv_dw_1/depthwise_kernel, ...), with numpy.savez "
        f"to {place or PLACE / CONVERTED.file} (the conversion that is known here has sha256 "
        f"{CONVERTED.sha256})"
    )


def _folded(arrays: Arrays, file: Path, kernel: str, norm: str, to: str) -> dict[str, Tensor]:
    """Give a convolution's weight and bias, its batch normalisation folded into them."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    try:
        taps = arrays[kernel]
        gamma, beta, mean, variance = (arrays[f"{norm}/{name}"] for name in names)
    except KeyError as error:
        raise WeightsError(f"{file}: not {WHAT}: it lacks {error.args[0]}") from error
    is_depthwise = kernel.endswith("depthwise_kernel")
    weight = taps.transpose((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1))
    gain = gamma / np.sqrt(variance + EPSILON)
    return {
        f"{to}.weight": torch.from_numpy(weight * gain[:, None, None, None]),
        f"{to}.bias": torch.from_numpy(beta - mean * gain),
    }
