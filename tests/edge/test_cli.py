"""The command line as a person meets it: help, output, and what is said of bad input."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from edge_command import command
from full_disk import full_disk

from loupe_edge.labels import label_lines, labels_path
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.verdict import Verdict
from loupe_models.bundle import Bundle
from loupe_models.frame import Frame, Label, Rect

MakeFrame = Callable[..., Frame]

COMMANDS = (
    "run",
    "check",
    "build",
    "inspect",
    "simulate",
    "record",
    "replay",
    "listen",
    "bench",
    "doctor",
)
RECORDED = ["good", "defect", "empty", "good", "defect"]


Call = Callable[..., Any]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, make_frame: MakeFrame) -> Path:
    """Good, defect, empty, good, defect, as the tiny bundle sees them."""
    path = tmp_path_factory.mktemp("recorded") / "parts.db3"
    first = make_frame("good", 0, ("rgb", "depth"))
    rig = Rig(rgb=first.intrinsics, depth=first.intrinsics, depth_scale_m=0.0001)
    with Recorder(path, rig) as r:
        for seed, kind in enumerate(RECORDED):
            frame = make_frame(kind, seed, ("rgb", "depth"))
            r.write(frame.rgb, frame.depth, Label(part_id=f"part-{seed}"))
    return path


@pytest.fixture
def station(tmp_path: Path, tiny_bundle: Bundle, recording: Path) -> Path:
    """A station's file that is right in every respect."""
    path = tmp_path / "press-3.toml"
    path.write_text(
        f"""
        station = "press-3"
        bundle = "{tiny_bundle.path}"
        mode = "rgb"

        [camera]
        recording = "{recording}"

        [publish]
        endpoint = "ipc://{tmp_path}/verdicts"

        [journal]
        path = "journal.jsonl"
        """,
        encoding="utf-8",
    )
    return path


