"""The comparisons with the reference can fail: each altered kernel is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from every_step import differing, part_frame

from loupe_edge.cuda.front import GpuFront
from loupe_edge.errors import EngineError
from loupe_models.frame import Frame

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
    return part_frame(5, relief=0)


def test_nothing_differs_unaltered(host_front: GpuFront) -> None:
    assert differing(host_front, flat_part()) == set()


@pytest.mark.parametrize(("name", "old", "new", "noticed"), RESULTS.values(), ids=RESULTS.keys())
def test_a_wrong_result_is_noticed(
    altered_front: Callable[..., GpuFront], name: str, old: str, new: str, noticed: set[str]
) -> None:
    assert differing(altered_front(name, old, new), flat_part()) == noticed


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
        differing(altered_front(name, old, new), flat_part())
