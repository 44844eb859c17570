"""The four losses of EfficientAD, and the two maps they leave behind."""

from __future__ import annotations

import math

from torch import Tensor

HARD_QUANTILE = 0.999


def hard_feature_loss(teacher: Tensor, student: Tensor, quantile: float = HARD_QUANTILE) -> Tensor:
    """Average the squared differences at or above their quantile, image by image.

    The quantile is of all elements of one image. It is never computed: the elements that reach
    it are the k largest, and finding those is some ten times faster than sorting a million.

    Args:
        teacher: (B, C, H, W) normalised features.
        student: (B, C, H, W) its imitation.
        quantile: 0 averages over all elements.
    """
    difference = (teacher.float() - student.float()).square().flatten(1)  # (B, C*H*W)
    n = difference.shape[1]
    n_hard = n - math.ceil(quantile * (n - 1))
    return difference.topk(n_hard, dim=1, sorted=False).values.mean()


def penalty_loss(student: Tensor) -> Tensor:
    """Keep the student silent, (B, C, H, W), on pictures that show no part at all."""
    return student.float().square().mean()


def imitation_loss(target: Tensor, imitation: Tensor) -> Tensor:
    """Average the squared difference; the gradient flows into whichever side has one."""
    return (target.float() - imitation.float()).square().mean()


def squared_distance_map(a: Tensor, b: Tensor) -> Tensor:
    """Give the channel mean of the squared difference, (B, 1, H, W) float32.

    Always in float32: differences above 255 square to infinity in float16, and those below
    2.4e-4 to zero.
    """
    return (a.float() - b.float()).square().mean(dim=1, keepdim=True)
