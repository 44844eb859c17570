"""Depth becomes points: right to a tenth of a millimetre, and fast."""

from __future__ import annotations

import sys
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loupe_calibration.deproject import deproject, ray_table
from loupe_calibration.errors import CalibrationError
from loupe_calibration.intrinsics import Intrinsics, project, rays

VGA = Intrinsics(640, 480, 612.5, 611.0, 322.25, 238.5)
BENT = Intrinsics(
    640, 480, 612.5, 611.0, 322.25, 238.5, "inverse_brown_conrady",
    (-0.056, 0.066, -0.0007, 0.0003, -0.021),
)  # fmt: skip
SMALL = Intrinsics(5, 4, 6.0, 6.5, 2.0, 1.5)


def some_depth(size_hw: tuple[int, int]) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(0)
    depth = rng.integers(200, 8000, size_hw).astype(np.uint16)
    depth[rng.random(size_hw) < 0.3] = 0
    return depth


@pytest.mark.parametrize("intrinsics", [VGA, BENT], ids=["plain", "bent"])
def test_points_match_a_float64_reference(intrinsics: Intrinsics) -> None:
    depth = some_depth((480, 640))
    v, u = np.mgrid[:480, :640].astype(np.float64)
    xy = rays(np.stack([u, v], axis=-1), intrinsics)
    z = depth * 0.001
    expected = np.stack([xy[..., 0] * z, xy[..., 1] * z, z], axis=-1)
    points = deproject(depth, intrinsics, 0.001)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(points), np.repeat((depth == 0)[..., None], 3, -1))
    seen = depth > 0
    assert np.abs(points[seen] - expected[seen]).max() < 1e-5


@given(depth=arrays(np.uint16, (4, 5)), scale=st.sampled_from([1e-4, 0.001, 0.00025]))
def test_projecting_every_point_gives_back_its_pixel(
    depth: npt.NDArray[np.uint16], scale: float
) -> None:
    points = deproject(depth, SMALL, scale)
    v, u = np.mgrid[:4, :5]
    seen = depth > 0
    np.testing.assert_array_equal(np.isnan(points[..., 2]), ~seen)
    uv = project(points, SMALL)
    np.testing.assert_allclose(uv[seen], np.stack([u, v], axis=-1)[seen], atol=1e-4)
    np.testing.assert_allclose(points[seen][:, 2], depth[seen] * scale, rtol=1e-6)


def test_points_match_the_sdks_point_cloud_model() -> None:
    rs = pytest.importorskip("pyrealsense2")
    theirs = rs.intrinsics()
    theirs.width, theirs.height, theirs.coeffs = 640, 480, list(BENT.coeffs)
    theirs.fx, theirs.fy, theirs.ppx, theirs.ppy = 612.5, 611.0, 322.25, 238.5
    theirs.model = rs.distortion.inverse_brown_conrady
    depth = some_depth((480, 640))
    points = deproject(depth, BENT, 0.001)
    for v, u in [(0, 0), (0, 639), (479, 0), (479, 639), (200, 300), (33, 411)]:
        expected = rs.rs2_deproject_pixel_to_point(theirs, [u, v], float(depth[v, u]) * 0.001)
        if depth[v, u]:
            np.testing.assert_allclose(points[v, u], expected, atol=1e-5)


def test_the_depth_must_fit_its_intrinsics() -> None:
    with pytest.raises(CalibrationError, match="depth is 5x3, its intrinsics are for 5x4"):
        deproject(np.ones((3, 5), np.uint16), SMALL, 0.001)


def test_the_ray_table_is_shared_and_cannot_be_spoilt() -> None:
    table = ray_table(SMALL)
    assert ray_table(SMALL) is table
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0, 0] = 1


def test_half_a_millisecond_a_frame() -> None:
    depth = some_depth((480, 640))
    deproject(depth, VGA, 0.001)
    times_ms = []
    for _ in range(100):
        began = time.perf_counter()
        deproject(depth, VGA, 0.001)
        times_ms.append(1000 * (time.perf_counter() - began))
    # The best tenth: on a shared machine the rest is other people's work.
    fast = float(np.quantile(times_ms, 0.1))
    sys.stderr.write(f"deproject 640x480: p10 {fast:.3f} ms, p50 {np.median(times_ms):.3f} ms\n")
    assert fast <= 0.5
