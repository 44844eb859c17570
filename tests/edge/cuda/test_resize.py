"""Colour on the device is OpenCV's, byte for byte, at any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loupe_edge.cuda.front import GpuFront
from loupe_edge.cuda.tables import neighbours, shares
from loupe_models.frame import Frame, Rect
from loupe_models.preprocess import Crop, PreprocessSpec, Resize, preprocess

SIZE = st.tuples(st.integers(8, 90), st.integers(8, 90))


def differing(front: GpuFront, frame: Frame, region: Rect, *sizes_wh: tuple[int, int]) -> int:
    """Count the bytes of colour that are not the reference's."""
    resizes = tuple(Resize(width_px=width, height_px=height) for width, height in sizes_wh)
    spec = PreprocessSpec(steps=(Crop(), *resizes))
    ours, right = (run(frame, region, spec) for run in (front.preprocess, preprocess))
    made, wanted = ours.tensors["rgb"], right.tensors["rgb"]
    assert (made.dtype, made.shape) == (wanted.dtype, wanted.shape)
    assert ours.frame_px_from_map_px == right.frame_px_from_map_px
    return int(np.count_nonzero(made != wanted))


def picture(width: int, height: int, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    return Frame.from_image(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(from_wh=SIZE, to_wh=SIZE, seed=st.integers(0, 9))
def test_any_size_to_any_size(
    front: GpuFront, from_wh: tuple[int, int], to_wh: tuple[int, int], seed: int
) -> None:
    width, height = from_wh
    assert (
        differing(front, picture(width + 3, height + 2, seed), Rect(2, 1, width, height), to_wh)
        == 0
    )


@pytest.mark.parametrize(
    ("from_wh", "to_wh", "kernels"),
    [
        ((64, 48), (32, 24), ["shrink_whole"]),
        ((64, 48), (64, 16), ["shrink_whole"]),
        ((63, 56), (9, 8), ["shrink_whole"]),
        ((490, 10), (10, 10), ["shrink"]),  # 1 / (10 / 490) is not 49, so OpenCV takes shares
        ((64, 48), (63, 47), ["shrink"]),
        ((64, 48), (24, 24), ["shrink"]),
        ((30, 20), (60, 60), ["grow"]),
        ((30, 20), (31, 20), ["grow"]),
        ((1, 1), (9, 8), ["grow"]),
        ((64, 20), (16, 40), ["shrink_whole", "grow"]),
        ((20, 64), (41, 9), ["grow", "shrink"]),
        ((40, 30), (40, 30), []),
    ],
)
def test_each_way_of_resampling(
    host_front: GpuFront,
    nvidia_kernels: Any,
    from_wh: tuple[int, int],
    to_wh: tuple[int, int],
    kernels: list[str],
) -> None:
    assert differing(host_front, picture(*from_wh), Rect(0, 0, *from_wh), to_wh) == 0
    known = {"shrink_whole", "shrink", "grow"}
    assert [asked for asked in nvidia_kernels.gpu.asked if asked in known] == kernels


def test_one_resize_after_another(front: GpuFront) -> None:
    assert differing(front, picture(70, 50), Rect(3, 4, 60, 40), (30, 44), (64, 64), (20, 20)) == 0


def test_the_extremes_stay_what_they_are(front: GpuFront) -> None:
    for value in (0, 1, 127, 254, 255):
        frame = Frame.from_image(np.full((37, 53, 3), value, np.uint8))
        for to_wh in ((20, 11), (99, 80), (20, 80)):
            assert differing(front, frame, Rect(0, 0, 53, 37), to_wh) == 0


def test_a_real_photograph(front: GpuFront, real_data: Path) -> None:
    path = real_data / "rgbd_real" / "realsense_d435_felixchenfy" / "image00001.png"
    bgr = cv2.imread(str(path))
    assert bgr is not None
    frame = Frame.from_image(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8))
    assert differing(front, frame, Rect(100, 60, 400, 300), (256, 256)) == 0
    assert differing(front, frame, Rect(0, 0, 640, 480), (160, 120)) == 0


def test_what_an_output_pixel_takes_adds_up_to_one() -> None:
    for n_from, n_to in ((640, 256), (97, 13), (10, 10), (480, 479)):
        table = shares(n_from, n_to)
        sums = np.add.reduceat(table.share.astype(np.float64), table.begin[:-1])
        np.testing.assert_allclose(sums, 1, atol=1e-6)
        pair = neighbours(n_to, n_from, is_row=True)
        np.testing.assert_array_equal(pair[2] + pair[3], 2048)
