"""Rigid transforms invert, chain, and refuse to be anything else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.errors import CalibrationError
from loupe_calibration.transform import Transform

coordinates = st.floats(-3, 3, allow_subnormal=False)
vectors = st.tuples(coordinates, coordinates, coordinates)


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(draw(vectors)).as_matrix()
    matrix[:3, 3] = draw(vectors)
    return Transform.from_matrix(matrix)


@given(b_from_a=transforms(), point=vectors)
def test_a_transform_and_its_inverse_cancel(
    b_from_a: Transform, point: tuple[float, float, float]
) -> None:
    there = b_from_a.apply(np.array([point]))
    np.testing.assert_allclose(b_from_a.inverse().apply(there), [point], atol=1e-5)
    np.testing.assert_allclose((b_from_a.inverse() @ b_from_a).matrix(), np.eye(4), atol=1e-9)


@given(b_from_a=transforms(), c_from_b=transforms(), point=vectors)
def test_chains_read_right_to_left(
    b_from_a: Transform, c_from_b: Transform, point: tuple[float, float, float]
) -> None:
    step_by_step = c_from_b.apply(b_from_a.apply(np.array([point])))
    at_once = (c_from_b @ b_from_a).apply(np.array([point]))
    np.testing.assert_allclose(at_once, step_by_step, atol=2e-5)


@given(b_from_a=transforms())
def test_apply_is_rotation_then_translation_for_any_array_shape(b_from_a: Transform) -> None:
    points = np.random.default_rng(0).uniform(-2, 2, (3, 4, 3)).astype(np.float32)
    rotation, offset = np.array(b_from_a.rotation), np.array(b_from_a.translation_m)
    moved = b_from_a.apply(points)
    assert moved.dtype == np.float32
    assert moved.shape == points.shape
    np.testing.assert_allclose(moved, points @ rotation.T + offset, atol=1e-5)
    np.testing.assert_allclose(b_from_a.apply(points[1, 2]), moved[1, 2], atol=1e-6)


def test_a_hole_stays_a_hole() -> None:
    points = np.array([[np.nan, np.nan, np.nan], [1, 2, 3]], np.float32)
    moved = Transform.identity().apply(points)
    assert np.isnan(moved[0]).all()
    np.testing.assert_array_equal(moved[1], (1, 2, 3))


def test_no_points_are_no_points() -> None:
    assert Transform.identity().apply(np.empty((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([1.0, 1.0, -1.0, 1.0]), "not a rotation"),
        (np.diag([1.0, 1.0, 1.1, 1.0]), "not a rotation"),
        (np.full((4, 4), np.nan), "finite"),
        (np.eye(3), "4 x 4 or 3 x 4"),
    ],
    ids=["mirror", "stretch", "nan", "no translation"],
)
def test_what_is_not_rigid_is_refused(matrix: npt.NDArray[np.float64], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Transform.from_matrix(matrix)


def test_a_translation_must_be_three_finite_numbers() -> None:
    with pytest.raises(CalibrationError, match="three finite numbers"):
        Transform(Transform.identity().rotation, (0.0, float("inf"), 0.0))


@given(tilt=st.floats(-0.5, 0.5), height_m=st.floats(0.2, 2), sign=st.sampled_from([1.0, -1.0]))
def test_in_the_belt_frame_z_is_the_height_above_the_belt(
    tilt: float, height_m: float, sign: float
) -> None:
    normal = np.array([0.0, np.sin(tilt), -np.cos(tilt)])  # towards the camera
    origin = -normal * height_m
    belt = belt_from_camera(sign * normal, origin)
    along = np.cross(normal, (0.0, 1.0, 0.3))
    points = np.stack([origin, origin + 0.7 * along, origin + 0.03 * normal, np.zeros(3)])
    heights = belt.apply(points)[:, 2]
    np.testing.assert_allclose(heights, (0, 0, 0.03, height_m), atol=1e-6)


def test_the_belt_travels_along_x() -> None:
    belt = belt_from_camera((0, 0, -1), (0, 0, 0.6), travel=(0, 1, 0.2))
    x, y, z = belt.apply(np.array([[0.0, 1.0, 0.6]]))[0]
    assert (x, y, z) == pytest.approx((1, 0, 0), abs=1e-6)


@pytest.mark.parametrize(
    ("normal", "travel", "message"),
    [((0, 0, 0), (1, 0, 0), "no length"), ((0, 0, 1), (0, 0, 2), "parallel")],
)
def test_a_plane_that_is_none_is_refused(
    normal: tuple[float, ...], travel: tuple[float, ...], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        belt_from_camera(normal, (0, 0, 1), travel)
