"""Sampling and grouping equal a slow reference, index for index, ties and all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from clouds import CLOUDS, RNG
from hypothesis import given
from hypothesis import strategies as st

from loupe_models.errors import FrameError
from loupe_models.groups import EPSILON_M2, group_points
from loupe_models.points import Grid, find_nearest, grid_points, sample_farthest

Points = list[tuple[int, int, int]]


def squared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def slow_sample(points: Points, n: int) -> list[int]:
    chosen = [0]
    while len(chosen) < n:
        away = [min(squared(p, points[c]) for c in chosen) for p in points]
        chosen.append(away.index(max(away)))
    return chosen


def slow_nearest(among: Points, query: tuple[int, int, int], k: int) -> list[int]:
    return sorted(range(len(among)), key=lambda i: (squared(among[i], query), i))[:k]


def as_lists(points: Grid) -> Points:
    return [(int(x), int(y), int(z)) for x, y, z in points]


@pytest.mark.parametrize("points", CLOUDS.values(), ids=CLOUDS.keys())
def test_equal_to_a_slow_reference(points: Grid) -> None:
    places = as_lists(points)
    chosen = sample_farthest(points, 60)
    assert chosen.tolist() == slow_sample(places, 60)
    index, away = find_nearest(points, points[chosen], 32)
    assert index.tolist() == [slow_nearest(places, places[c], 32) for c in chosen]
    assert away[7, 9] == squared(places[chosen[7]], places[index[7, 9]])
    centres = [places[c] for c in chosen]
    three, _ = find_nearest(points[chosen], points, 3)
    assert three.tolist() == [slow_nearest(centres, place, 3) for place in places]


@given(
    st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=8, max_size=60),
    st.integers(2, 8),
)
def test_equal_to_a_slow_reference_whatever_the_ties(places: Points, k: int) -> None:
    points = np.array(places, np.int64)
    assert sample_farthest(points, k).tolist() == slow_sample(places, k)
    index, _ = find_nearest(points, points, k)
    assert index.tolist() == [slow_nearest(places, place, k) for place in places]


def cloud() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    v, u = np.mgrid[:20, :24]
    z = 0.01 + 0.002 * np.sin(u / 3) + 0.0001 * RNG.random(u.shape)
    valid = (RNG.random(u.shape) > 0.2).astype(np.uint8)
    return np.stack([u * 0.001, v * 0.001, z], axis=-1).astype(np.float32), valid


def test_groups_are_metres_from_their_centre_and_weights_sum_to_one() -> None:
    xyz, valid = cloud()
    points = grid_points(xyz, valid)
    chosen = sample_farthest(points, 16)
    made = group_points(xyz, valid, chosen, 8)
    kinds = {name: (array.shape, array.dtype.name) for name, array in made.items()}
    assert kinds == {
        "groups": ((16, 8, 3), "float32"),
        "centres": ((16, 3), "float32"),
        "nn_index": ((480, 3), "int32"),
        "nn_weight": ((480, 3), "float32"),
    }
    np.testing.assert_allclose(
        np.asarray(made["centres"], float), xyz[valid != 0][chosen], atol=5.1e-6
    )
    assert not np.asarray(made["groups"])[:, 0].any()  # a centre is the nearest to itself
    nearest, _ = find_nearest(points, points[chosen], 8)
    np.testing.assert_allclose(
        np.asarray(made["groups"], float) + np.asarray(made["centres"], float)[:, None],
        points[nearest] / 1e5,
        atol=1e-8,
    )
    is_valid = valid.ravel() != 0
    weight = np.asarray(made["nn_weight"], float)
    np.testing.assert_allclose(weight[is_valid].sum(axis=1), 1, atol=1e-6)
    assert not weight[~is_valid].any()
    assert not np.asarray(made["nn_index"])[~is_valid].any()
    centres = points[chosen] / 1e5
    pixel = np.flatnonzero(is_valid)[5]
    near = centres[np.asarray(made["nn_index"])[pixel]]
    inverse = 1 / (((near - points[5] / 1e5) ** 2).sum(axis=1) + EPSILON_M2)
    np.testing.assert_allclose(weight[pixel], inverse / inverse.sum(), rtol=1e-5)


def test_rounding_is_to_a_hundredth_of_a_millimetre() -> None:
    xyz = np.array([[[0.0000149, -0.0000151, 1.2345678]]], np.float32)
    assert grid_points(xyz, np.ones((1, 1), np.uint8)).tolist() == [[1, -2, 123457]]


def test_too_few_points_are_named_with_both_numbers() -> None:
    xyz, valid = cloud()
    valid[2:] = 0
    points = grid_points(xyz, valid)
    with pytest.raises(FrameError, match=f"{len(points)} valid points, sample_points needs 64"):
        sample_farthest(points, 64)
    with pytest.raises(FrameError, match=f"{len(points)} valid points, a group needs 100"):
        group_points(xyz, valid, np.arange(3), 100)
    with pytest.raises(FrameError, match="0 valid points, sample_points needs 8"):
        sample_farthest(grid_points(xyz, valid * 0), 8)


def test_points_too_far_apart_to_be_exact_are_refused() -> None:
    points = np.array([[0, 0, 0]] * 9 + [[10**8, 0, 0]], np.int64)
    with pytest.raises(FrameError, match=r"1e\+03 m apart .* are these millimetres"):
        sample_farthest(points, 2)
