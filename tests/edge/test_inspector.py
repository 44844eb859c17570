"""One frame in, one answer out; whatever is not a score is unknown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.errors import BadInputError
from loupe_calibration.transform import Transform
from loupe_edge.engines import open_engine
from loupe_edge.fakes import FunctionEngine
from loupe_edge.inspector import Inspector
from loupe_edge.protocols import Outputs
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame, Label, Rect
from loupe_models.gate import ByHeight, GateSpec

MakeFrame = Callable[..., Frame]


def answers(score: float, peak: float = 0.0) -> FunctionEngine:
    def answer(_: object) -> Outputs:
        anomaly_map = np.full((1, 1, 64, 64), peak, np.float32)
        return {"anomaly_map": anomaly_map, "image_score": np.array([score], np.float32)}

    return FunctionEngine(answer)


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
@pytest.mark.parametrize("kind", ["good", "defect"])
def test_parts_get_their_decision(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform, mode: str, kind: str
) -> None:
    streams = {"rgb": ("rgb",), "depth": ("depth",), "rgbd": ("rgb", "depth")}[mode]
    inspector = Inspector(
        tiny_bundle, mode, open_engine(tiny_bundle, mode), belt_from_camera=tiny_belt
    )
    found = inspector.inspect(make_frame(kind, seed=5, streams=streams))
    assert found is not None
    assert found.decision == kind
    assert found.score is not None
    assert (found.score > found.threshold) == (kind == "defect")
    assert found.p_value is not None
    assert 0 < found.p_value <= 1
    assert bool(found.regions) == (kind == "defect")
    assert set(found.stage_us) == {"gate", "preprocess", "infer", "decide"}
    assert (found.depth_valid_fraction is None) == (mode == "rgb")


def test_an_empty_belt_is_no_verdict(tiny_bundle: Bundle, make_frame: MakeFrame) -> None:
    inspector = Inspector(tiny_bundle, "rgb", open_engine(tiny_bundle, "rgb"))
    assert inspector.inspect(make_frame("empty")) is None


def test_the_defect_is_found_where_it_is(tiny_bundle: Bundle, make_frame: MakeFrame) -> None:
    frame = make_frame("defect", seed=3)
    assert frame.rgb is not None
    ys, xs = np.nonzero(frame.rgb.min(axis=-1) == 235)
    inspector = Inspector(tiny_bundle, "rgb", open_engine(tiny_bundle, "rgb"))
    found = inspector.inspect(frame)
    assert found is not None
    x, y, width, height = found.regions[0].bbox_px
    assert x <= xs.min() <= xs.max() < x + width
    assert y <= ys.min() <= ys.max() < y + height
    assert width <= 7 + 15  # the neighbourhood smears it
    assert height <= 7 + 15


def test_regions_are_measured_on_the_belt(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform
) -> None:
    frame = make_frame("defect", seed=3, streams=("rgb", "depth"))
    engine = open_engine(tiny_bundle, "rgbd")
    found = Inspector(tiny_bundle, "rgbd", engine, belt_from_camera=tiny_belt).inspect(frame)
    assert found is not None
    region = found.regions[0]
    assert region.centroid_mm is not None
    assert region.size_mm is not None
    # The part stands 20 mm above the belt, the dent is 5 mm deep, a pixel is 5 mm wide.
    assert region.centroid_mm[2] == pytest.approx(17.5, abs=3)
    x, _, width, height = region.bbox_px
    assert region.size_mm[0] == pytest.approx(5 * (width - 1), abs=2)
    assert region.size_mm[1] == pytest.approx(5 * (height - 1), abs=2)
    assert region.centroid_mm[0] == pytest.approx(5 * (x + (width - 1) / 2 - 47.5), abs=3)


@pytest.mark.parametrize(
    ("score", "decision"),
    [(0.999, "good"), (1.0, "good"), (1.001, "defect"), (-5.0, "good")],
)
def test_a_defect_is_strictly_above_the_threshold(
    tiny_bundle: Bundle, make_frame: MakeFrame, score: float, decision: str
) -> None:
    found = Inspector(tiny_bundle, "rgb", answers(score), threshold=1.0).inspect(make_frame())
    assert found is not None
    assert found.decision == decision
    assert found.threshold == 1.0


def bad(name: str, value: npt.NDArray[np.float32] | None) -> FunctionEngine:
    def answer(_: object) -> Outputs:
        outputs: dict[str, npt.NDArray[np.float32]] = {
            "anomaly_map": np.zeros((1, 1, 64, 64), np.float32),
            "image_score": np.zeros(1, np.float32),
        }
        if value is None:
            del outputs[name]
        else:
            outputs[name] = value
        return outputs

    return FunctionEngine(answer)


def spoiled_map(value: float) -> npt.NDArray[np.float32]:
    anomaly_map = np.zeros((1, 1, 64, 64), np.float32)
    anomaly_map[0, 0, 63, 63] = value
    return anomaly_map


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("image_score", np.array([np.nan], np.float32), "image score is nan"),
        ("image_score", np.array([np.inf], np.float32), "image score is inf"),
        ("image_score", np.array([-np.inf], np.float32), "image score is -inf"),
        ("anomaly_map", spoiled_map(np.nan), "not finite"),
        ("anomaly_map", spoiled_map(-np.inf), "not finite"),
        ("anomaly_map", np.zeros((64, 64), np.float32), "expected"),
        ("image_score", np.zeros((1, 1), np.float32), "expected"),
        ("image_score", None, "no image_score"),
        ("anomaly_map", None, "no anomaly_map"),
    ],
)
def test_what_is_not_a_score_is_unknown(
    tiny_bundle: Bundle,
    make_frame: MakeFrame,
    name: str,
    value: npt.NDArray[np.float32] | None,
    reason: str,
) -> None:
    found = Inspector(tiny_bundle, "rgb", bad(name, value)).inspect(make_frame())
    assert found is not None
    assert found.decision == "unknown"
    assert reason in found.reason
    assert found.score is None
    assert found.p_value is None
    assert found.anomaly_map is None


def test_a_missing_stream_is_unknown(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform
) -> None:
    colour_only = make_frame()
    depth_only = make_frame(streams=("depth",))
    rgbd = Inspector(tiny_bundle, "rgbd", answers(0.0), belt_from_camera=tiny_belt)
    for frame, missing in ((colour_only, "no depth"), (depth_only, "no colour")):
        found = rgbd.inspect(frame)
        assert found is not None
        assert found.decision == "unknown"
        assert missing in found.reason


def holed(frame: Frame, share: float) -> Frame:
    assert frame.depth is not None
    depth = frame.depth.copy()
    n_rows = round(56 * share)
    depth[12 : 12 + n_rows] = 0
    return replace(frame, depth=depth)


@pytest.mark.parametrize(("share", "decision"), [(0.0, "good"), (0.4, "good"), (0.6, "unknown")])
def test_too_many_holes_are_unknown_where_depth_is_used(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform, share: float, decision: str
) -> None:
    frame = holed(make_frame(streams=("rgb", "depth")), share)
    used = Inspector(tiny_bundle, "rgbd", answers(-9.0), belt_from_camera=tiny_belt).inspect(frame)
    unused = Inspector(tiny_bundle, "rgb", answers(-9.0)).inspect(frame)
    assert used is not None
    assert unused is not None
    assert used.decision == decision
    assert unused.decision == "good"
    assert unused.depth_valid_fraction == pytest.approx(1 - share, abs=0.02)


@pytest.mark.parametrize(("factor", "unit"), [(1000, "millimetres"), (0.001, "metres that were")])
def test_depth_in_another_unit_is_unknown_where_depth_is_used(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform, factor: float, unit: str
) -> None:
    frame = make_frame(streams=("rgb", "depth"))
    assert frame.depth_scale_m is not None
    wrong = replace(frame, depth_scale_m=frame.depth_scale_m * factor)
    used = Inspector(tiny_bundle, "rgbd", answers(-9.0), belt_from_camera=tiny_belt).inspect(wrong)
    assert used is not None
    assert used.decision == "unknown"
    assert f"m; are these {unit}" in used.reason
    unused = Inspector(tiny_bundle, "rgb", answers(-9.0)).inspect(wrong)
    assert unused is not None
    assert unused.decision == "good"


def test_a_blind_gate_does_not_pass_for_an_empty_belt(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform
) -> None:
    by_height = GateSpec(occupied=ByHeight(min_height_m=0.01))
    inspector = Inspector(
        tiny_bundle, "rgb", answers(-9.0), gate=by_height, belt_from_camera=tiny_belt
    )
    empty = make_frame("empty", streams=("rgb", "depth"))
    assert inspector.inspect(empty) is None
    assert empty.depth is not None
    blind = inspector.inspect(replace(empty, depth=np.zeros_like(empty.depth)))
    assert blind is not None
    assert blind.decision == "unknown"


def test_a_labels_rectangle_wins_and_an_impossible_one_is_unknown(
    tiny_bundle: Bundle, make_frame: MakeFrame
) -> None:
    inspector = Inspector(tiny_bundle, "rgb", answers(0.0))
    inside = make_frame("empty").with_label(Label(rect_px=Rect(4, 4, 20, 20)))
    outside = make_frame().with_label(Label(rect_px=Rect(90, 4, 20, 20)))
    found = inspector.inspect(inside)
    assert found is not None
    assert found.region == Rect(4, 4, 20, 20)
    refused = inspector.inspect(outside)
    assert refused is not None
    assert refused.decision == "unknown"


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), float("-inf")])
def test_a_threshold_that_is_not_finite_is_refused(tiny_bundle: Bundle, threshold: float) -> None:
    with pytest.raises(BadInputError, match=f"threshold {threshold}: give a finite number"):
        Inspector(tiny_bundle, "rgb", answers(0.0), threshold=threshold)
