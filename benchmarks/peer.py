"""EfficientAD as a well-known library exports it, from its public architecture.

Three networks that each normalise the picture, the teacher's statistics beside its features, both
maps padded and enlarged before they are scaled and averaged. Weights are drawn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import Pdn, PdnShape, initialise, student_network, teacher_network

BORDER = 4


def random_networks(side_px: int) -> tuple[Pdn, Pdn, Autoencoder]:
    """Draw teacher, student and autoencoder of the full width."""
    shape = PdnShape("S", 1.0)
    teacher, student = initialise(teacher_network(shape)), initialise(student_network(shape))
    return teacher, student, Autoencoder(shape, (side_px, side_px))


class PeerEfficientAd(nn.Module):
    """(1, 3, H, W) float32 in 0..1 gives the anomaly map (1, 1, H, W) and its maximum."""

    mean: Tensor
    std: Tensor
    quantiles: Tensor

    def __init__(self, teacher: Pdn, student: Pdn, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.teacher, self.student, self.autoencoder = teacher, student, autoencoder
        channels = teacher.channels
        self.register_buffer("mean", torch.rand(1, channels, 1, 1))
        self.register_buffer("std", torch.rand(1, channels, 1, 1) + 0.5)
        self.register_buffer("quantiles", torch.tensor([0.1, 0.9, 0.1, 0.9]))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for one picture."""
        n, side_px = self.teacher.channels, picture.shape[-1]
        teacher = (self.teacher(imagenet_normalise(255 * picture)) - self.mean) / self.std
        student = self.student(imagenet_normalise(255 * picture))
        autoencoder = self.autoencoder(imagenet_normalise(255 * picture))
        local_map = (teacher - student[:, :n]).square().mean(dim=1, keepdim=True)
        global_map = (autoencoder - student[:, n:]).square().mean(dim=1, keepdim=True)
        low, high, global_low, global_high = self.quantiles
        local_map = 0.1 * (self._enlarged(local_map, side_px) - low) / (high - low)
        global_map = self._enlarged(global_map, side_px) - global_low
        anomaly_map = 0.5 * local_map + 0.5 * (0.1 * global_map / (global_high - global_low))
        return anomaly_map, anomaly_map.amax(dim=(1, 2, 3))

    @staticmethod
    def _enlarged(small: Tensor, side_px: int) -> Tensor:
        padded = nnf.pad(small, (BORDER, BORDER, BORDER, BORDER))
        return nnf.interpolate(padded, size=(side_px, side_px), mode="bilinear")
