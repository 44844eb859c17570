"""Depth on the device becomes the reference's cloud: holes, belt, crops, and the steps' order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.cuda.front import GpuFront
from loupe_models.errors import FrameError
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.preprocess import PreprocessSpec, preprocess

BELT = belt_from_camera((0.03, -0.05, -1), (0.01, 0.02, 0.6), (1.0, 0.2, 0.0))
LENS = Intrinsics(83, 61, 80.0, 81.0, 40.7, 30.1, "brown_conrady", (0.1, -0.05, 0.001, 0.002, 0.01))
LEFT_OVER = 5  # points at the end that OpenCV's vector loop leaves to a scalar one
TAIL_M = 1e-6


def frame_of(depth: npt.NDArray[np.uint16], scale_m: float = 0.001) -> Frame:
    return Frame(0, 0, CameraTime(0, "system"), None, depth, scale_m, LENS)


def spec(*steps: str) -> PreprocessSpec:
    of: dict[str, dict[str, Any]] = {
        "resize": {"width_px": 37, "height_px": 29},
        "remove_belt": {"min_share": 0.0},
    }
    named = [{"step": step, **of.get(step, {})} for step in steps]
    return PreprocessSpec.model_validate({"steps": named, "tensors": ["xyz", "valid"]})


def depths(seed: int = 0, hole_share: float = 0.2) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    depth = rng.integers(450, 650, (61, 83)).astype(np.uint16)
    depth[rng.random(depth.shape) < hole_share] = 0
    return depth


def differing(
    front: GpuFront, frame: Frame, region: Rect, steps: PreprocessSpec, belt: Transform | None
) -> list[str]:
    """Name what is not the reference's; of `xyz`, what OpenCV's own loops would not differ in."""
    ours, right = (run(frame, region, steps, belt) for run in (front.preprocess, preprocess))
    made, wanted = (one.tensors["xyz"].astype(np.float64) for one in (ours, right))
    is_off = (made != wanted).any(axis=-1)
    faults = {
        "place": ours.frame_px_from_map_px != right.frame_px_from_map_px,
        "dtype": ours.tensors["xyz"].dtype != np.float32,
        "valid": ours.tensors["valid"].tobytes() != right.tensors["valid"].tobytes(),
        "xyz, too far": not np.abs(made - wanted).max() <= TAIL_M,
        "xyz, too many": is_off.sum() > LEFT_OVER,
    }
    return [name for name, is_fault in faults.items() if is_fault]


def n_valid(frame: Frame, region: Rect, steps: PreprocessSpec, belt: Transform | None) -> int:
    return int(preprocess(frame, region, steps, belt).tensors["valid"].sum())


@pytest.mark.parametrize(
    "steps",
    [
        ("cloud",),
        ("crop", "cloud"),
        ("crop", "resize", "cloud"),
        ("crop", "cloud", "resize"),
        ("crop", "resize", "cloud", "remove_belt"),
        ("crop", "cloud", "remove_belt", "resize", "remove_belt"),
        ("crop", "resize", "resize", "cloud"),
        ("resize", "cloud", "remove_belt"),
    ],
)
@pytest.mark.parametrize("region", [Rect(0, 0, 83, 61), Rect(3, 4, 70, 50), Rect(82, 60, 1, 1)])
def test_every_order_of_steps(front: GpuFront, steps: tuple[str, ...], region: Rect) -> None:
    assert not differing(front, frame_of(depths()), region, spec(*steps), BELT)


def test_without_a_belt_not_a_bit_differs(front: GpuFront) -> None:
    frame, region, steps = frame_of(depths()), Rect(3, 4, 70, 50), spec("crop", "resize", "cloud")
    ours, reference = (run(frame, region, steps) for run in (front.preprocess, preprocess))
    assert ours.tensors["xyz"].tobytes() == reference.tensors["xyz"].tobytes()


@pytest.mark.parametrize("scale_m", [0.0001, 0.00025, 0.001, 0.9])
def test_every_depth_scale(front: GpuFront, scale_m: float) -> None:
    frame, steps = frame_of(depths(), scale_m), spec("cloud")
    ours, reference = (
        run(frame, Rect(0, 0, 83, 61), steps) for run in (front.preprocess, preprocess)
    )
    np.testing.assert_array_equal(ours.tensors["xyz"], reference.tensors["xyz"])


def test_holes_stay_holes(front: GpuFront) -> None:
    whole, steps = Rect(0, 0, 83, 61), spec("cloud", "remove_belt")
    nothing, far = (frame_of(np.full((61, 83), depth, np.uint16)) for depth in (0, 65535))
    few, all_known = (frame_of(depths(hole_share=share)) for share in (0.9, 0.0))
    assert n_valid(nothing, whole, steps, BELT) == n_valid(far, whole, steps, BELT) == 0
    assert 0 < n_valid(few, whole, steps, BELT) < 500
    assert n_valid(all_known, whole, spec("cloud"), BELT) == 83 * 61
    for frame in (nothing, far, few):
        assert not differing(front, frame, whole, steps, BELT)
    assert not differing(front, all_known, whole, spec("cloud"), BELT)


def test_a_frame_leaves_nothing_to_the_next(front: GpuFront) -> None:
    whole, steps = Rect(0, 0, 83, 61), spec("cloud", "remove_belt")
    other = belt_from_camera((0, 0, -1), (0, 0, 0.55))
    for number, belt in enumerate((BELT, other, BELT, BELT)):
        assert not differing(front, frame_of(depths(number)), whole, steps, belt)
        assert not differing(
            front, frame_of(depths(number)), Rect(9, 9, 30, 20), spec("crop", "cloud"), belt
        )


def test_the_belt_is_asked_for_in_the_same_words(front: GpuFront) -> None:
    said = []
    for run in (front.preprocess, preprocess):
        with pytest.raises(FrameError) as caught:
            run(frame_of(depths()), Rect(0, 0, 83, 61), spec("cloud", "remove_belt"))
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_real_depth_frame(front: GpuFront, real_data: Path) -> None:
    folder = real_data / "rgbd_real" / "realsense_d435_felixchenfy"
    depth = cv2.imread(str(folder / "depth00001.png"), cv2.IMREAD_UNCHANGED)
    matrix = json.loads((folder / "cam_params_realsense.json").read_text())["intrinsic_matrix"]
    lens = Intrinsics(640, 480, matrix[0], matrix[4], matrix[6], matrix[7])
    assert depth is not None
    raw = depth.astype(np.uint16)
    frame = Frame(0, 0, CameraTime(0, "system"), None, raw, 0.001, lens)
    region, belt = Rect(100, 60, 400, 300), belt_from_camera((0.02, -0.05, -1), (0, 0, 0.5))
    for steps, least in (
        (spec("crop", "resize", "cloud", "remove_belt"), 500),
        (spec("crop", "cloud", "remove_belt"), 50_000),
    ):
        assert n_valid(frame, region, steps, belt) > least
        assert not differing(front, frame, region, steps, belt)
