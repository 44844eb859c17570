"""Relief and place: known shapes come out as what they are, up to holes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from loupe_trainer.encoders.relief import HEIGHT_SHARE, OUTLINE_MM, ReliefEncoder

SIDE_PX, CELLS = 96, 24
PITCH_M = 5e-4


def cloud(
    height_m: npt.NDArray[np.floating], valid: npt.NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    v, u = np.mgrid[:SIDE_PX, :SIDE_PX]
    points = np.stack((u * PITCH_M, -v * PITCH_M, height_m), -1) * valid[..., None]
    return torch.from_numpy(points).float()[None], torch.from_numpy(valid.astype(np.uint8))[None]


def part() -> npt.NDArray[np.bool_]:
    valid = np.zeros((SIDE_PX, SIDE_PX), np.bool_)
    valid[8:88, 16:80] = True
    return valid


def flat() -> npt.NDArray[np.float64]:
    return np.full((SIDE_PX, SIDE_PX), 0.006)


def encoder(place_mm: float | None = 10.0) -> ReliefEncoder:
    return ReliefEncoder(place_mm, (SIDE_PX, SIDE_PX), CELLS).eval()


def test_a_flat_part_has_height_and_place_and_no_relief() -> None:
    said = encoder()(*cloud(flat(), part()))[0]
    inside = said[:, 10:14, 10:14]
    assert inside[:3].abs().max() < 1e-3
    torch.testing.assert_close(inside[3], torch.full((4, 4), HEIGHT_SHARE * 6))
    torch.testing.assert_close(inside[4], torch.full((4, 4), OUTLINE_MM))
    step = 4 * PITCH_M * 1000 / 10  # a cell is 2 mm, and 10 mm count as one
    torch.testing.assert_close(said[5, 12, 10:14].diff(), torch.full((3,), step))
    torch.testing.assert_close(said[6, 10:14, 12].diff(), torch.full((3,), -step))
    assert said[5, 12, 11:13].mean().item() == pytest.approx(0, abs=1e-4)
    assert (said[:, :, 0] == 0).all()  # far from any point


def test_a_dent_lies_below_its_surroundings_and_moves_nothing_else() -> None:
    v, u = np.mgrid[:SIDE_PX, :SIDE_PX] - 48
    bowl_m = 2e-3 * np.exp(-(u**2 + v**2) / (2 * 5.0**2))
    enc = encoder()
    good, dented = (enc(*cloud(height, part()))[0] for height in (flat(), flat() - bowl_m))
    change = dented - good
    assert change[:3, 12, 12].sum() < -0.8
    assert change[:, 3, 5].abs().max() < 0.05
    assert change[4:].abs().max() < 1e-4


def test_the_part_carries_its_place_along() -> None:
    enc = encoder()
    here = enc(*cloud(flat(), part()))[0]
    there = enc(*cloud(flat(), np.roll(part(), 8, axis=1)))[0]
    torch.testing.assert_close(there[:, :, 2:], here[:, :, :-2], atol=1e-4, rtol=0)


def test_without_places_there_are_no_places() -> None:
    here, none = encoder(), encoder(None)
    assert (here.channels, none.channels) == (7, 5)
    given = cloud(flat(), part())
    torch.testing.assert_close(none(*given), here(*given)[:, :5])


def test_a_neighbours_corner_at_the_edge_is_not_the_part() -> None:
    enc = ReliefEncoder(10.0, (SIDE_PX, SIDE_PX), CELLS, border_px=4).eval()
    valid = part()
    valid[:, :3] = True
    torch.testing.assert_close(enc(*cloud(flat(), valid)), enc(*cloud(flat(), part())))


def test_a_hole_is_no_relief_and_an_empty_cloud_is_no_nan() -> None:
    enc = encoder()
    valid = part()
    valid[44:52, 44:52] = False
    said = enc(*cloud(flat(), valid))[0]
    assert said.isfinite().all()
    assert (said[:4, 11:13, 11:13] == 0).all()
    assert said[4, 11, 11] < 0.6 * OUTLINE_MM  # an outline is near
    assert said[:3, 9, 9].abs().max() < 1e-3
    nothing = enc(*cloud(flat(), np.zeros_like(valid)))
    assert (nothing == 0).all()


def test_a_half_copy_says_the_same() -> None:
    given = cloud(flat(), part())
    torch.testing.assert_close(encoder().half()(*given), encoder()(*given))
