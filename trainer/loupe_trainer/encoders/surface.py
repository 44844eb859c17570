"""What a surface looks like from its organized cloud: normals, curvature, height. No weights.

Finite differences and means that leave holes out, in ordinary operators, so that they run inside
the exported graph. Nothing is NaN: where nothing is known, everything is 0.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as nnf
from torch import Tensor

N_CHANNELS: Final = 6
MM_PER_M: Final = 1000.0
HEIGHT_UNIT_MM: Final = 10.0
SMOOTH_PX: Final = 5  # against the sensor's noise, which is larger than a pixel's pitch
BEND_PX: Final = 15  # a bend is told from the plane over about a dent's width
FEW: Final = 1e-6


def surface_channels(xyz: Tensor, valid: Tensor) -> Tensor:
    """Describe every pixel by its neighbourhood.

    Args:
        xyz: (B, H, W, 3) float32 metres, 0 where invalid; z is the height above the belt where
            the station knows its belt.
        valid: (B, H, W) uint8.

    Returns:
        (B, 6, H, W) float32: the unit normal with z upwards (3), how far the surface around lies
        above the point along it (mm), the height (cm), and validity; all 0 on invalid pixels.
    """
    known = valid.float().unsqueeze(1)
    points_mm = xyz.float().permute(0, 3, 1, 2) * MM_PER_M
    near_mm = _mean_of_known(points_mm, known, SMOOTH_PX)
    normal = _normal(near_mm, known)
    around_mm = _mean_of_known(points_mm, known, BEND_PX)
    bend_mm = ((around_mm - near_mm) * normal).sum(1, keepdim=True)
    height = near_mm[:, 2:] / HEIGHT_UNIT_MM
    return torch.cat((normal, bend_mm, height, torch.ones_like(height)), 1) * known


def _mean_of_known(x: Tensor, known: Tensor, side_px: int) -> Tensor:
    """Average over a window what is known in it; 0 where nothing is."""
    half = side_px // 2
    total = nnf.avg_pool2d(x * known, side_px, 1, half)
    return total / nnf.avg_pool2d(known, side_px, 1, half).clamp(min=FEW)


def _normal(points: Tensor, known: Tensor) -> Tensor:
    """Give unit normals with z upwards; 0 where there is no neighbour along either axis."""
    along_x, along_y = (_slope(points, known, axis) for axis in (3, 2))
    x1, y1, z1 = along_x.unbind(1)
    x2, y2, z2 = along_y.unbind(1)
    cross = torch.stack((y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2), 1)
    unit = cross / (cross.square().sum(1, keepdim=True) + FEW**2).sqrt()
    upwards = torch.where(unit[:, 2:] < 0, -1.0, 1.0)
    return unit * upwards


def _slope(points: Tensor, known: Tensor, axis: int) -> Tensor:
    """Average the steps to the known neighbours before and after; 0 where there is none."""
    n = points.shape[axis]
    step = points.narrow(axis, 1, n - 1) - points.narrow(axis, 0, n - 1)
    both = known.narrow(axis, 1, n - 1) * known.narrow(axis, 0, n - 1)
    total, n_known = (_on_both_sides(x, axis) for x in (step * both, both))
    return total / n_known.clamp(min=1.0)


def _on_both_sides(between: Tensor, axis: int) -> Tensor:
    """Add to every pixel what lies between it and the one before, and it and the one after."""
    end = torch.zeros_like(between.narrow(axis, 0, 1))
    return torch.cat((end, between), axis) + torch.cat((between, end), axis)
