"""A recording whose sensors fail and come back: every frame gets its verdict in the right mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.assembly import open_service
from loupe_edge.errors import StationError
from loupe_edge.publisher import ListPublisher
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.replay import replay
from loupe_edge.station import Station
from loupe_edge.station_fit import check_fit, required_streams
from loupe_edge.verdict import Verdict
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame

LENS = Intrinsics(96, 80, 100.0, 100.0, 47.5, 39.5)
FAILOVER = {"modes": ("rgb", "depth"), "return_after_frames": 5}
EVERYTHING = {"region_px": (16, 12, 64, 56)}

Play = Callable[..., list[Verdict]]


def record(path: Path, told: str, make_frame: Callable[..., Frame], defects: set[int]) -> None:
    """A letter a frame: `b`oth, `c`olour only, `d`epth only, b`w`hite, blac`k`, `h`oles."""
    with Recorder(path, Rig(LENS, LENS, 0.0001)) as recorder:
        for n, letter in enumerate(told):
            kind = "defect" if n in defects else "good"
            frame = make_frame(kind, 300 + n, ("rgb", "depth"))
            rgb, depth = np.array(frame.rgb), np.array(frame.depth)
            if letter in "wk":
                rgb[:] = 255 if letter == "w" else 0
            if letter == "h":
                depth[:, :70] = 0
            recorder.write(
                None if letter == "d" else rgb, None if letter == "c" else depth.astype(np.uint16)
            )


@pytest.fixture
def station(make_station: Callable[..., Station], tmp_path: Path) -> Station:
    camera = {"recording": tmp_path / "a.db3", "streams": ("rgb", "depth")}
    return make_station("rgbd", camera=camera, failover=FAILOVER, gate=EVERYTHING)


@pytest.fixture
def play(station: Station, make_frame: Callable[..., Frame], tmp_path: Path) -> Play:
    def run(told: str, defects: Any = ()) -> list[Verdict]:
        record(tmp_path / "a.db3", told, make_frame, set(defects))
        return list(replay(station))

    return run


def letters(verdicts: list[Verdict]) -> str:
    return "".join({"rgbd": "B", "rgb": "C", "depth": "D"}[v.mode] for v in verdicts)


def test_depth_dies_halfway_and_comes_back(play: Play, tiny_bundle: Bundle) -> None:
    told = "b" * 40 + "c" * 60 + "b" * 60
    defects = {5, 50, 60, 102, 150}
    verdicts = play(told, defects)
    assert [v.frame_id for v in verdicts] == list(range(1, 161))
    assert [v.seq for v in verdicts] == list(range(160))
    # Four frames after depth's return it is still not believed; the fifth is looked at with both.
    assert letters(verdicts) == "B" * 40 + "C" * 64 + "B" * 56
    assert {n for n, v in enumerate(verdicts) if v.decision == "defect"} >= defects
    assert all(v.decision != "unknown" for v in verdicts)
    for mode in ("rgbd", "rgb"):
        good = [v for n, v in enumerate(verdicts) if v.mode == mode and n not in defects]
        rejected = sum(v.decision != "good" for v in good)
        promise = tiny_bundle.mode(mode).threshold.false_reject_rate
        assert rejected <= promise * len(good) + 3 * np.sqrt(promise * len(good))
        assert {v.threshold for v in good} == {tiny_bundle.mode(mode).threshold.value}
    assert verdicts[45].reason == "rgb instead of rgbd: no depth"
    assert verdicts[50].reason == "score above threshold; rgb instead of rgbd: no depth"
    assert verdicts[101].reason == "rgb instead of rgbd: well for 2 of 5 frames"
    assert verdicts[0].reason == verdicts[120].reason == ""
    assert verdicts[45].depth_valid_fraction is None
    assert verdicts[45].sync is None


@pytest.mark.parametrize(
    ("letter", "mode", "why"),
    [
        ("d", "D", "no colour"),
        ("w", "D", "colour over-exposed in 100% of the region"),
        ("k", "D", "colour black in 100% of the region"),
        ("h", "C", "depth known for 16% of the region"),
    ],
)
def test_each_fault_of_a_sensor_finds_the_mode_that_can_look(
    play: Play, letter: str, mode: str, why: str
) -> None:
    verdicts = play("b" * 5 + letter * 10 + "b" * 12, {8})
    assert letters(verdicts[:15]) == "B" * 5 + mode * 10
    assert letters(verdicts).endswith("B" * 7)
    assert verdicts[8].decision == "defect"
    assert verdicts[9].reason.endswith(why)
    assert [v.seq for v in verdicts] == list(range(27))


def test_where_no_mode_can_look_the_verdict_is_unknown(
    make_station: Callable[..., Station], make_frame: Callable[..., Frame], tmp_path: Path
) -> None:
    record(tmp_path / "a.db3", "bbb" + "d" * 4 + "b" * 3, make_frame, set())
    camera = {"recording": tmp_path / "a.db3", "streams": ("rgb", "depth")}
    only_rgb = {"modes": ("rgb",), "return_after_frames": 2, "max_black": 0.9}
    station = make_station("rgbd", camera=camera, failover=only_rgb, gate=EVERYTHING)
    verdicts = list(replay(station))
    # Colour is required by both modes: exposures without it are nobody's.
    assert [v.frame_id for v in verdicts] == [1, 2, 3, 8, 9, 10]
    (tmp_path / "a.db3").unlink()
    record(tmp_path / "a.db3", "bb" + "k" * 4 + "b" * 3, make_frame, set())
    verdicts = list(replay(station))
    assert [v.decision == "unknown" for v in verdicts] == [False] * 2 + [True] * 4 + [False] * 3
    assert "no mode can look: colour black" in verdicts[3].reason
    assert verdicts[3].score is None


def test_the_station_says_so_on_its_heartbeat_and_in_its_counters(
    station: Station, make_frame: Callable[..., Frame], tmp_path: Path
) -> None:
    record(tmp_path / "a.db3", "bb" + "c" * 3 + "b" * 9, make_frame, {3})
    keeping = station.model_dump() | {"record": {"folder": tmp_path / "evidence"}}
    conditions = []
    with open_service(
        Station.model_validate(keeping), lock_step=True, publisher=ListPublisher()
    ) as service:
        read = service.metrics.registry.get_sample_value
        for verdict in service.verdicts():
            conditions.append(service.health.condition())
            labels = {"station": "line-1", "mode": verdict.mode}
            assert read("loupe_mode", labels) == 1
        assert read("loupe_mode", {"station": "line-1", "mode": "rgb"}) == 0
    states = [condition.state for condition in conditions]
    assert states == ["ready"] * 2 + ["degraded"] * 7 + ["ready"] * 5
    assert conditions[3].reason == "rgb instead of rgbd: no depth"
    assert len(list((tmp_path / "evidence").iterdir())) >= 1


def test_a_station_that_cannot_fail_over_is_told_every_reason(
    make_station: Callable[..., Station], tiny_bundle: Bundle
) -> None:
    camera = {"serial": "1", "streams": ("rgb", "depth"), "width_px": 96, "height_px": 80}
    by_colour = {"region_px": (16, 12, 64, 56), "occupied": {"by": "colour", "belt_rgb": (0, 0, 0)}}
    by_height = {"region_px": (16, 12, 640, 56), "occupied": {"by": "height"}}
    station = make_station("rgbd", camera=camera, failover=FAILOVER, gate=by_colour)
    with pytest.raises(StationError, match=r"^failover\.gates\.depth: the gate needs rgb"):
        check_fit(station, tiny_bundle)
    own = FAILOVER | {"gates": {"depth": by_height}}
    station = make_station("rgbd", camera=camera, failover=own, gate=by_colour, belt=None)
    with pytest.raises(StationError) as caught:
        check_fit(station, tiny_bundle)
    keys = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert keys == ["belt", "gate.region_px"]
    fine = FAILOVER | {"gates": {"depth": by_height | {"region_px": (16, 12, 64, 56)}}}
    check_fit(make_station("rgbd", camera=camera, failover=fine, gate=by_colour), tiny_bundle)


def test_what_every_frame_needs_is_what_no_mode_can_do_without(
    station: Station, make_station: Callable[..., Station], tiny_bundle: Bundle
) -> None:
    assert required_streams(station, tiny_bundle) == frozenset()
    assert required_streams(make_station("rgbd"), tiny_bundle) == {"rgb", "depth"}
    one = make_station("rgbd", failover={"modes": ("rgb",)})
    assert required_streams(one, tiny_bundle) == {"rgb"}


@pytest.mark.parametrize(
    ("failover", "message"),
    [
        ({"modes": ()}, "at least 1 item"),
        ({"modes": ("rgbd",)}, "rgbd is the preferred mode"),
        ({"modes": ("rgb", "rgb")}, "given twice"),
        ({"modes": ("rgb",), "thresholds": {"depth": 1.0}}, "for depth, not one of modes"),
        ({"modes": ("rgb",), "return_after_frames": 0}, "greater than or equal to 1"),
        ({"modes": ("rgb",), "max_white": 0.1}, "Extra inputs"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(
    make_station: Callable[..., Station], failover: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_station("rgbd", failover=failover)
