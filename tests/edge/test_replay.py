"""A recording through the one camera class and the loop: the same verdicts every time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.errors import StationError
from loupe_edge.labels import belt_path
from loupe_edge.publisher import ListPublisher
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.replay import at_station, replay, station_for
from loupe_edge.station import Station
from loupe_edge.verdict import Verdict
from loupe_models.bundle import Bundle

TIMES = {"epoch", "captured_at_ns", "published_at_ns", "expires_at_ns", "stage_us"}


def timeless(verdicts: list[Verdict]) -> list[dict[str, object]]:
    return [verdict.model_dump(exclude=TIMES) for verdict in verdicts]


def test_the_same_recording_gives_the_same_verdicts(
    tiny_bundle: Bundle, tiny_recording: Path
) -> None:
    station = station_for(tiny_bundle.path, tiny_recording, mode="rgb")
    first, second = list(replay(station)), list(replay(station))
    assert timeless(first) == timeless(second)
    assert second[0].epoch > first[0].epoch
    kinds = ["good", "good", "defect", "good", "defect", "good", "defect", "good"]
    assert [v.decision for v in first] == kinds
    assert [v.part_id for v in first] == [f"part-{i}" for i in (0, 1, 2, 4, 5, 6, 8, 9)]
    assert [v.seq for v in first] == list(range(8))
    assert all(v.dropped_frames == 0 for v in first)


def test_all_modes_replay(tiny_bundle: Bundle, tiny_recording: Path) -> None:
    for mode, n_seen in (("rgb", 8), ("rgbd", 8), ("depth", 10)):
        belt = {"normal": (0.0, 0.0, -1.0), "point_m": (0.0, 0.0, 0.52)}
        plain = station_for(tiny_bundle.path, tiny_recording, mode=mode)  # type: ignore[arg-type]
        station = Station.model_validate(plain.model_dump() | {"belt": belt})
        verdicts = list(replay(station))
        assert len(verdicts) == n_seen
        assert all((v.depth_valid_fraction is None) == (mode == "rgb") for v in verdicts)
        found = {v.part_id for v in verdicts if v.decision == "defect"}
        assert found == {"part-2", "part-5", "part-8"}


def test_verdicts_also_go_to_the_publisher(tiny_bundle: Bundle, tiny_recording: Path) -> None:
    publisher = ListPublisher()
    station = station_for(tiny_bundle.path, tiny_recording, mode="rgb")
    assert list(replay(station, publisher=publisher)) == publisher.verdicts
    assert publisher.heartbeats


def test_in_real_time_every_frame_is_judged_or_counted(
    tiny_bundle: Bundle, tiny_recording: Path
) -> None:
    everything = {"region_px": (16, 12, 64, 56)}
    plain = station_for(tiny_bundle.path, tiny_recording, mode="rgb")
    late = {"deadline_ms": 60_000}
    station = Station.model_validate(plain.model_dump() | {"gate": everything, "limits": late})
    verdicts = list(replay(station, real_time=True))
    assert [v.seq for v in verdicts] == list(range(len(verdicts)))
    assert 1 <= len(verdicts) <= 10
    assert len(verdicts) + verdicts[-1].dropped_frames <= 10
    frame_ids = [v.frame_id for v in verdicts if v.frame_id is not None]
    assert frame_ids == sorted(set(frame_ids))


def test_leaving_early_stops_everything(tiny_bundle: Bundle, tiny_recording: Path) -> None:
    def leave_early() -> None:
        station = station_for(tiny_bundle.path, tiny_recording, mode="rgb")
        for verdict in replay(station):
            if verdict.seq == 2:
                break

    leave_early()
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        leave_early()
    assert len(os.listdir("/proc/self/fd")) <= files  # noqa: PTH208


def test_the_mode_must_be_said_where_there_are_several(
    tiny_bundle: Bundle, tiny_recording: Path
) -> None:
    with pytest.raises(StationError, match="serves rgb, depth, rgbd: say which with --mode"):
        station_for(tiny_bundle.path, tiny_recording)


def test_a_stations_journal_is_kept_out_of_a_replay(
    tiny_bundle: Bundle, tiny_recording: Path, tmp_path: Path
) -> None:
    live = Station.model_validate(
        {
            "station": "line-1",
            "bundle": tiny_bundle.path,
            "camera": {"serial": "123"},
            "threshold": {"value": 1e6},
            "journal": {"path": tmp_path / "journal.jsonl"},
            "record": {"folder": tmp_path / "evidence"},
        }
    )
    verdicts = list(replay(at_station(live, tiny_recording)))
    assert {v.decision for v in verdicts} == {"good"}
    assert {v.station for v in verdicts} == {"line-1"}
    assert list(tmp_path.iterdir()) == []


def test_depth_alone_sees_the_belt_from_its_own_place(
    tiny_bundle: Bundle, tiny_belt: Transform, tmp_path: Path
) -> None:
    lens = Intrinsics(96, 80, 100.0, 100.0, 47.5, 39.5)
    shift = Transform(((1, 0, 0), (0, 0.8, -0.6), (0, 0.6, 0.8)), (0.015, 0.0, 0.002))
    path = tmp_path / "a.db3"
    with Recorder(path, Rig(lens, lens, 0.0001, shift)) as recorder:
        recorder.write(np.zeros((80, 96, 3), np.uint8), np.full((80, 96), 5000, np.uint16))
    belt_path(path).write_bytes(TypeAdapter(Transform).dump_json(tiny_belt))
    for mode, moved in (("rgbd", Transform.identity()), ("depth", shift)):
        station = station_for(tiny_bundle.path, path, mode=mode, belt=belt_path(path))  # type: ignore[arg-type]
        seen = station.belt_from_camera()
        assert seen is not None
        np.testing.assert_allclose(seen.matrix(), (tiny_belt @ moved).matrix(), atol=1e-6)
