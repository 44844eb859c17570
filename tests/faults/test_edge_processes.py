"""Drills on whole processes: two at once, killed, and hanging in the camera's close."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from loupe_edge.journal import read_journal
from loupe_edge.station import Station

MakeStation = Callable[..., Station]

ENDLESS = """
import dataclasses, sys, time
from pathlib import Path
from loupe_edge.assembly import open_service
from loupe_edge.fakes import ListCamera
from loupe_edge.proof import golden_frame
from loupe_edge.station import Station
from loupe_models.bundle import load_bundle

station = Station.model_validate_json(sys.argv[1])
bundle = load_bundle(station.bundle)
frame = golden_frame(bundle, bundle.mode("rgb").golden[0])

class Endless(ListCamera):
    def close(self):
        time.sleep(float(sys.argv[2]))

def frames():
    for i in range(10**9):
        time.sleep(0.001)
        yield dataclasses.replace(frame, frame_id=i)

with open_service(station, camera=Endless(frames())) as service:
    for verdict in service.verdicts():
        if verdict.seq == 20:
            print("running", flush=True)
        if verdict.seq == 30 and float(sys.argv[2]) > 0:
            break
"""


def started(station: Station, close_s: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ENDLESS, station.model_dump_json(), str(close_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


def test_two_processes_and_a_kill(make_station: MakeStation, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    station = make_station(journal={"path": path})
    first = started(station)
    second = subprocess.run(
        [sys.executable, "-c", ENDLESS, station.model_dump_json(), "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode != 0
    assert "is this station running already" in second.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    again = started(station)  # at once, over whatever the kill left behind
    os.kill(again.pid, signal.SIGKILL)
    again.communicate()
    epochs: dict[int, list[int]] = {}
    for verdict in read_journal(path):
        epochs.setdefault(verdict.epoch, []).append(verdict.seq)
    assert len(epochs) == 2
    assert list(epochs) == sorted(epochs)
    for seqs in epochs.values():
        assert seqs == list(range(len(seqs)))
        assert len(seqs) > 20


def test_a_camera_that_hangs_in_close_ends_the_process_hard(make_station: MakeStation) -> None:
    process = started(make_station(), close_s=60)
    start = time.monotonic()
    _, stderr = process.communicate(timeout=30)
    assert time.monotonic() - start < 8
    assert process.returncode == 1
    assert "Timeout" in stderr
    assert "in close" in stderr
