"""Whether a station kept up, and what it says where it did not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from looks import good_look

from loupe_edge.inspector import Inspection
from loupe_edge.pace import Pace
from loupe_models.frame import Frame


def looked(infer_ms: int) -> Inspection:
    """A look that takes 5 ms around its inference."""
    return good_look(stage_us={"gate": 2000, "infer": infer_ms * 1000, "decide": 3000})


@pytest.mark.parametrize(
    ("n_dropped", "says"),
    [
        (0, "3 verdicts, 0 frames dropped"),
        (1, "3 verdicts, 1 frames dropped"),
        (
            17,
            "3 verdicts, 17 of 27 frames dropped: a look takes 205 ms at p50, of it inference "
            "200 ms; the camera gives a frame every 33 ms",
        ),
    ],
)
def test_a_tenth_of_the_frames_may_be_dropped(
    make_frame: Callable[..., Frame], n_dropped: int, says: str
) -> None:
    pace = Pace(n_verdicts=3)
    for i in range(10):
        frame = make_frame("empty", frame_id=1 + 4 * i)
        pace.count(frame, looked((100, 200, 900)[i]) if i < 3 else None)
    pace.n_dropped = n_dropped
    assert pace.told == says
    assert pace.is_behind == (n_dropped == 17)


def test_a_camera_that_was_opened_again_counts_anew(make_frame: Callable[..., Frame]) -> None:
    pace = Pace(n_dropped=9)
    for frame_id in (1, 101, 2):
        pace.count(make_frame("empty", frame_id=frame_id), looked(100))
    assert "a look takes" in pace.told
    assert "camera" not in pace.told
    pace.count(make_frame("empty", frame_id=5), None)
    assert pace.told.endswith("; the camera gives a frame every 33 ms")
