"""Normalisation; the one place that knows ImageNet's numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loupe_trainer.precision import StaysFloat32

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


class Normalise(StaysFloat32):
    """Take (B, 3, H, W) float pictures from 0..255 to zero mean and unit spread.

    Its constants, of pictures in 0..1, are buffers, so they go into the exported graph and not
    into checkpoints.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean_rgb: Sequence[float], std_rgb: Sequence[float]) -> None:
        super().__init__()
        mean = 255 * torch.tensor(mean_rgb).view(1, 3, 1, 1)
        std = 255 * torch.tensor(std_rgb).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Normalise, in float32."""
        return (picture - self.mean) / self.std


class ImageNetNormalise(Normalise):
    """The mean and the spread of ImageNet's photographs."""

    def __init__(self) -> None:
        super().__init__(IMAGENET_MEAN_RGB, IMAGENET_STD_RGB)


def imagenet_normalise(picture: Tensor) -> Tensor:
    """Normalise (B, 3, H, W) float pictures from 0..255, outside any network."""
    return ImageNetNormalise().to(picture.device)(picture)  # type: ignore[no-any-return]
