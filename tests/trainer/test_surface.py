"""What a surface looks like: known shapes have known normals, bends and heights, up to holes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_trainer.encoders.surface import surface_channels

SIDE_PX = 48
PITCH_M = 5e-4


def cloud(height_m: npt.NDArray[np.float64]) -> Tensor:
    v, u = np.mgrid[:SIDE_PX, :SIDE_PX]
    return torch.from_numpy(np.stack((u * PITCH_M, v * PITCH_M, height_m), -1)).float()[None]


def everywhere() -> Tensor:
    return torch.ones(1, SIDE_PX, SIDE_PX, dtype=torch.uint8)


def slope(degrees: float) -> Tensor:
    u = np.mgrid[:SIDE_PX, :SIDE_PX][1]
    return cloud(0.01 + u * PITCH_M * math.tan(math.radians(degrees)))


def test_a_slope_has_its_normal_everywhere_and_no_bend() -> None:
    said = surface_channels(slope(30), everywhere())[0]
    inside = said[:, 8:-8, 8:-8]
    expected = torch.tensor([-0.5, 0.0, math.cos(math.radians(30))])
    torch.testing.assert_close(
        inside[:3], expected[:, None, None].expand_as(inside[:3]), rtol=0, atol=1e-3
    )
    assert inside[3].abs().max() < 1e-3
    assert (said[5] == 1).all()


def test_normals_point_upwards_whichever_way_the_axes_run() -> None:
    mirrored = slope(30) * torch.tensor([-1.0, 1.0, 1.0])
    assert (surface_channels(mirrored, everywhere())[0, 2] > 0).all()


def test_height_is_in_centimetres() -> None:
    said = surface_channels(cloud(np.full((SIDE_PX, SIDE_PX), 0.025)), everywhere())[0]
    torch.testing.assert_close(said[4, 8:-8, 8:-8], torch.full((32, 32), 2.5))


def test_a_dent_bends_up_around_its_floor_and_a_bump_down() -> None:
    v, u = np.mgrid[:SIDE_PX, :SIDE_PX] - 24
    bowl_m = 1e-3 * np.exp(-(u**2 + v**2) / 18)
    dent, bump = (
        surface_channels(cloud(0.01 + sign * bowl_m), everywhere())[0, 3] for sign in (-1, 1)
    )
    assert dent[24, 24] > 0.3
    assert bump[24, 24] < -0.3
    assert dent[8, 8].abs() < 0.01


def test_holes_are_zero_and_leave_what_lies_beside_them_as_it_is() -> None:
    valid = everywhere()
    valid[:, 20:26, 20:30] = 0
    whole = slope(20)
    said = surface_channels(whole * valid[..., None], valid)[0]
    assert said.isfinite().all()
    assert (said[:, 20:26, 20:30] == 0).all()
    beside = surface_channels(whole, everywhere())[0, :3, 19, 24]
    assert torch.nn.functional.cosine_similarity(said[:3, 19, 24], beside, dim=0) > 0.999


def test_a_lonely_point_and_an_empty_cloud_are_no_nan() -> None:
    valid = torch.zeros_like(everywhere())
    nothing = surface_channels(torch.zeros(1, SIDE_PX, SIDE_PX, 3), valid)
    assert (nothing == 0).all()
    valid[0, 10, 10] = 1
    said = surface_channels(slope(10) * valid[..., None], valid)
    assert said.isfinite().all()
    assert (said[0, :3, 10, 10] == 0).all()  # no neighbour, no normal
    assert said[0, 5].sum() == 1
