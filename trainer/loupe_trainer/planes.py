"""What is done to whole planes, (B, C, H, W), inside exported graphs: blurs, borders, edges."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.precision import StaysFloat32


class Blur(StaysFloat32):
    """A Gaussian over (B, 1, H, W), down and across, in float32.

    Args:
        sigma_px: Of the Gaussian.
        reach_sigmas: How far it reaches; its weights are then made to come to 1.
        has_zeros_around: Whether the plane is taken for 0 beyond its edges, and keeps its size.
            Otherwise it loses `reach_px` on each side.

    Attributes:
        reach_px: To each side of a pixel.
    """

    kernel: Tensor

    def __init__(self, sigma_px: float, reach_sigmas: float, *, has_zeros_around: bool) -> None:
        super().__init__()
        self.reach_px = math.ceil(reach_sigmas * sigma_px)
        self._padding_px = self.reach_px if has_zeros_around else 0
        offsets_px = torch.arange(-self.reach_px, self.reach_px + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (offsets_px / sigma_px).square())
        self.register_buffer("kernel", (weights / weights.sum()).float(), persistent=False)

    def forward(self, plane: Tensor) -> Tensor:
        """Blur a float32 plane."""
        padding_px = self._padding_px
        down = nnf.conv2d(plane, self.kernel.view(1, 1, -1, 1), padding=(padding_px, 0))
        return nnf.conv2d(down, self.kernel.view(1, 1, 1, -1), padding=(0, padding_px))


class Continued(nn.Module):
    """Continue planes beyond their edges by the values at the edges.

    By two gathers with constant indices: pads of this kind export as a chain of shape arithmetic.

    Args:
        size_hw: Of the planes.
        reach_px: So far to each side.
    """

    row_at: Tensor
    column_at: Tensor

    def __init__(self, size_hw: tuple[int, int], reach_px: int) -> None:
        super().__init__()
        for name, side in zip(("row_at", "column_at"), size_hw, strict=True):
            places = torch.arange(-reach_px, side + reach_px).clamp(0, side - 1)
            self.register_buffer(name, places, persistent=False)

    def forward(self, planes: Tensor) -> Tensor:
        """Take (B, C, H, W) to (B, C, H + 2 reach, W + 2 reach)."""
        return planes.index_select(2, self.row_at).index_select(3, self.column_at)


def inner(planes: Tensor, border_px: int) -> Tensor:
    """Give what lies inside a border of (..., H, W), as a view."""
    height, width = planes.shape[-2:]
    return planes[..., border_px : height - border_px, border_px : width - border_px]


def inside_mask(size_hw: tuple[int, int], border_px: int) -> Tensor:
    """Give (1, 1, H, W) float32: 1 inside a border, 0 on it."""
    mask = torch.zeros(1, 1, *size_hw)
    inner(mask, border_px).fill_(1)
    return mask
