"""What the numbers mean, on cases small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loupe_models.frame import Rect
from loupe_models.preprocess import PxMap
from loupe_models.scoring import MAX_REGIONS, find_regions, p_value, score_error, score_unit

SAME = PxMap(1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("score", "expected"),
    [(-1.0, 5 / 5), (0.0, 5 / 5), (0.5, 4 / 5), (1.0, 4 / 5), (3.0, 2 / 5), (9.0, 1 / 5)],
)
def test_p_value_counts_the_good_parts_that_score_at_least_as_high(
    score: float, expected: float
) -> None:
    assert p_value(score, (0.0, 1.0, 2.0, 3.0)) == pytest.approx(expected)


@given(scores=st.lists(st.floats(-5, 5), min_size=1, max_size=50), score=st.floats(-9, 9))
def test_p_value_is_never_zero_and_never_rises_with_the_score(
    scores: list[float], score: float
) -> None:
    ordered = sorted(scores)
    assert 0 < p_value(score, ordered) <= 1
    assert p_value(score + 0.5, ordered) <= p_value(score, ordered)


def test_score_errors_are_measured_in_the_good_parts_spread() -> None:
    calibration = np.linspace(0, 1, 101)  # s95 - s50 = 0.45
    assert score_unit(calibration.tolist()) == pytest.approx(0.45)
    error = score_error([0.1, -0.2], [0.1, -0.2045], calibration.tolist())
    assert error == pytest.approx([0.0, 0.01])


def test_a_spread_of_nothing_makes_every_difference_enormous_not_a_crash() -> None:
    assert score_error([1.0], [1.1], (2.0, 2.0))[0] > 1e6


def test_nothing_above_the_threshold_is_no_region() -> None:
    assert find_regions(np.full((4, 5), 0.5, np.float32), 0.5, SAME, (5, 4)) == []


def test_regions_come_strongest_first_with_their_box_area_and_peak() -> None:
    heat = np.zeros((8, 10), np.float32)
    heat[1:3, 1:4] = 0.6
    heat[5, 7] = 0.9
    heat[6, 8] = 0.7  # touches by a corner: the same region
    first, second = find_regions(heat, 0.5, SAME, (10, 8))
    assert (first.bbox_px, first.area_px) == (Rect(7, 5, 2, 2), 2)
    assert first.peak == pytest.approx(0.9)
    assert (second.bbox_px, second.area_px) == (Rect(1, 1, 3, 2), 6)
    assert second.peak == pytest.approx(0.6)


def test_regions_are_in_frame_pixels() -> None:
    heat = np.zeros((10, 10), np.float32)
    heat[2:4, 5] = 1.0
    # A 40 x 20 crop at (100, 50), resized to 10 x 10.
    back = PxMap(4.0, 2.0, 101.5, 50.5)
    (region,) = find_regions(heat, 0.5, back, (640, 480))
    assert region.bbox_px == Rect(120, 54, 4, 4)
    assert region.area_px == 16


def test_boxes_stay_inside_the_frame() -> None:
    heat = np.ones((4, 4), np.float32)
    (region,) = find_regions(heat, 0.5, PxMap(30.0, 30.0, 10.0, 10.0), (100, 90))
    x, y, width, height = region.bbox_px
    assert (x, y, x + width, y + height) == (0, 0, 100, 90)


def test_only_the_twenty_strongest_are_told() -> None:
    heat = np.zeros((20, 20), np.float32)
    heat[::2, ::2] = np.linspace(0.6, 0.99, 100).reshape(10, 10)
    regions = find_regions(heat, 0.5, SAME, (20, 20))
    assert len(regions) == MAX_REGIONS
    assert [r.peak for r in regions] == sorted((r.peak for r in regions), reverse=True)
    assert regions[0].peak == pytest.approx(0.99)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("threshold", "n"), [(1e308, 0), (-1e308, 1)])
def test_a_threshold_beyond_float32_is_compared_without_a_warning(threshold: float, n: int) -> None:
    regions = find_regions(np.zeros((4, 5), np.float32), threshold, SAME, (5, 4))
    assert len(regions) == n
