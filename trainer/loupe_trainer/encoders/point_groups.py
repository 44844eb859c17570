"""The mini-PointNet that turns a group of points into a token, in its plain and its cheap form.

Point-MAE, section 3.1, after Qi et al., *PointNet* (CVPR 2017). The plain form is the published
one and is trained. The cheap form says the same with six tenths of the products: the part of the
third layer that sees the group's maximum is the same for all its points, and so is computed once a
group; the part that sees the point follows on the second layer with nothing between them, so that
both are one matrix.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.encoders.point_shape import Norm, PointShape
from loupe_trainer.precision import KeepsFloat32, StaysFloat32

OVER_POINTS = (1, 2)  # axes of (B, G, M, C) that a frame's statistics go over


class GroupNet(nn.Module):
    """The plain form, with the published checkpoint's names."""

    def __init__(self, shape: PointShape) -> None:
        super().__init__()
        hidden, local = shape.hidden, shape.local
        self.first_conv = nn.Sequential(
            nn.Conv1d(3, hidden, 1), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Conv1d(hidden, local, 1)
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(2 * local, 2 * local, 1), nn.BatchNorm1d(2 * local), nn.ReLU(),
            nn.Conv1d(2 * local, shape.width, 1),
        )  # fmt: skip

    def forward(self, groups: Tensor) -> Tensor:
        """Take (B, G, M, 3) and give (B, G, width)."""
        n_frames, n_groups, n_points, _ = groups.shape
        described = self.first_conv(groups.flatten(0, 1).transpose(1, 2))
        whole = described.amax(2, keepdim=True).expand(-1, -1, n_points)
        described = self.second_conv(torch.cat((whole, described), 1))
        token: Tensor = described.amax(2).unflatten(0, (n_frames, n_groups))
        return token


class FrozenGroupNet(KeepsFloat32):
    """The cheap form, for evaluation only; weights are taken over once.

    In a `half()` copy the layer that sees metres, biases, and statistics of a frame are float32. A
    group is small beside what the biases make of its centre, and FP16 has few digits for a small
    difference of large numbers. So what the biases alone give is taken off in front of each FP16
    product, and what the product would have made of it is in the next bias.
    """

    float32_buffers = (
        "first", "first_bias", "first_floor", "third_bias", "third_floor", "last_bias"
    )  # fmt: skip

    def __init__(self, plain: GroupNet, norm: Norm) -> None:
        super().__init__()
        conv1, norm1, conv2 = _layers(plain.first_conv)
        conv3, norm3, conv4 = _layers(plain.second_conv)
        of_whole, of_point = _matrix(conv3).chunk(2, 1)
        # In float64, so that two matrices in one round as little as two in a row.
        second = _matrix(conv2)
        weights = {
            "first": _matrix(conv1), "local": second, "third": of_point @ second,
            "whole": of_whole, "last": _matrix(conv4),
        }  # fmt: skip
        # max(W h) + b takes the second layer's bias out of the maximum: it is added once a group,
        # to what both halves of the third layer see.
        biases = {
            "first_bias": _bias(conv1),
            "third_bias": _bias(conv3) + (of_whole + of_point) @ _bias(conv2),
            "last_bias": _bias(conv4),
            "first_floor": torch.zeros(len(_bias(conv1))).double(),
            "third_floor": torch.zeros(len(_bias(conv3))).double(),
        }
        made = weights | biases
        if norm == "running":
            _fold(made, norm1, ("first",), "first_bias")
            _fold(made, norm3, ("third", "whole"), "third_bias")
            _about_the_centre(made)
        for name, value in made.items():
            self.register_buffer(name, value.detach().float().contiguous())
        self.norms = nn.ModuleList([_FrameNorm(norm1), _FrameNorm(norm3)] * (norm == "frame"))

    first: Tensor
    first_bias: Tensor
    first_floor: Tensor
    local: Tensor
    third: Tensor
    third_bias: Tensor
    third_floor: Tensor
    whole: Tensor
    last: Tensor
    last_bias: Tensor

    def forward(self, groups: Tensor) -> Tensor:
        """Take (B, G, M, 3) and give (B, G, width) float32."""
        dtype = self.local.dtype
        hidden = nnf.linear(groups.float(), self.first, self.first_bias)
        if self.norms:
            hidden = self.norms[0](hidden)
        hidden = torch.maximum(hidden, self.first_floor).to(dtype)
        whole = nnf.linear(hidden, self.local).amax(2, keepdim=True)
        beside = nnf.linear(whole, self.whole).float() + self.third_bias
        described = nnf.linear(hidden, self.third).float() + beside
        if self.norms:
            described = self.norms[1](described)
        described = torch.maximum(described, self.third_floor).to(dtype)
        return nnf.linear(described, self.last).amax(2).float() + self.last_bias


def _about_the_centre(made: dict[str, Tensor]) -> None:
    """Make both activations 0 at a group's centre; changes `made`.

    max(x, 0) less max(b, 0), for x = W p + b, is max(W p + b - max(b, 0), -max(b, 0)).
    """
    rest = made["first_bias"].relu()
    made["third_bias"] += made["whole"] @ (made["local"] @ rest) + made["third"] @ rest
    made["first_bias"], made["first_floor"] = made["first_bias"] - rest, -rest
    rest = made["third_bias"].relu()
    made["last_bias"] += made["last"] @ rest
    made["third_bias"], made["third_floor"] = made["third_bias"] - rest, -rest


class _FrameNorm(StaysFloat32):
    """Batch normalisation with the statistics of the frame itself: all points of all its groups."""

    def __init__(self, plain: nn.BatchNorm1d) -> None:
        super().__init__()
        self.register_buffer("scale", plain.weight.detach().clone())
        self.register_buffer("shift", plain.bias.detach().clone())
        self.eps = plain.eps

    scale: Tensor
    shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Take (B, G, M, C) and give the same shape; statistics are float32."""
        x = x.float()
        away = x - x.mean(OVER_POINTS, keepdim=True)
        variance = away.square().mean(OVER_POINTS, keepdim=True)
        return away * (self.scale / (variance + self.eps).sqrt()) + self.shift


def _layers(net: nn.Sequential) -> tuple[nn.Conv1d, nn.BatchNorm1d, nn.Conv1d]:
    """Tell the type checker what `GroupNet` is made of."""
    conv, norm, _, last = net
    return cast("nn.Conv1d", conv), cast("nn.BatchNorm1d", norm), cast("nn.Conv1d", last)


def _bias(conv: nn.Conv1d) -> Tensor:
    return cast("Tensor", conv.bias).detach().double()


def _matrix(conv: nn.Conv1d) -> Tensor:
    return conv.weight.detach().squeeze(2).double()


def _fold(
    made: dict[str, Tensor], norm: nn.BatchNorm1d, weights: tuple[str, ...], bias: str
) -> None:
    """Put running statistics into the layer before them; changes `made`."""
    if norm.running_mean is None or norm.running_var is None:
        return  # a norm without running statistics has nothing to fold
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    for name in weights:
        made[name] = made[name] * gain[:, None]
    made[bias] = (made[bias] - norm.running_mean.double()) * gain + norm.bias.double()