def test_help_names_every_command(call: Call) -> None:
    told = call("--help")
    assert told.status == 0
    assert [command for command in COMMANDS if command not in told.out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(call: Call, command: str) -> None:
    told = call(command, "--help")
    assert told.status == 0
    assert f"loupe-edge {command}" in told.out
    assert "Example" in told.out


def test_version(call: Call) -> None:
    told = call("--version")
    assert (told.status, told.out.split()[0]) == (0, "loupe")


def test_a_wrong_option_is_bad_input(call: Call) -> None:
    told = call("replay", "--nonsense")
    assert told.status == 2
    assert "--nonsense" in told.err


def test_replay_prints_a_verdict_a_line(call: Call, tiny_bundle: Bundle, recording: Path) -> None:
    told = call("replay", "--bundle", tiny_bundle.path, "--recording", recording,
                "--mode", "rgb", "--json")  # fmt: skip
    assert told.status == 0, told.err
    verdicts = [Verdict.model_validate_json(line) for line in told.out.splitlines()]
    expected = [(k, f"part-{i}") for i, k in enumerate(RECORDED) if k != "empty"]
    assert [(v.decision, v.part_id) for v in verdicts] == expected
    assert [v.seq for v in verdicts] == [0, 1, 2, 3]


def test_replay_for_people_sums_up(call: Call, tiny_bundle: Bundle, recording: Path) -> None:
    told = call("replay", "--bundle", tiny_bundle.path, "--recording", recording, "--mode", "rgb")
    assert told.status == 0, told.err
    assert told.out.count("DEFECT") == 2
    assert "4 verdicts: 2 good, 2 defect, 0 unknown" in told.out


def test_replay_at_a_station(
    call: Call, tiny_bundle: Bundle, recording: Path, station: Path
) -> None:
    told = call("replay", "--bundle", tiny_bundle.path, "--recording", recording,
                "--station", station, "--json")  # fmt: skip
    assert told.status == 0, told.err
    assert {json.loads(line)["station"] for line in told.out.splitlines()} == {"press-3"}
    assert not (station.parent / "journal.jsonl").exists()


def test_a_stations_file_is_not_blamed_for_an_option(
    call: Call, tiny_bundle: Bundle, recording: Path, station: Path
) -> None:
    told = call("replay", "--bundle", tiny_bundle.path, "--recording", recording,
                "--station", station, "--publish", "nowhere")  # fmt: skip
    assert told.status == 2
    assert "publish.endpoint: 'nowhere' is neither tcp://host:port nor ipc://path" in told.err
    assert station.name not in told.err


def test_replay_publishes_to_a_listener_in_another_process(
    call: Call, tiny_bundle: Bundle, recording: Path, tmp_path: Path
) -> None:
    endpoint, received = f"ipc://{tmp_path}/v", tmp_path / "received.jsonl"
    with received.open("wb") as stream:
        listener = subprocess.Popen(command("listen", endpoint, "--json"), stdout=stream)
    told = call("replay", "--bundle", tiny_bundle.path, "--recording", recording,
                "--mode", "rgb", "--publish", endpoint)  # fmt: skip
    wait_until(lambda: received.read_text(encoding="utf-8").count('"decision"') == 4)
    listener.send_signal(signal.SIGINT)
    assert listener.wait(20) == 130
    assert told.status == 0, told.err
    lines = [json.loads(line) for line in received.read_text(encoding="utf-8").splitlines()]
    verdicts = [Verdict.model_validate(line) for line in lines if "decision" in line]
    assert [v.decision for v in verdicts] == ["good", "defect", "good", "defect"]
    assert "gap" not in {line.get("event") for line in lines}


def test_replay_in_real_time_says_how_many_frames_were_dropped(
    call: Call, tiny_bundle: Bundle, recording: Path
) -> None:
    told = call("replay", "--bundle", tiny_bundle.path, "--recording", recording,
                "--mode", "rgb", "--real-time", "--json")  # fmt: skip
    assert told.status == 0, told.err
    n_verdicts = len(told.out.splitlines())
    assert re.search(rf"^{n_verdicts} verdicts, \d .*dropped", told.err, re.MULTILINE)


def test_check_says_what_would_run(call: Call, station: Path) -> None:
    told = call("check", station)
    assert told.status == 0, told.err
    for said in ("press-3", "tiny", "2 golden frames agree", "64×56 px at 16, 12", "10.0% of good"):
        assert said in told.out


def test_a_gate_that_is_the_whole_frame_is_warned_of(
    call: Call, station: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warning = "the gate is the whole frame"
    assert warning not in call("check", station).err
    text = station.read_text(encoding="utf-8")
    station.write_text(text + "[gate]\n", encoding="utf-8")
    told = call("check", station)
    assert told.status == 0, told.err
    assert warning in told.err
    assert "gate.occupied, without which" in " ".join(told.err.split())
    assert call("run", station).status == 0
    assert warning in caplog.text


def test_check_says_where_labels_win_over_the_gate(
    call: Call, station: Path, recording: Path, tmp_path: Path
) -> None:
    labelled = Path(shutil.copy(recording, tmp_path / "labelled.db3"))
    where = label_lines([(0, 0, Label(rect_px=Rect(0, 0, 9, 9)))])
    labels_path(labelled).write_text(where, encoding="utf-8")
    text = station.read_text(encoding="utf-8").replace(str(recording), str(labelled))
    station.write_text(text + "[gate]\n", encoding="utf-8")
    told = call("check", station)
    assert told.status == 0, told.err
    assert "rgb: where the recording's labels say; no gate counts" in told.out
    assert "warning" not in told.err


def test_a_gate_of_another_size_is_warned_of_wherever_it_judges(
    call: Call,
    station: Path,
    tiny_bundle: Bundle,
    recording: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    warning = "rgb: parts will appear at another scale than was learnt (48x42 instead of 64x56)"
    text = station.read_text(encoding="utf-8")
    station.write_text(text + "[gate]\nregion_px = [16, 12, 48, 42]\n", encoding="utf-8")
    told = call("check", station)
    assert told.status == 0, told.err
    assert warning in told.err
    assert "no promise comes with it" in told.out
    assert "of good parts" not in told.out
    replayed = call("replay", "--bundle", tiny_bundle.path, "--recording", recording,
                    "--station", station, "--json")  # fmt: skip
    assert warning in replayed.err
    assert call("run", station).status == 0
    assert warning in caplog.text


def test_run_plays_a_recording_to_its_end(
    call: Call, station: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="loupe_edge")
    told = call("run", station)
    assert told.status == 0, told.err
    assert re.search(r"\d verdicts, \d .*dropped", caplog.messages[-1])
    journal = (station.parent / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert 1 <= len(journal) <= 4  # a live station may drop frames


def test_bench_names_its_machine(call: Call, tiny_bundle: Bundle) -> None:
    told = call("bench", tiny_bundle.path, "--mode", "depth", "--frames", 5, "--warm-up", 1,
                "--json")  # fmt: skip
    assert told.status == 0, told.err
    document = json.loads(told.out)
    assert document["n_inspected"] == 5
    assert document["machine"]["cores"] >= 1
    assert set(document["stages"]) >= {"gate", "preprocess", "infer", "decide", "total"}


def test_doctor_ends_with_its_verdict(call: Call) -> None:
    told = call("doctor", "--serial", "000000000000")
    assert told.status == 1
    assert "no camera 000000000000" in told.out


def test_listen_stops_in_time(call: Call, tmp_path: Path) -> None:
    told = call("listen", f"ipc://{tmp_path}/nobody", "--seconds", 0.2)
    assert told.status == 0
    assert "Heard" in told.out


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'bundle = "',
            'bundle = "/absent',
            r"bundle: /absent\S*: no bundle there; give the folder",
        ),
        ("parts.db3", "absent.db3", "camera.recording: .*absent.db3: no such recording"),
        ('path = "journal.jsonl"', 'path = "."', "journal.path: .* no plain file"),
        ('path = "journal.jsonl"', 'path = "press-3.toml/j"', "journal.path: .* is a file"),
        ("[journal]", '[record]\nfolder = "press-3.toml"\n[journal]', "record.folder: .* a file"),
        ("[journal]", '[record]\nfolder = "press-3.toml/e"\n[journal]', "record.folder: .* made"),
        ("/verdicts", "/press-3.toml", r"publish.endpoint: \S+ exists and is no socket"),
        ("/verdicts", "/absent/v", r"publish.endpoint: \S+/absent is no folder; make it"),
        ("/verdicts", "/" + "v" * 107, r"publish.endpoint: \S+ has \d+ bytes, .* 107 at most"),
        ("[journal]", "[engine]\nvariant = 'int8'\n[journal]", "engine.variant: "),
        ("[journal]", "[gate]\nregion_px = [0, 0, 999, 9]\n[journal]", "gate.region_px: .*999x9"),
        (
            "[journal]",
            "[engine]\nkind = 'tensorrt'\nvariant = 'fp32'\n[journal]",
            r"engine.kind: TensorRT cannot .*doctor.*, or choose \"onnxruntime\"",
        ),
    ],
)
def test_a_place_that_cannot_serve_is_told_as_file_key_reason(
    call: Call, station: Path, command: str, old: str, new: str, says: str
) -> None:
    text = station.read_text(encoding="utf-8")
    assert old in text
    station.write_text(text.replace(old, new), encoding="utf-8")
    told = call(command, station)
    assert told.status == 2, told.err
    assert re.search(f"{station}: {says}", told.err)


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_pipe_is_no_journal(call: Call, station: Path, command: str) -> None:
    os.mkfifo(station.with_name("journal.jsonl"))
    told = call(command, station)
    assert told.status == 2, told.err
    assert re.search(r"journal.path: \S+ is no plain file; give the name of one", told.err)


@pytest.fixture
def wrong(tmp_path: Path, tiny_bundle: Bundle, recording: Path, station: Path) -> dict[str, Path]:
    """Everything that can be wrong with what a person gives."""
    damaged = shutil.copytree(tiny_bundle.path, tmp_path / "damaged")
    graph = damaged / "rgb.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-7])
    cut = tmp_path / "cut.db3"
    cut.write_bytes(recording.read_bytes()[: recording.stat().st_size // 3])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("not an image", encoding="utf-8")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((20, 20, 3), np.uint8))
    text = station.read_text(encoding="utf-8")
    (tmp_path / "unknown.toml").write_text(text + '\nspeed = "fast"\n', encoding="utf-8")
    (tmp_path / "torn.toml").write_text(text + "\n[camera\n", encoding="utf-8")
    return {
        "bundle": tiny_bundle.path, "recording": recording, "damaged": damaged, "cut": cut,
        "missing": tmp_path / "missing", "empty": tmp_path / "empty", "out": tmp_path / "out",
        "text": tmp_path / "text.png", "small": tmp_path / "small.png",
        "unknown": tmp_path / "unknown.toml", "torn": tmp_path / "torn.toml",
        "here": tmp_path, "taken": recording,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("check {missing}", "missing: No such file"),
        ("run {missing}", "give a station's TOML file"),
        ("check {unknown}", "journal.speed: no such setting"),
        ("check {torn}", "not valid TOML"),
        ("replay --bundle {missing} --recording {recording}", "give the folder that holds"),
        ("replay --bundle {damaged} --recording {recording}", "rgb.fp32.onnx is damaged"),
        ("replay --bundle {bundle} --recording {missing} --mode rgb", "no such recording"),
        ("replay --bundle {bundle} --recording {cut} --mode rgb", "record again"),
        ("replay --bundle {bundle} --recording {recording}", "say which with --mode"),
        ("replay --bundle {bundle} --recording {recording} --mode x", "give rgb, depth or rgbd"),
        ("bench {missing}", "give the folder that holds"),
        ("bench {bundle}", "say which with --mode"),
        ("bench {bundle} --engine gpu", "--engine gpu: give onnxruntime, openvino, tensorrt"),
        ("bench {bundle} --variant int8", "--variant int8: give fp32, fp16"),
        ("bench {bundle} --front tpu", "--front tpu: give cpu, gpu"),
        ("bench {bundle} --mode rgb --engine tensorrt", "or choose --engine onnxruntime"),
        (
            "bench {bundle} --recording {recording} --mode rgb --variant fp16",
            "mode rgb has variants fp32, not 'fp16'",
        ),
        ("bench {bundle} --front gpu", "choose --engine tensorrt, or --front cpu"),
        ("bench {bundle} --cache {out}", "choose --engine tensorrt, or leave it out"),
        ("inspect {bundle} {missing} --out {out}", "missing"),
        ("inspect {bundle} {text} --out {out}", "text.png"),
        ("inspect {bundle} {small} --out {out}", "20x20"),
        ("inspect {bundle} {empty} --out {out}", "empty"),
        ("inspect {damaged} {small} --out {out}", "damaged"),
        ("inspect {bundle} {small} --out {bundle}", "lies in the bundle"),
        ("simulate {bundle}/a.db3 --parts 1", "lies in the bundle"),
        ("simulate {here}/a.bag --parts 1", ".db3"),
        ("simulate {taken} --parts 1", "exists"),
        ("simulate {here}/a.db3 --parts 0", "--parts"),
        ("record {here}/a.db3", "--serial"),
        ("record {here}/a.db3 --serial 1 --streams infrared", "--streams infrared"),
        ("record {here}/a.db3 --from {missing}", "missing"),
        ("record {here}/a.db3 --from {empty}", "empty"),
        ("listen nowhere", "tcp://127.0.0.1:5555"),
        ("bench {bundle} --frames 99999999999999999999", "--frames"),
    ],
)
def test_bad_input_is_told_with_what_to_do(
    call: Call, wrong: dict[str, Path], line: str, says: str
) -> None:
    told = call(*line.format(**wrong).split())
    assert told.status == 2, told.err
    assert says in told.err
    assert not told.out
    assert "Traceback" not in told.err
    assert not (wrong["here"] / "a.db3").exists()


def test_run_does_not_end_well_where_verdicts_were_never_kept(call: Call, station: Path) -> None:
    with full_disk(1000):
        told = call("run", station)
    assert told.status == 1, told.err
    assert "verdicts were said but never kept" in told.err


def wait_until(is_so: Callable[[], bool], patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_so()
