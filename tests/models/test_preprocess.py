"""Frame and region in, tensors out: any size, and the way back to the frame is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.deproject import deproject
from loupe_calibration.intrinsics import Intrinsics
from loupe_models.errors import FrameError
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.preprocess import PreprocessSpec, PxMap, preprocess

SCALE_M = 0.001
BELT_M = 0.6
BELT = belt_from_camera((0, 0, -1), (0, 0, BELT_M))


def spec(
    *steps: str, size_wh: tuple[int, int] = (32, 24), tensors: str = "rgb", min_share: float = 0.0
) -> PreprocessSpec:
    """`spec("crop", "resize", tensors="rgb xyz")`: a specification in one line."""
    width, height = size_wh
    of: dict[str, dict[str, Any]] = {
        "resize": {"width_px": width, "height_px": height},
        "sample_points": {"n_points": 32},
        "group": {"size": 16},
        "remove_belt": {"min_share": min_share},
    }
    return PreprocessSpec.model_validate({
        "steps": [{"step": step, **of.get(step, {})} for step in steps],
        "tensors": tensors.split(),
    })  # fmt: skip


def frame_of(
    rgb: npt.NDArray[np.uint8] | None = None, depth: npt.NDArray[np.uint16] | None = None
) -> Frame:
    array = rgb if rgb is not None else depth
    assert array is not None
    height, width = array.shape[:2]
    return Frame(
        0,
        0,
        CameraTime(0, "system"),
        rgb=rgb,
        depth=depth,
        depth_scale_m=SCALE_M if depth is not None else None,
        intrinsics=Intrinsics(width, height, width, width, (width - 1) / 2, (height - 1) / 2),
    )


@st.composite
def frames_and_regions(draw: st.DrawFn) -> tuple[Frame, Rect]:
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    region = Rect(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    rgb = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    depth = rng.integers(0, 900, (height, width)).astype(np.uint16)
    depth[rng.random((height, width)) < 0.2] = 0
    return frame_of(rgb, depth), region


@given(
    given_frame=frames_and_regions(),
    size_wh=st.tuples(st.integers(8, 300), st.integers(8, 300)),
    late_resize=st.booleans(),
)
def test_shape_and_dtype_hold_for_any_frame_size_and_region(
    given_frame: tuple[Frame, Rect], size_wh: tuple[int, int], late_resize: bool
) -> None:
    frame, region = given_frame
    middle = ("cloud", "resize") if late_resize else ("resize", "cloud")
    steps = spec("crop", *middle, "remove_belt", size_wh=size_wh, tensors="rgb xyz valid")
    made = preprocess(frame, region, steps, BELT).tensors
    width, height = size_wh
    assert {name: (a.shape, a.dtype) for name, a in made.items()} == {
        "rgb": ((1, height, width, 3), np.dtype(np.uint8)),
        "xyz": ((1, height, width, 3), np.dtype(np.float32)),
        "valid": ((1, height, width), np.dtype(np.uint8)),
    }
    assert all(array.flags.c_contiguous for array in made.values())
    xyz, valid = made["xyz"].astype(np.float32), made["valid"]
    assert np.isfinite(xyz).all()
    assert set(np.unique(valid)) <= {0, 1}
    assert not xyz[valid == 0].any()
    assert (xyz[valid == 1][:, 2] >= 0.002).all()


@given(given_frame=frames_and_regions(), size_wh=st.tuples(st.integers(8, 90), st.integers(8, 90)))
def test_the_map_spans_exactly_the_region(
    given_frame: tuple[Frame, Rect], size_wh: tuple[int, int]
) -> None:
    frame, region = given_frame
    prepared = preprocess(frame, region, spec("crop", "resize", size_wh=size_wh))
    back = prepared.frame_px_from_map_px
    edges = np.array([(-0.5, -0.5), (size_wh[0] - 0.5, size_wh[1] - 0.5)])
    x, y, width, height = region
    expected = np.array([(x - 0.5, y - 0.5), (x + width - 0.5, y + height - 0.5)])
    np.testing.assert_allclose(back.apply(edges), expected, atol=1e-9)
    np.testing.assert_allclose(back.inverse().apply(back.apply(edges)), edges, atol=1e-9)


@given(
    at=st.tuples(st.integers(60, 250), st.integers(50, 180)),
    region=st.tuples(st.integers(0, 40), st.integers(0, 30)),
    size_wh=st.tuples(st.integers(64, 400), st.integers(64, 400)),
)
def test_a_spot_found_in_the_map_is_where_it_was_in_the_frame(
    at: tuple[int, int], region: tuple[int, int], size_wh: tuple[int, int]
) -> None:
    y, x = np.mgrid[:240, :320]
    spot = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 5.0**2))
    rgb = np.repeat(spot.round().astype(np.uint8)[..., None], 3, axis=-1)
    rect = Rect(*region, 320 - region[0] - 9, 240 - region[1] - 11)
    prepared = preprocess(frame_of(rgb), rect, spec("crop", "resize", size_wh=size_wh))
    bright = prepared.tensors["rgb"][0, ..., 0].astype(np.float64)
    v, u = np.mgrid[: bright.shape[0], : bright.shape[1]]
    centroid = np.array([(u * bright).sum(), (v * bright).sum()]) / bright.sum()
    found = prepared.frame_px_from_map_px.apply(centroid)
    np.testing.assert_allclose(found, at, atol=0.1)


def test_depth_is_never_mixed_across_an_edge() -> None:
    depth = np.full((60, 80), 300, np.uint16)
    depth[:, 40:] = 500
    depth[::3] = 0
    steps = spec("resize", "cloud", size_wh=(33, 27), tensors="xyz valid")
    made = preprocess(frame_of(depth=depth), Rect(0, 0, 80, 60), steps).tensors
    z = made["xyz"][0, ..., 2].astype(np.float32)
    assert set(np.unique(z)) == {np.float32(0), np.float32(0.3), np.float32(0.5)}
    np.testing.assert_array_equal(z > 0, made["valid"][0] == 1)


def test_without_resize_the_cloud_is_the_deprojected_crop() -> None:
    rng = np.random.default_rng(0)
    frame = frame_of(depth=rng.integers(0, 3, (40, 50)).astype(np.uint16) * 250)
    assert frame.depth is not None
    assert frame.intrinsics is not None
    rect = Rect(7, 5, 30, 20)
    made = preprocess(frame, rect, spec("crop", "cloud", tensors="xyz valid")).tensors
    whole = deproject(frame.depth, frame.intrinsics, SCALE_M)
    np.testing.assert_array_equal(made["xyz"][0], np.nan_to_num(whole[5:25, 7:37]))
    np.testing.assert_array_equal(made["valid"][0], (frame.depth > 0)[5:25, 7:37])


def test_cloud_before_and_after_resize_see_the_same_points() -> None:
    rng = np.random.default_rng(0)
    frame = frame_of(depth=rng.integers(300, 650, (61, 83)).astype(np.uint16))
    rect, tensors = Rect(3, 4, 70, 50), "xyz valid"
    early = preprocess(frame, rect, spec("crop", "cloud", "resize", tensors=tensors), BELT)
    late = preprocess(frame, rect, spec("crop", "resize", "cloud", tensors=tensors), BELT)
    for name in ("xyz", "valid"):
        one, other = (made.tensors[name].astype(np.float64) for made in (early, late))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_belt_is_removed_and_the_part_stays() -> None:
    depth = np.full((40, 40), round(BELT_M * 1000), np.uint16)
    depth[10:30, 10:30] = 580  # 20 mm high
    depth[15:20, 15:20] = 0
    steps = spec("cloud", "remove_belt", tensors="xyz valid")
    made = preprocess(frame_of(depth=depth), Rect(0, 0, 40, 40), steps, BELT).tensors
    part = np.zeros((40, 40), bool)
    part[10:30, 10:30] = True
    part[15:20, 15:20] = False
    np.testing.assert_array_equal(made["valid"][0] == 1, part)
    np.testing.assert_allclose(made["xyz"][0][part][:, 2], 0.02, atol=1e-6)
    assert not made["xyz"][0][~part].any()


@pytest.mark.parametrize(("high_px", "is_seen"), [(0, False), (3, False), (4, True)])
def test_a_region_without_a_part_in_depth_is_refused(high_px: int, is_seen: bool) -> None:
    """A bare belt has nothing odd about it, and must not be called good."""
    depth = np.full((40, 40), round(BELT_M * 1000), np.uint16)
    depth[:4, :high_px] = 580  # of 1,600 pixels, 16 are the least
    steps = spec("cloud", "remove_belt", tensors="xyz valid", min_share=0.01)
    frame, region = frame_of(depth=depth), Rect(0, 0, 40, 40)
    if is_seen:
        made = preprocess(frame, region, steps, BELT).tensors
        assert np.count_nonzero(made["valid"]) == 4 * high_px
        return
    with pytest.raises(FrameError, match=r"of the region stands above the belt, and 1% must"):
        preprocess(frame, region, steps, BELT)


def test_shrinking_averages_and_does_not_alias() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    made = preprocess(frame_of(stripes), Rect(0, 0, 64, 64), spec("resize", size_wh=(32, 16)))
    assert (made.tensors["rgb"] == 100).all()


def test_the_frame_is_left_as_it_was() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    before = rgb.copy()
    preprocess(frame_of(rgb), Rect(0, 0, 40, 30), spec("crop", "resize"))
    np.testing.assert_array_equal(rgb, before)


@pytest.mark.parametrize(
    ("tensors", "steps", "frame", "message"),
    [
        ("rgb", ("resize",), frame_of(depth=np.ones((9, 9), np.uint16)), "looks at colour"),
        ("xyz", ("resize", "cloud"), frame_of(np.zeros((9, 9, 3), np.uint8)), "looks at depth"),
        (
            "xyz",
            ("cloud", "remove_belt"),
            frame_of(depth=np.ones((9, 9), np.uint16)),
            "station's belt plane",
        ),
    ],
    ids=["no colour", "no depth", "no belt"],
)
def test_what_is_missing_is_named(
    tensors: str, steps: tuple[str, ...], frame: Frame, message: str
) -> None:
    with pytest.raises(FrameError, match=message):
        preprocess(frame, Rect(0, 0, 9, 9), spec(*steps, tensors=tensors))


@pytest.mark.parametrize(
    ("steps", "tensors", "message"),
    [
        (("resize", "crop"), "rgb", "crop must come first"),
        (("crop", "crop"), "rgb", "crop must come first"),
        (("remove_belt", "cloud"), "xyz", "after cloud"),
        (("cloud", "cloud"), "xyz", "cloud may come once"),
        (("crop",), "rgb xyz", "need the step cloud"),
        (("cloud",), "rgb", "need the step cloud"),
        (("sample_points", "group", "cloud"), "groups", "must come last"),
        (("cloud", "group", "sample_points"), "groups", "must come last"),
        (("cloud", "sample_points", "group", "resize"), "groups", "must come last"),
        (("cloud", "sample_points", "sample_points", "group"), "groups", "must come last"),
        (("cloud",), "groups", "need the steps sample_points and group"),
        (("cloud", "sample_points"), "xyz", "need the steps sample_points and group"),
        (("cloud", "sample_points", "group"), "xyz valid", "need the steps"),
        (("crop",), "rgb rgb", "named twice"),
        (("crop",), "", "at least 1 item"),
        (("sharpen",), "rgb", "sharpen"),
    ],
)
def test_steps_that_make_no_sense_are_refused(
    steps: tuple[str, ...], tensors: str, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(*steps, tensors=tensors)


GROUPS = "groups centres nn_index nn_weight"
DEPTH_STEPS = ("crop", "resize", "cloud", "remove_belt", "sample_points", "group")


def part_frame(n_high_px: int = 30) -> Frame:
    """A part 20 to 50 mm high, somewhat uneven, on the belt; with holes."""
    rng = np.random.default_rng(5)
    depth = np.full((60, 80), round(BELT_M * 1000), np.uint16)
    depth[10 : 10 + n_high_px, 20:60] = rng.integers(550, 580, (n_high_px, 40))
    depth[rng.random(depth.shape) < 0.1] = 0
    return frame_of(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), depth)


@pytest.mark.parametrize("tensors", ["rgb", "xyz valid", GROUPS, "xyz groups", f"rgb {GROUPS}"])
def test_a_narrower_specification_makes_the_very_bytes_of_a_wider_one(tensors: str) -> None:
    region, wide = Rect(4, 2, 70, 50), spec(*DEPTH_STEPS, tensors=f"rgb xyz valid {GROUPS}")
    steps = {"rgb": DEPTH_STEPS[:2], "xyz valid": DEPTH_STEPS[:4]}.get(tensors, DEPTH_STEPS)
    narrow = spec(*steps, tensors=tensors)
    every = preprocess(part_frame(), region, wide, BELT)
    some = preprocess(part_frame(), region, narrow, BELT)
    assert list(some.tensors) == tensors.split()
    for name, array in some.tensors.items():
        assert array.tobytes() == every.tensors[name].tobytes()
        assert array.dtype == every.tensors[name].dtype
    assert some.frame_px_from_map_px == every.frame_px_from_map_px


def test_groups_belong_to_the_pixels_of_the_cloud() -> None:
    steps = spec(*DEPTH_STEPS, tensors=f"xyz valid {GROUPS}")
    made = preprocess(part_frame(), Rect(4, 2, 70, 50), steps, BELT).tensors
    valid = made["valid"].ravel() == 1
    assert made["groups"].shape == (1, 32, 16, 3)
    assert made["nn_index"].shape == made["nn_weight"].shape == (1, 24 * 32, 3)
    np.testing.assert_array_equal(made["nn_weight"][0].sum(axis=1) > 0, valid)
    near = made["centres"][0].astype(float)[made["nn_index"][0].astype(int)]
    there = (near * made["nn_weight"][0].astype(float)[..., None]).sum(axis=1)
    off_m = np.linalg.norm(there - made["xyz"].reshape(-1, 3), axis=1)[valid]
    assert off_m.max() < 0.03


@pytest.mark.parametrize("n_high_px", [0, 1])
def test_too_few_points_of_a_part_are_counted(n_high_px: int) -> None:
    steps = spec(*DEPTH_STEPS, tensors=GROUPS)
    with pytest.raises(FrameError, match=r"^\d+ valid points, sample_points needs 32"):
        preprocess(part_frame(n_high_px), Rect(4, 2, 70, 50), steps, BELT)


def test_a_px_map_reads_as_it_says() -> None:
    frame_px_from_map_px = PxMap(2.0, 3.0, 10.0, -1.0)
    np.testing.assert_array_equal(frame_px_from_map_px.apply(np.array([4.0, 5.0])), (18, 14))
