"""Failure drills of the edge: each ends in `unknown` with a reason, or a refusal; never in good."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from full_disk import full_disk

from loupe_edge.assembly import open_service
from loupe_edge.capture import Ladder
from loupe_edge.engines.onnxruntime import OnnxRuntimeEngine
from loupe_edge.errors import (
    CameraError,
    EngineError,
    ServiceError,
    StationError,
)
from loupe_edge.fakes import FunctionEngine, ListCamera
from loupe_edge.heartbeat import LAST_WORDS
from loupe_edge.inspector import Inspector
from loupe_edge.protocols import Engine, Outputs
from loupe_edge.publisher import ListPublisher, ZmqPublisher
from loupe_edge.service import MAX_ENGINE_ERRORS, Service
from loupe_edge.station import Station
from loupe_edge.verdict import Heartbeat
from loupe_edge.watcher import Moment, Watcher
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame
from loupe_models.preprocess import Tensors

MakeFrame = Callable[..., Frame]
MakeStation = Callable[..., Station]
NO_WAIT = Ladder(reads=2, reopens=2, first_wait_s=0.01)


@contextmanager
def opened(
    station: Station, items: Iterable[Frame | Exception], *, lock_step: bool = True
) -> Iterator[tuple[Service, ListPublisher]]:
    publisher = ListPublisher()
    camera = ListCamera(items)
    with open_service(station, lock_step=lock_step, publisher=publisher, camera=camera) as service:
        service.ladder = NO_WAIT
        yield service, publisher


def single(service: Service) -> Inspector:
    assert isinstance(service.inspector, Inspector)
    return service.inspector


def run(service: Service, *, engine: Engine) -> None:
    single(service).engine = engine
    service.run()


def slow(engine: Engine, seconds: float) -> FunctionEngine:
    def answer(tensors: Tensors) -> Outputs:
        time.sleep(seconds)
        return engine.infer(tensors)

    return FunctionEngine(answer)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_graph_that_gives_nan_is_unknown(
    make_station: MakeStation,
    make_frame: MakeFrame,
    make_graph: Callable[..., onnx.ModelProto],
    tiny_bundle: Bundle,
    tmp_path: Path,
    poison: float,
) -> None:
    onnx.save(make_graph("rgb", poison), tmp_path / "poisoned.onnx")
    contract = tiny_bundle.mode("rgb")
    with opened(make_station(), [make_frame(), make_frame("defect")]) as (service, publisher):
        single(service).engine = OnnxRuntimeEngine(
            tmp_path / "poisoned.onnx", contract.inputs, contract.outputs
        )
        service.run()
    assert [v.decision for v in publisher.verdicts] == ["unknown", "unknown"]
    assert all("nan" in v.reason and v.score is None for v in publisher.verdicts)


def test_an_infinite_map_is_unknown(make_station: MakeStation, make_frame: MakeFrame) -> None:
    def infinite(_: object) -> Outputs:
        anomaly_map = np.full((1, 1, 64, 64), np.inf, np.float32)
        return {"anomaly_map": anomaly_map, "image_score": np.zeros(1, np.float32)}

    with opened(make_station(), [make_frame()]) as (service, publisher):
        run(service, engine=FunctionEngine(infinite))
    assert publisher.verdicts[0].decision == "unknown"


def test_tensors_of_the_wrong_shape_are_unknown(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    with opened(make_station(), [make_frame()]) as (service, publisher):
        smaller = single(service).contract.preprocess.model_dump()
        smaller["steps"][1]["width_px"] = 32
        spec = type(single(service).contract.preprocess).model_validate(smaller)
        single(service).contract = single(service).contract.model_copy(update={"preprocess": spec})
        service.run()
    assert publisher.verdicts[0].decision == "unknown"
    assert "(1, 64, 32, 3)" in publisher.verdicts[0].reason


def failing(*n_failing: int) -> FunctionEngine:
    """An engine that fails in the calls of these numbers, and scores 0 in the others."""
    count = itertools.count()

    def answer(_: Tensors) -> Outputs:
        if next(count) in n_failing:
            raise EngineError("the device is lost")
        anomaly_map = np.zeros((1, 1, 64, 64), np.float32)
        return {"anomaly_map": anomaly_map, "image_score": np.zeros(1, np.float32)}

    return FunctionEngine(answer)


def one_by_one(service: Service, frame: Frame) -> Iterator[Frame]:
    """Give a live station each frame only when it has answered the last."""
    for n in range(30):
        for _ in range(2000):
            if service.health.last_seq >= n - 1:
                break
            time.sleep(0.001)
        yield frame


def test_an_engine_that_keeps_failing_ends_a_live_station_after_its_last_unknown(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    with opened(make_station(), [], lock_step=False) as (service, publisher):
        service.camera = ListCamera(one_by_one(service, make_frame()))
        with pytest.raises(EngineError, match=r"10 frames in a row .the device is lost") as ended:
            run(service, engine=failing(*range(3, 99)))
    assert ended.value.exit_status == 1
    decisions = [v.decision for v in publisher.verdicts]
    assert decisions == ["good"] * 3 + ["unknown"] * MAX_ENGINE_ERRORS
    last = publisher.heartbeats[-1]
    assert (last.state, last.seq) == ("fault", publisher.verdicts[-1].seq)


def test_an_engine_that_recovers_does_not_end_it(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    all_but_every_tenth = set(range(30)) - {9, 19, 29}
    with opened(make_station(), [], lock_step=False) as (service, publisher):
        service.camera = ListCamera(one_by_one(service, make_frame()))
        run(service, engine=failing(*all_but_every_tenth))
    assert len(publisher.verdicts) == 30


def test_a_replay_answers_every_frame_however_often_the_engine_fails(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    with opened(make_station(), [make_frame()] * 30) as (service, publisher):
        run(service, engine=failing(*range(30)))
    assert [v.decision for v in publisher.verdicts] == ["unknown"] * 30


def test_a_missed_deadline_is_unknown_live_and_only_counted_in_replay(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    station = make_station(limits={"deadline_ms": 20})
    missed = {"station": "line-1"}
    for lock_step, decision in ((False, "unknown"), (True, "good")):
        with opened(station, [make_frame()], lock_step=lock_step) as (service, publisher):
            single(service).engine = slow(single(service).engine, 0.05)
            service.run()
            n_missed = service.metrics.registry.get_sample_value(
                "loupe_missed_deadlines_total", missed
            )
        [verdict] = publisher.verdicts
        assert verdict.decision == decision
        assert n_missed == 1
        assert ("missed the deadline" in verdict.reason) == (not lock_step)


def test_a_dead_stream_is_unknown_and_the_station_recovers(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    dead = CameraError("no depth for 1.0 s")
    items: list[Frame | Exception] = [make_frame(seed=1), dead, dead, dead, make_frame(seed=2)]
    with opened(make_station(publish={"heartbeat_ms": 10}), items) as (service, publisher):
        conditions = []
        for _ in service.verdicts():
            time.sleep(0.03)
            conditions.append(service.health.condition())
    assert [v.decision for v in publisher.verdicts] == ["good"] + 3 * ["unknown"] + ["good"]
    assert [v.seq for v in publisher.verdicts] == list(range(5))
    assert {v.reason for v in publisher.verdicts[1:4]} == {"no depth for 1.0 s"}
    assert all(v.frame_id is None for v in publisher.verdicts[1:4])
    assert conditions[-1].state == "ready"
    told = [(beat.state, beat.reason) for beat in publisher.heartbeats]
    assert ("degraded", "no depth for 1.0 s") in told
    assert ("fault", "no depth for 1.0 s") in told
    assert told[-1] == ("ready", LAST_WORDS)


def test_a_degraded_stations_orderly_end_is_told_as_one(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    both = ("rgb", "depth")
    station = make_station(
        "rgbd", failover={"modes": ("rgb",)}, camera={"serial": "1", "streams": both}
    )
    items = [make_frame(seed=1, streams=both), make_frame(seed=2, streams=("rgb",))]
    with opened(station, items) as (service, publisher):
        service.run()
    last = publisher.heartbeats[-1]
    assert last.state == "degraded"
    assert last.reason == f"rgb instead of rgbd: no depth; {LAST_WORDS}"
    watcher = Watcher()
    parts = [b"heartbeat/line-1/", last.model_dump_json(by_alias=True).encode()]
    assert "ended" in [event.kind for event in watcher.receive(parts, Moment(0, 0))]
    assert watcher.tick(Moment(0, 60_000_000_000)) == []


def test_a_camera_that_never_returns_ends_the_process_after_bounded_retries(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    items: list[Frame | Exception] = [make_frame(), *[CameraError("gone")] * 100]
    with (
        pytest.raises(CameraError, match="gone") as caught,
        opened(make_station(), items) as (service, publisher),
    ):
        service.run()
    assert caught.value.exit_status == 1
    n_tries = NO_WAIT.reads * (1 + NO_WAIT.reopens)
    assert [v.decision for v in publisher.verdicts] == ["good"] + n_tries * ["unknown"]
    assert isinstance(service.camera, ListCamera)
    assert service.camera.n_opened == 1 + NO_WAIT.reopens
    assert not service.camera.is_open
    assert publisher.heartbeats[-1].state == "fault"


def test_a_bug_gives_the_part_its_verdict_and_then_crashes(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    def buggy(_: object) -> Outputs:
        raise ZeroDivisionError("a bug")

    with (
        pytest.raises(ZeroDivisionError),
        opened(make_station(), [make_frame(), make_frame()]) as (service, publisher),
    ):
        run(service, engine=FunctionEngine(buggy))
    assert [v.decision for v in publisher.verdicts] == ["unknown"]
    assert "ZeroDivisionError: a bug" in publisher.verdicts[0].reason
    assert publisher.heartbeats[-1].state == "fault"


def test_a_bug_in_the_capture_thread_is_not_quiet(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    items: list[Frame | Exception] = [make_frame(), ZeroDivisionError("in the camera")]
    with (
        pytest.raises(ZeroDivisionError, match="in the camera"),
        opened(make_station(), items) as (service, publisher),
    ):
        service.run()
    assert [v.decision for v in publisher.verdicts] == ["good", "unknown"]
    assert "internal error: ZeroDivisionError" in publisher.verdicts[1].reason
    assert service.pace.n_verdicts == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_heartbeat_that_dies_is_not_quiet(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    class Broken(ListPublisher):
        def heartbeat(self, heartbeat: Heartbeat) -> None:
            if len(self.heartbeats) == 3:
                raise OSError("the socket is gone")
            super().heartbeat(heartbeat)

    def forever() -> Iterable[Frame]:
        while True:
            time.sleep(0.01)
            yield make_frame()

    station = make_station(publish={"heartbeat_ms": 10})
    with (
        pytest.raises(ServiceError, match="heartbeat thread died"),
        open_service(station, publisher=Broken(), camera=ListCamera(forever())) as service,
    ):
        service.run()


def test_a_loop_that_stands_still_is_a_fault_on_the_heartbeat(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    station = make_station(
        publish={"heartbeat_ms": 20},
        camera={"serial": "1", "start_timeout_s": 0.01},
        limits={"deadline_ms": 60_000},
    )
    with opened(station, [make_frame()], lock_step=False) as (service, publisher):
        service.health.stall_s = 0.3
        single(service).engine = slow(single(service).engine, 0.8)
        service.run()
    stalled = [beat for beat in publisher.heartbeats if beat.state == "fault"]
    assert stalled
    assert "loop has not moved" in stalled[0].reason
    assert publisher.heartbeats[-1].state == "ready"


def test_a_full_disk_degrades_the_station_and_loses_no_verdict(
    make_station: MakeStation, make_frame: MakeFrame
) -> None:
    station = make_station(journal={"path": "/dev/full"}, publish={"heartbeat_ms": 10})
    with opened(station, [make_frame(seed=i) for i in range(5)]) as (service, publisher):
        for _ in service.verdicts():
            time.sleep(0.02)
    assert [v.decision for v in publisher.verdicts] == 5 * ["good"]
    last = publisher.heartbeats[-1]
    assert last.state == "degraded"
    assert "No space left on device, 5 verdicts wait in memory" in last.reason


def test_evidence_on_a_full_disk_degrades_the_station_and_leaves_nothing_half_written(
    make_station: MakeStation, make_frame: MakeFrame, tmp_path: Path
) -> None:
    station = make_station(record={"folder": tmp_path / "evidence"})
    with opened(station, [make_frame("defect"), make_frame("defect")]) as (service, publisher):
        verdicts = service.verdicts()
        with full_disk(500):
            next(verdicts)
        assert service.health.condition().state == "degraded"
        assert list((tmp_path / "evidence").iterdir()) == []
        next(verdicts)
        assert service.health.condition().state == "ready"
    assert [v.decision for v in publisher.verdicts] == ["defect", "defect"]


def test_a_second_instance_is_refused(make_station: MakeStation, make_frame: MakeFrame) -> None:
    first = ZmqPublisher("tcp://127.0.0.1:*")
    station = make_station(publish={"endpoint": first.endpoint})
    with (
        pytest.raises(StationError, match="is this station running already"),
        open_service(station, camera=ListCamera([make_frame()])),
    ):
        pass
    first.close()


def test_threads_and_files_are_given_back(
    make_station: MakeStation, make_frame: MakeFrame, tmp_path: Path
) -> None:
    station = make_station(
        journal={"path": tmp_path / "journal.jsonl"}, record={"folder": tmp_path / "evidence"}
    )

    def cycle() -> None:
        with open_service(
            station, lock_step=True, camera=ListCamera([make_frame(), make_frame("defect")])
        ) as service:
            service.run()

    cycle()
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    threads = threading.active_count()
    for _ in range(5):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208
    assert threading.active_count() == threads
