"""Overlays, looked at by their pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from looks import good_look

from loupe_calibration.transform import Transform
from loupe_edge.engines import open_engine
from loupe_edge.inspector import Inspection, Inspector
from loupe_edge.lettering import text_width, write
from loupe_edge.overlays import (
    DECISION_RGB,
    MapScale,
    base_picture,
    draw_heat,
    draw_overlay,
    map_on_region,
)
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame, Rect
from loupe_models.preprocess import PxMap

MakeFrame = Callable[..., Frame]


def inspected(bundle: Bundle, mode: str, frame: Frame, belt: Transform) -> Inspection:
    engine = open_engine(bundle, mode)
    inspection = Inspector(bundle, mode, engine, belt_from_camera=belt).inspect(frame)
    engine.close()
    assert inspection is not None
    return inspection


def scale_of(bundle: Bundle, mode: str, inspection: Inspection) -> MapScale:
    return MapScale.around(inspection.threshold, bundle.mode(mode).calibration_scores)


@pytest.mark.parametrize("kind", ["good", "defect"])
@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_every_mode_is_drawn_with_its_decision_in_the_banner(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform, mode: str, kind: str
) -> None:
    streams = {"rgb": ("rgb",), "depth": ("depth",), "rgbd": ("rgb", "depth")}[mode]
    frame = make_frame(kind, 3, streams)
    inspection = inspected(tiny_bundle, mode, frame, tiny_belt)
    assert inspection.decision == kind
    overlay = draw_overlay(frame, inspection, scale_of(tiny_bundle, mode, inspection), "a.png")
    assert overlay.dtype == np.uint8
    assert min(overlay.shape[:2]) >= 300
    assert tuple(overlay[1, 1]) == DECISION_RGB[kind]


def test_only_a_defect_is_hot(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform
) -> None:
    redness = {}
    for kind in ("good", "defect"):
        frame = make_frame(kind, 3)
        found = inspected(tiny_bundle, "rgb", frame, tiny_belt)
        heat = draw_heat(base_picture(frame), found, scale_of(tiny_bundle, "rgb", found))
        assert heat.shape == base_picture(frame).shape
        redness[kind] = int((heat[..., 0].astype(int) - heat[..., 2]).max())
        outside = heat.copy()
        x, y, width, height = found.region
        outside[y : y + height, x : x + width] = 0
        assert (outside == outside[..., :1]).all()  # nothing is coloured where nobody looked
    assert redness["defect"] > redness["good"] + 40


def test_what_was_not_measured_is_drawn_without_a_map(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform
) -> None:
    frame = make_frame("good", 3)
    found = dataclasses.replace(
        inspected(tiny_bundle, "rgb", frame, tiny_belt),
        decision="unknown",
        reason="the engine gave no answer",
        score=None,
        p_value=None,
        anomaly_map=None,
        frame_px_from_map_px=None,
    )
    overlay = draw_overlay(frame, found, MapScale(0.0, 1.0), "a.png")
    assert tuple(overlay[1, 1]) == DECISION_RGB["unknown"]


@given(
    threshold=st.floats(-5, 5),
    scores=st.lists(st.floats(-5, 5), min_size=2, max_size=20),
)
def test_the_threshold_is_in_the_middle_of_the_scale(threshold: float, scores: list[float]) -> None:
    scale = MapScale.around(threshold, sorted(scores))
    assert scale.low < threshold < scale.high
    at = np.asarray([scale.low - 1, threshold, scale.high + 1], np.float32)
    assert scale.share(at) == pytest.approx([0, 0.5, 1], abs=1e-2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("threshold", [1e308, -1e308])
def test_a_threshold_beyond_float32_is_drawn_without_a_warning(
    tiny_bundle: Bundle, make_frame: MakeFrame, tiny_belt: Transform, threshold: float
) -> None:
    frame = make_frame("good", 3)
    found = inspected(tiny_bundle, "rgb", frame, tiny_belt)
    found = dataclasses.replace(found, threshold=threshold)
    drawn = draw_heat(base_picture(frame), found, scale_of(tiny_bundle, "rgb", found))
    assert drawn.shape == base_picture(frame).shape


def test_the_map_lands_on_the_pixels_it_is_about() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[2, 5] = 1
    px_map = PxMap(4.0, 2.0, 10.0 + 1.5, 20.0 + 0.5)  # a 32 x 16 region at (10, 20)
    on_region = map_on_region(anomaly_map, px_map, Rect(10, 20, 32, 16))
    assert on_region.shape == (16, 32)
    rows, columns = np.nonzero(on_region == on_region.max())
    assert (columns.mean(), rows.mean()) == (5 * 4 + 1.5, 2 * 2 + 0.5)


@pytest.mark.parametrize("size_wh", [(24, 20), (300, 40), (40, 300), (3000, 200)])
def test_any_size_of_frame_can_be_drawn(size_wh: tuple[int, int]) -> None:
    frame = Frame.from_image(np.full((*size_wh[::-1], 3), 90, np.uint8))
    found = good_look(
        score=0.1,
        threshold=0.5,
        region=Rect(0, 0, *size_wh),
        anomaly_map=np.zeros((16, 16), np.float32),
        frame_px_from_map_px=PxMap(size_wh[0] / 16, size_wh[1] / 16, 0, 0),
    )
    overlay = draw_overlay(frame, found, MapScale(0.0, 1.0), "a very long file name" * 20)
    assert overlay.ndim == 3
    assert max(overlay.shape) < 2500


def test_letters_are_cut_at_the_edge_and_only_there() -> None:
    paper = np.full((20, 60, 3), 255, np.uint8)
    write(paper, "WWWWWWWW", (40, 10), 10, (0, 0, 0))
    assert (paper[:, :40] == 255).all()
    assert (paper[:, 42:] < 128).any()
    before = paper.copy()
    write(paper, "out", (400, 10), 10, (0, 0, 0))
    assert (paper == before).all()


def test_text_width_grows_with_the_text() -> None:
    assert 0 < text_width("a", 10) < text_width("aaa", 10) < text_width("aaa", 20)
