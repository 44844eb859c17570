"""Planes: what OpenCV does to them, done inside a graph."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from loupe_trainer.planes import Blur, Continued, inner, inside_mask

HW_PX, SIGMA_PX = (30, 41), 1.5


@pytest.mark.parametrize(
    ("has_zeros_around", "border"), [(True, cv2.BORDER_CONSTANT), (False, cv2.BORDER_REPLICATE)]
)
def test_a_blur_is_the_gaussian_of_opencv(*, has_zeros_around: bool, border: int) -> None:
    plane = np.random.default_rng(0).random(HW_PX, np.float32)
    blur = Blur(SIGMA_PX, 3.0, has_zeros_around=has_zeros_around)
    given = torch.from_numpy(plane)[None, None]
    found = blur(given if has_zeros_around else Continued(HW_PX, blur.reach_px)(given))
    side = 2 * blur.reach_px + 1
    expected = cv2.GaussianBlur(plane, (side, side), SIGMA_PX, borderType=border)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, rtol=1e-5)


def test_a_blur_keeps_its_digits_in_a_half_copy() -> None:
    blur = Blur(SIGMA_PX, 3.0, has_zeros_around=True)
    plane = torch.rand(1, 1, *HW_PX)
    assert torch.equal(blur(plane), blur.half()(plane))


def test_a_border_is_left_out_of_mask_and_view() -> None:
    mask = inside_mask(HW_PX, 4)
    assert mask.sum() == (30 - 8) * (41 - 8)
    assert inner(mask, 4).min() == 1
    assert torch.equal(inner(mask, 0), mask)
