"""MobileNet 1.0 (Howard et al., arXiv 1704.04861), from an npz of Keras' weights.

Its tokens tell cracks and uneven areas of a surface better than SqueezeNet's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class KerasFile:
    """Keras' arrays by layer and name, each taken with the shape that it has to have."""

    file: Path
    arrays: Mapping[str, npt.NDArray[np.float32]]

    def folded(
        self, layer: str, kernel: str, shape: tuple[int, int, int, int], to: str
    ) -> dict[str, Tensor]:
        """Give a convolution's weight and bias, its batch normalisation folded into them.

        Args:
            layer: Its name; the normalisation's ends in `_bn`.
            kernel: `depthwise_kernel` is (H, W, channels, 1), `kernel` (H, W, in, out).
            shape: The kernel's.
            to: Begins the names of what is given.

        Raises:
            WeightsError: An array is missing or of another shape, or a variance is negative.
        """
        taps = self._taken(f"{layer}/{kernel}", shape)
        is_depthwise = kernel == "depthwise_kernel"
        n_out = shape[2] if is_depthwise else shape[3]
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (self._taken(f"{layer}_bn/{n}", (n_out,)) for n in names)
        if (variance < 0).any():
            raise WeightsError(
                f"{self.file}: not {WHAT}: {layer}_bn/{names[-1]} has negative values"
            )
        weight = taps.transpose((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1))
        gain = gamma / np.sqrt(variance + EPSILON)
        return {
            f"{to}.weight": torch.from_numpy(weight * gain[:, None, None, None]),
            f"{to}.bias": torch.from_numpy(beta - mean * gain),
        }

    def _taken(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if name not in self.arrays:
            raise WeightsError(f"{self.file}: not {WHAT}: it lacks {name}")
        array = self.arrays[name]
        if array.shape != shape:
            raise WeightsError(
                f"{self.file}: not {WHAT}: {name} is {array.shape}, expected {shape}"
            )
        return array


def load_mobilenet(weights: Path, licence: str | None = None) -> MobileNet:
    """Read the npz.

    Raises:
        WeightsError: Missing, damaged, another network's, or nobody says their licence.
    """
    arrays = read_arrays(weights, WHAT)
    network = MobileNet(tell_whose(weights, WHAT, (CONVERTED,), licence))
    keras = KerasFile(weights, arrays)
    state = keras.folded("conv1", "kernel", (3, 3, 3, 32), "stem.conv")
    for i, (channels, out, _) in enumerate(BLOCKS):
        depthwise, pointwise = (3, 3, channels, 1), (1, 1, channels, out)
        to = f"blocks.{i}"
        state |= keras.folded(f"conv_dw_{i + 1}", "depthwise_kernel", depthwise, f"{to}.0.conv")
        state |= keras.folded(f"conv_pw_{i + 1}", "kernel", pointwise, f"{to}.1.conv")
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
