"""The bench: what it counts, and that its figures are those of the stages."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from loupe_calibration.errors import BadInputError
from loupe_edge.bench import (
    BenchRequest,
    bench,
    camera_frames,
    golden_frames,
    measure,
    quantiles_ms,
)
from loupe_edge.engine_settings import EngineSettings
from loupe_edge.engines import open_engine
from loupe_edge.errors import ProofError
from loupe_edge.fakes import ListCamera
from loupe_edge.inspector import Inspector
from loupe_edge.machine import (
    board_name,
    cpu_model,
    describe_machine,
    gpu_names,
    open_descriptors,
    resident_bytes,
    version,
)
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame

MakeFrame = Callable[..., Frame]


@pytest.fixture
def inspector(tiny_bundle: Bundle) -> Iterator[Inspector]:
    engine = open_engine(tiny_bundle, "rgb")
    yield Inspector(tiny_bundle, "rgb", engine)
    engine.close()


def test_warm_up_and_empty_frames_are_not_timed(
    inspector: Inspector, make_frame: MakeFrame
) -> None:
    kinds = ["good", "good", "good", "empty", "defect"]
    report = measure(inspector, [make_frame(kind, 1) for kind in kinds], n_warm_up=2)
    assert (report.n_frames, report.n_inspected) == (3, 2)


def test_a_slow_camera_shows_as_capture(inspector: Inspector, make_frame: MakeFrame) -> None:
    def slowly() -> Iterator[Frame]:
        for seed in range(4):
            time.sleep(0.03)
            yield make_frame("good", seed)

    stages = measure(inspector, slowly(), n_warm_up=1).stages
    assert stages["capture"]["p50_ms"] >= 30
    assert stages["total"]["p50_ms"] >= stages["capture"]["p50_ms"] + stages["infer"]["p50_ms"] / 2
    assert stages["all but infer"]["p50_ms"] < stages["total"]["p50_ms"]


def test_nothing_to_time_is_said(inspector: Inspector, make_frame: MakeFrame) -> None:
    with pytest.raises(BadInputError, match="more frames than the warm-up"):
        measure(inspector, [make_frame("empty", 1)] * 3, n_warm_up=1)
    with pytest.raises(BadInputError, match="more frames than the warm-up"):
        measure(inspector, [], n_warm_up=0)


@pytest.mark.parametrize("mode", ["rgb", "depth", "rgbd"])
def test_golden_frames_are_timed_without_a_recording(tiny_bundle: Bundle, mode: str) -> None:
    request = BenchRequest(tiny_bundle.path, mode=mode, n_frames=4, n_warm_up=1)  # type: ignore[arg-type]
    inspector, report = bench(request)
    assert report.n_inspected == 4
    document = json.loads(json.dumps(report.document(inspector, request)))
    assert document["bundle"]["sha256"] == tiny_bundle.sha256
    assert document["mode"] == mode
    assert document["frames_per_second"] > 0
    cells = [cell.strip() for cell in document["row"].strip("|").split("|")]
    assert cells[0] in (document["machine"].get("board"), document["machine"]["cpu"])
    assert cells[2:4] == ["onnxruntime fp32", f"{tiny_bundle.manifest.method} {mode}"]
    assert float(cells[4]) == pytest.approx(document["stages"]["infer"]["p50_ms"], abs=0.01)


def test_nothing_is_timed_that_is_not_proved(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle.path, tmp_path / "altered")
    document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    document["modes"]["rgb"]["golden"][1]["image_score"] += 1.0
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ProofError, match="golden frame 1"):
        bench(BenchRequest(folder, mode="rgb", n_frames=2, n_warm_up=0))


def test_golden_frames_go_round(tiny_bundle: Bundle) -> None:
    frames = list(golden_frames(tiny_bundle, "rgb", 5))
    assert np.array_equal(np.asarray(frames[0].rgb), np.asarray(frames[2].rgb))
    assert len(frames) == 5


def test_a_camera_is_closed_however_its_frames_end(make_frame: MakeFrame) -> None:
    for n_asked in (2, 9):
        camera = ListCamera([make_frame("good", seed) for seed in range(3)])
        assert len(list(camera_frames(camera, n_asked))) == min(n_asked, 3)
        assert not camera.is_open


def test_quantiles_are_in_milliseconds() -> None:
    assert quantiles_ms(range(0, 101_000, 1000)) == {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99}


def test_the_machine_is_described() -> None:
    machine = json.loads(json.dumps(describe_machine(("numpy", "no-such-distribution"))))
    assert machine["cpu"] == cpu_model() != ""
    assert machine["memory_gib"] > 0.1
    assert machine["versions"] == {"numpy": np.__version__}
    assert version("no-such-distribution") is None


def test_a_board_and_gpus_are_named_where_they_name_themselves(tmp_path: Path) -> None:
    assert (board_name(tmp_path), gpu_names(tmp_path)) == ("", "")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin Nano\0")
    assert board_name(tmp_path) == "NVIDIA Jetson Orin Nano"
    for bus in ("0000:19:00.0", "0000:3b:00.0"):
        place = tmp_path / "proc/driver/nvidia/gpus" / bus
        place.mkdir(parents=True)
        (place / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 99\n")
    assert gpu_names(tmp_path) == "NVIDIA H200"


def test_a_row_names_the_device_that_computes(
    inspector: Inspector, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = measure(inspector, [make_frame("good", 1)], n_warm_up=0)
    pc: dict[str, object] = {"cpu": "a Xeon", "gpu": "NVIDIA H200"}
    jetson = pc | {"board": "NVIDIA Jetson Orin Nano", "power_mode": "25W"}
    reference, tensorrt = EngineSettings(), EngineSettings(kind="tensorrt")
    for machine, engine, says in (
        (pc, reference, "| a Xeon |  | onnxruntime fp32 |"),
        (pc, tensorrt, "| NVIDIA H200 |  | tensorrt fp16 |"),
        (jetson, tensorrt, "| NVIDIA Jetson Orin Nano | 25W | tensorrt fp16 |"),
    ):
        monkeypatch.setattr("loupe_edge.bench.describe_machine", lambda told=machine: told)
        row = report.document(inspector, BenchRequest(Path(), engine=engine))["row"]
        assert str(row).startswith(says)


def test_memory_and_descriptors_are_our_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    held_before, open_before = resident_bytes(), open_descriptors()
    ballast = np.ones(64_000_000, np.uint8)
    path = tmp_path_factory.mktemp("machine") / "file"
    with path.open("wb"):
        assert open_descriptors() == open_before + 1
    assert resident_bytes() - held_before > 0.8 * ballast.nbytes
    assert open_descriptors() == open_before
