"""The comparisons with the reference can fail: each altered kernel is noticed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.cuda.front import GpuFront
from loupe_edge.errors import EngineError
from loupe_models.frame import CameraTime, Frame, Rect
from loupe_models.preprocess import (
    Cloud,
    Group,
    PreprocessSpec,
    RemoveBelt,
    Resize,
    SamplePoints,
    preprocess,
)

BELT = belt_from_camera((0, 0, -1), (0, 0, 0.6))
SPEC = PreprocessSpec(
    steps=(
        Resize(width_px=40, height_px=40),
        Cloud(),
        RemoveBelt(),
        SamplePoints(n_points=32),
        Group(size=16),
    ),
    tensors=("rgb", "xyz", "valid", "groups", "centres", "nn_index", "nn_weight"),
)
WAIT = "__syncthreads();"
RESULTS = {
    "ties to the higher index": (
        "sample.cu", "(Key)(n_points - 1 - i)", "(Key)i",
        {"groups", "centres", "nn_index", "nn_weight"},
    ),
    "nobody waits for the next point": (
        "sample.cu", f"        {WAIT}\n    }}\n", "    }\n",
        {"groups", "centres", "nn_index", "nn_weight"},
    ),
    "nobody waits for the centres": (
        "group.cu", f"{WAIT}\n        for (int i = 0; is_valid", "for (int i = 0; is_valid",
        {"nn_index", "nn_weight"},
    ),
    "weights in float": ("group.cu", "double weights[3]", "float weights[3]", {"nn_weight"}),
    "belt kept": (
        "cloud.cu", "&& z >= min_height_m", "",
        {"xyz", "valid", "groups", "centres", "nn_index", "nn_weight"},
    ),
    "fraction lost": ("resize.cu", "(sum + 2) >> 2", "sum >> 2", {"rgb"}),
}  # fmt: skip


def flat_part() -> Frame:
    """A level part on the belt, so that many distances tie; some holes."""
    rng = np.random.default_rng(5)
    depth = np.full((30, 40), 600, np.uint16)
    depth[5:25, 8:32] = 560
    depth[rng.random(depth.shape) < 0.1] = 0
    rgb = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    lens = Intrinsics(40, 30, 40, 40, 19.5, 14.5)
    return Frame(0, 0, CameraTime(0, "system"), rgb, depth, 0.001, lens)


def differing(front: GpuFront) -> set[str]:
    right = preprocess(flat_part(), Rect(0, 0, 40, 30), SPEC, BELT).tensors
    ours = front.preprocess(flat_part(), Rect(0, 0, 40, 30), SPEC, BELT).tensors
    return {name for name in right if ours[name].tobytes() != right[name].tobytes()}


def test_nothing_differs_unaltered(host_front: GpuFront) -> None:
    assert differing(host_front) == set()


@pytest.mark.parametrize(("name", "old", "new", "noticed"), RESULTS.values(), ids=RESULTS.keys())
def test_a_wrong_result_is_noticed(
    altered_front: Callable[..., GpuFront], name: str, old: str, new: str, noticed: set[str]
) -> None:
    assert differing(altered_front(name, old, new)) == noticed


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("points.cu", "    if (is_valid)\n", f"    if (is_valid)\n{WAIT}\n    if (is_valid)\n",
         "gather_points: threads wait at different barriers"),
        ("sample.cu", "int n_chosen", "long long n_chosen", "sample_farthest: wrong arguments"),
    ],
    ids=["a barrier for some", "an argument of another size"],
)  # fmt: skip
def test_what_a_gpu_would_not_tell_is_told(
    altered_front: Callable[..., GpuFront], name: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        differing(altered_front(name, old, new))
