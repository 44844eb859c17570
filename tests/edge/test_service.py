"""The loop: every frame gets its verdict, in order, numbered, dated, said and kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from loupe_edge.assembly import open_service
from loupe_edge.errors import ProofError
from loupe_edge.fakes import ListCamera
from loupe_edge.journal import read_journal
from loupe_edge.publisher import ListPublisher
from loupe_edge.station import Station
from loupe_edge.verdict import Verdict
from loupe_models.bundle import load_bundle
from loupe_models.frame import Frame

MakeFrame = Callable[..., Frame]
MakeStation = Callable[..., Station]


def said(station: Station, items: Iterable[Frame | Exception]) -> list[Verdict]:
    publisher = ListPublisher()
    with open_service(
        station, lock_step=True, publisher=publisher, camera=ListCamera(items)
    ) as service:
        out = list(service.verdicts())
    assert publisher.verdicts == out
    return out


def test_a_recording_without_frames_says_nothing(make_station: MakeStation) -> None:
    assert said(make_station(), []) == []


def test_each_part_gets_one_verdict_with_who_when_and_why(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    kinds = ["good", "defect", "empty", "good", "defect"]
    frames = [make_frame(kind, i, frame_id=10 + i, part_id=f"p{i}") for i, kind in enumerate(kinds)]
    before = time.time_ns()
    station = make_station()
    verdicts = said(station, frames)
    assert [v.decision for v in verdicts] == ["good", "defect", "good", "defect"]
    assert [v.seq for v in verdicts] == [0, 1, 2, 3]
    assert [v.frame_id for v in verdicts] == [10, 11, 13, 14]
    assert [v.part_id for v in verdicts] == ["p0", "p1", "p3", "p4"]
    bundle = load_bundle(station.bundle)
    for verdict, frame in zip(verdicts, [f for f in frames if f.frame_id != 12], strict=True):
        assert verdict.station == "line-1"
        assert verdict.mode == "rgb"
        assert before <= verdict.epoch <= verdict.published_at_ns
        assert verdict.captured_at_ns == frame.captured_at_ns
        assert verdict.expires_at_ns == frame.captured_at_ns + 1_000_000_000
        assert verdict.camera_time is not None
        assert verdict.camera_time.ns == frame.camera_time.ns
        assert verdict.bundle.sha256 == bundle.sha256
        assert set(verdict.stage_us) == {"hand_over", "gate", "preprocess", "infer", "decide"}
        assert verdict.dropped_frames == 0
        assert bool(verdict.regions) == (verdict.decision == "defect")


def test_depth_travels_with_its_proof(make_station: MakeStation, make_frame: MakeFrame) -> None:
    [verdict] = said(make_station("rgbd"), [make_frame(streams=("rgb", "depth"))])
    assert verdict.sync is not None
    assert verdict.sync.delta_us == 120
    assert verdict.depth_valid_fraction == 1.0
    assert verdict.calibration_id is not None


def test_a_stations_own_threshold_and_gate_are_in_force(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    [high] = said(make_station(threshold={"value": 1e6}), [make_frame("defect")])
    assert (high.decision, high.threshold) == ("good", 1e6)
    everything = make_station(gate={"region_px": [16, 12, 64, 56]})
    assert len(said(everything, [make_frame("empty")])) == 1


def test_the_journal_keeps_what_was_said_and_epochs_only_grow(
    make_station: MakeStation, make_frame: MakeFrame, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    station = make_station(journal={"path": path})
    first = said(station, [make_frame(seed=i) for i in range(3)])
    ahead = first[-1].model_copy(update={"epoch": time.time_ns() + 10**15, "seq": 0})
    with path.open("a") as lines:  # the clock was ahead, and has been set back since
        lines.write(ahead.model_dump_json(by_alias=True) + "\n")
    second = said(station, [make_frame(seed=i) for i in range(2)])
    assert list(read_journal(path)) == [*first, ahead, *second]
    assert [v.seq for v in second] == [0, 1]
    assert second[0].epoch == ahead.epoch + 1


def test_evidence_is_kept_of_what_is_not_good(
    make_station: MakeStation, make_frame: MakeFrame, tmp_path: Path
) -> None:
    station = make_station(record={"folder": tmp_path / "evidence"})
    verdicts = said(station, [make_frame(kind) for kind in ("good", "defect", "good")])
    [entry] = (tmp_path / "evidence").iterdir()
    assert Verdict.model_validate_json((entry / "verdict.json").read_text()) == verdicts[1]


def test_heartbeats_go_from_starting_to_ready(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    publisher = ListPublisher()
    station = make_station(publish={"heartbeat_ms": 10})
    paused = threading.Event()

    def frames() -> Iterable[Frame]:
        yield make_frame(seed=1)
        paused.wait(0.2)
        yield make_frame(seed=2)

    with open_service(
        station, lock_step=True, publisher=publisher, camera=ListCamera(frames())
    ) as service:
        service.run()
    states = [beat.state for beat in publisher.heartbeats]
    assert states[0] == "starting"
    assert "ready" in states
    assert states == sorted(states, key=["starting", "ready"].index)
    seqs = [beat.seq for beat in publisher.heartbeats]
    assert seqs[0] == -1
    assert 0 in seqs
    assert seqs[-1] == 1
    assert {beat.epoch for beat in publisher.heartbeats} == {publisher.verdicts[0].epoch}


def test_live_frames_that_nobody_could_look_at_are_counted(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    frames = [make_frame(seed=i, frame_id=i) for i in range(50)]
    publisher = ListPublisher()
    station = make_station(limits={"deadline_ms": 60_000})
    with open_service(station, publisher=publisher, camera=ListCamera(frames)) as service:
        for _ in service.verdicts():
            time.sleep(0.01)
    last = publisher.verdicts[-1]
    assert last.frame_id == 49  # the newest always wins
    assert last.seq + 1 + last.dropped_frames == 50
    assert last.dropped_frames > 0
    assert (service.pace.n_verdicts, service.pace.n_looked) == (last.seq + 1, last.seq + 1)
    assert service.pace.is_behind
    said = f"{last.seq + 1} verdicts, {last.dropped_frames} of 50 frames dropped: a look takes "
    assert service.pace.told.startswith(said)


def test_stop_ends_a_stream_that_never_ends(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    frame = make_frame()

    def forever() -> Iterable[Frame]:
        while True:
            time.sleep(0.002)
            yield frame

    camera = ListCamera(forever())
    with open_service(make_station(), publisher=ListPublisher(), camera=camera) as service:
        threading.Timer(0.2, service.stop).start()
        service.run()
    assert not camera.is_open


def test_a_bundle_that_is_not_proved_does_not_speak(
    make_station: MakeStation, make_frame: MakeFrame, tmp_path: Path
) -> None:
    station = make_station()
    lying = shutil.copytree(station.bundle, tmp_path / "lying")
    manifest = json.loads((lying / "manifest.json").read_text())
    manifest["modes"]["rgb"]["golden"][0]["image_score"] += 0.1
    (lying / "manifest.json").write_text(json.dumps(manifest))
    publisher = ListPublisher()
    with (
        pytest.raises(ProofError, match="do not use this bundle"),
        open_service(
            make_station(bundle=lying), publisher=publisher, camera=ListCamera([make_frame()])
        ),
    ):
        pass
    assert publisher.verdicts == []


def test_the_counters_can_be_scraped(make_station: MakeStation, make_frame: MakeFrame) -> None:
    frames = [make_frame(kind) for kind in ("good", "good", "defect")]
    with open_service(
        make_station(), lock_step=True, publisher=ListPublisher(), camera=ListCamera(frames)
    ) as service:
        service.run()
        read = service.metrics.registry.get_sample_value
        labels = {"station": "line-1"}
        assert read("loupe_verdicts_total", labels | {"decision": "good"}) == 2
        assert read("loupe_verdicts_total", labels | {"decision": "defect"}) == 1
        for stage in ("gate", "infer", "publish", "journal", "record"):
            assert read("loupe_stage_seconds_count", labels | {"stage": stage}) == 3


def test_the_edge_runs_without_torch() -> None:
    look = (
        "import json, sys, loupe_edge.assembly, loupe_edge.replay, loupe_edge.publisher;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(told.stdout)}
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "torchvision", "transformers", "sklearn", "open3d"}
