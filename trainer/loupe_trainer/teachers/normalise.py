"""ImageNet's normalisation: the one place that knows its numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


class ImageNetNormalise(nn.Module):
    """Take (B, 3, H, W) float pictures from 0..255 to ImageNet's zero mean and unit spread.

    Its constants are buffers, so they go into the exported graph and not into checkpoints.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = 255 * torch.tensor(IMAGENET_MEAN_RGB).view(1, 3, 1, 1)
        std = 255 * torch.tensor(IMAGENET_STD_RGB).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Normalise, in float32."""
        return (picture - self.mean) / self.std


def imagenet_normalise(picture: Tensor) -> Tensor:
    """Normalise (B, 3, H, W) float pictures from 0..255, outside any network."""
    return ImageNetNormalise().to(picture.device)(picture)  # type: ignore[no-any-return]
