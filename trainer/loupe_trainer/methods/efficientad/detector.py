"""What is exported: bytes in, normalised anomaly map and image score out."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.methods.base import Detector
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.losses import squared_distance_map
from loupe_trainer.methods.efficientad.quantiles import MapScale
from loupe_trainer.teachers.normalise import ImageNetNormalise
from loupe_trainer.teachers.pdn import STRIDE_PX, Pdn

MAP_BORDER = 4
"""Map pixels that the unpadded networks lose on each side, at a quarter of the resolution."""


class EfficientAdDetector(Detector):
    """Teacher, student and autoencoder behind one normalisation.

    Takes `rgb`, uint8 (1, H, W, 3). Convolutions run in the networks' own dtype; everything
    around them is float32, said explicitly, so that a half-precision copy keeps these islands.

    Args:
        teacher: With the statistics of its channels folded in.
        student: Twice the teacher's channels.
        autoencoder: For pictures of one size.
        global_weight: Share of the autoencoder's map in the fused one.
    """

    def __init__(
        self, teacher: Pdn, student: Pdn, autoencoder: Autoencoder, global_weight: float = 0.5
    ) -> None:
        super().__init__()
        self.global_weight = global_weight
        self.normalise = ImageNetNormalise()
        self.teacher = teacher
        self.student = student
        self.autoencoder = autoencoder
        self.local_scale = MapScale()
        self.global_scale = MapScale()

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for (1, H, W, 3) uint8."""
        local_map, global_map = self.raw_maps(rgb)
        share = self.global_weight
        fused = (1 - share) * self.local_scale(local_map) + share * self.global_scale(global_map)
        padded = zero_border(fused, MAP_BORDER)
        anomaly_map = nnf.interpolate(padded, scale_factor=STRIDE_PX, mode="bilinear")
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))

    def raw_maps(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Give both maps before any scale, (1, 1, H/4 - 8, W/4 - 8) float32.

        Returns:
            Where the student fails to imitate the teacher, and where it disagrees with the
            autoencoder.
        """
        # Cast before Permute: TensorRT takes uint8 at the network's edge only.
        picture = self.normalise(rgb.float().permute(0, 3, 1, 2)).to(self.student.last.weight.dtype)
        stemmed = self.teacher.stem(picture)
        shared = self.student.stem is self.teacher.stem
        teacher = self.teacher.describe(stemmed).float()
        student = self.student.describe(stemmed if shared else self.student.stem(picture)).float()
        autoencoder = self.autoencoder(picture).float()
        n = self.teacher.channels
        return (
            squared_distance_map(teacher, student[:, :n]),
            squared_distance_map(autoencoder, student[:, n:]),
        )


def zero_border(anomaly_map: Tensor, n: int) -> Tensor:
    """Frame (1, 1, H, W) with `n` zeros on each side.

    By concatenation, because `pad` exports as a chain of shape arithmetic that no exporter folds.
    """
    rows = torch.zeros_like(anomaly_map[:, :, :n])
    tall = torch.cat((rows, anomaly_map, rows), dim=2)
    columns = torch.zeros_like(tall[:, :, :, :n])
    return torch.cat((columns, tall, columns), dim=3)


def fold_statistics(teacher: Pdn, mean: Tensor, std: Tensor) -> None:
    """Make a teacher give (output - mean) / std, by changing the weights of its last layer.

    Args:
        teacher: Changed in place.
        mean: (C,) of its channels over the training pictures.
        std: (C,), positive.
    """
    last = teacher.last
    bias = nn.Parameter((_bias(last) - mean) / std, requires_grad=False)
    last.weight = nn.Parameter(last.weight / std.view(-1, 1, 1, 1), requires_grad=False)
    last.bias = bias


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
