"""A pixel means the same here as in librealsense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loupe_calibration.errors import CalibrationError
from loupe_calibration.intrinsics import Distortion, Intrinsics, distort, project, rays, undistort

PLAIN = Intrinsics(640, 480, 612.5, 611.0, 322.25, 238.5)
# A D455's colour lens, rounded, and something worse.
D455 = (-0.056, 0.066, -0.0007, 0.0003, -0.021)
STRONG = (0.12, -0.25, 0.0012, -0.0009, 0.08)
BENT: list[tuple[Distortion, tuple[float, float, float, float, float]]] = [
    ("brown_conrady", D455),
    ("brown_conrady", STRONG),
    ("inverse_brown_conrady", D455),
    ("inverse_brown_conrady", STRONG),
]


@st.composite
def lenses(draw: st.DrawFn) -> Intrinsics:
    """Cameras of any size whose lens is no worse than a RealSense's."""
    width, height = draw(st.integers(16, 1920)), draw(st.integers(16, 1080))
    focal = draw(st.floats(1.0, 2.0)) * width
    model: Distortion = draw(st.sampled_from(("none", "brown_conrady", "inverse_brown_conrady")))
    radial, tangential = st.floats(-0.06, 0.06), st.floats(-0.002, 0.002)
    k1, k2, p1, p2 = (draw(s) for s in (radial, radial, tangential, tangential))
    k3 = draw(st.floats(-0.02, 0.02))
    return Intrinsics(
        width,
        height,
        focal,
        focal * draw(st.floats(0.98, 1.02)),
        width * draw(st.floats(0.4, 0.6)),
        min(height, width) * draw(st.floats(0.4, 0.6)),
        model,
        (k1, k2, p1, p2, k3),
    )


def corners_and_middle(intrinsics: Intrinsics) -> npt.NDArray[np.float64]:
    right, bottom = intrinsics.width_px - 1.0, min(intrinsics.size_wh) - 1.0
    return np.array([[0, 0], [right, 0], [0, bottom], [right, bottom], [right / 2, bottom / 3]])


@given(intrinsics=lenses(), depth_m=st.floats(0.1, 10))
def test_a_pixel_deprojected_and_projected_is_itself(
    intrinsics: Intrinsics, depth_m: float
) -> None:
    uv = corners_and_middle(intrinsics)
    xy = rays(uv, intrinsics)
    points = np.concatenate([xy, np.ones_like(xy[:, :1])], axis=-1) * depth_m
    np.testing.assert_allclose(project(points, intrinsics), uv, atol=1e-6)


@pytest.mark.parametrize(("model", "coeffs"), BENT)
def test_undistort_inverts_distort(
    model: Distortion, coeffs: tuple[float, float, float, float, float]
) -> None:
    lens = replace(PLAIN, distortion=model, coeffs=coeffs)
    xy = np.random.default_rng(0).uniform(-0.5, 0.5, (1000, 2))
    np.testing.assert_allclose(undistort(distort(xy, lens), lens), xy, atol=1e-9)


@pytest.mark.parametrize("model", ["brown_conrady", "inverse_brown_conrady"])
def test_a_wide_lens_is_undone_up_to_its_corners(model: Distortion) -> None:
    wide = Intrinsics(1280, 800, 643.0, 642.0, 641.0, 398.0, model, D455)
    v, u = np.mgrid[:800:50, :1280:40].astype(np.float64)
    uv = np.stack([u, v], axis=-1)
    xy = rays(uv, wide)
    points = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)
    np.testing.assert_allclose(project(points, wide), uv, atol=1e-6)


def test_brown_conrady_is_opencvs() -> None:
    lens = replace(PLAIN, distortion="brown_conrady", coeffs=STRONG)
    points = np.random.default_rng(1).uniform((-0.4, -0.3, 0.5), (0.4, 0.3, 2), (50, 3))
    matrix = np.array([[lens.fx_px, 0, lens.cx_px], [0, lens.fy_px, lens.cy_px], [0, 0, 1]])
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(STRONG))
    np.testing.assert_allclose(project(points, lens), theirs[:, 0], atol=1e-6)


@pytest.mark.parametrize(("model", "coeffs"), [*BENT, ("none", (0.0,) * 5)])
def test_project_and_deproject_agree_with_the_sdk(
    model: Distortion, coeffs: tuple[float, float, float, float, float]
) -> None:
    rs = pytest.importorskip("pyrealsense2")
    lens = replace(PLAIN, distortion=model, coeffs=coeffs)
    theirs = sdk_intrinsics(rs, lens)
    for u, v in np.random.default_rng(2).uniform(0, (639, 479), (100, 2)).tolist():
        point = rs.rs2_deproject_pixel_to_point(theirs, [u, v], 1.5)
        ours = 1.5 * rays(np.array([u, v]), lens)
        np.testing.assert_allclose(ours, point[:2], atol=5e-6)  # theirs is float32
        pixel = rs.rs2_project_point_to_pixel(theirs, point)
        np.testing.assert_allclose(project(np.array(point), lens), pixel, atol=2e-3)


def sdk_intrinsics(rs: Any, lens: Intrinsics) -> Any:
    out = rs.intrinsics()
    out.width, out.height = lens.size_wh
    out.fx, out.fy, out.ppx, out.ppy = lens.fx_px, lens.fy_px, lens.cx_px, lens.cy_px
    out.model = getattr(rs.distortion, lens.distortion)
    out.coeffs = list(lens.coeffs)
    return out


def test_a_named_model_without_coefficients_bends_nothing() -> None:
    uv = np.array([[0.0, 0.0], [639.0, 479.0]])
    named = replace(PLAIN, distortion="inverse_brown_conrady")
    assert not named.is_distorted
    np.testing.assert_array_equal(rays(uv, named), rays(uv, PLAIN))


def test_what_is_not_in_front_of_the_camera_has_no_pixel() -> None:
    points = np.array([[0.1, 0.1, 0.0], [0.1, 0.1, -1.0], [np.nan] * 3, [0.0, 0.0, 1.0]])
    uv = project(points, PLAIN)
    assert np.isnan(uv[:3]).all()
    np.testing.assert_allclose(uv[3], (PLAIN.cx_px, PLAIN.cy_px))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width_px": 0}, "image size"),
        ({"fx_px": 0.0}, "focal"),
        ({"fy_px": -1.0}, "focal"),
        ({"cx_px": float("nan")}, "not finite"),
        ({"coeffs": (0.0, float("inf"), 0.0, 0.0, 0.0)}, "not finite"),
        ({"coeffs": (0.0, 0.0)}, "5 distortion coefficients"),
        ({"distortion": "ftheta"}, "ftheta"),
    ],
)
def test_intrinsics_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        replace(PLAIN, **change)


def test_a_lens_that_folds_the_image_is_refused() -> None:
    folded = replace(PLAIN, distortion="brown_conrady", coeffs=(-2.0, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(CalibrationError, match="cannot be undone"):
        rays(np.array([[0.0, 0.0]]), folded)
