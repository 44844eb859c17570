"""The benchmark of the front: floors as documented, times from results only, sides in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _benchmarks(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks")


def test_the_documented_floors_are_the_computed_ones(repository: Path) -> None:
    import gpu_floors

    page = (repository / "edge" / "loupe_edge" / "cuda" / "README.md").read_text("utf-8")
    assert gpu_floors.table() in page
    assert "sample_farthest" in gpu_floors.table()


def test_what_was_measured_stands_beside_its_floor(tmp_path: Path) -> None:
    import gpu_floors

    assert gpu_floors.table(tmp_path).count("| not run |") == 6
    colour, cloud, groups = (
        {"kernels": {name: {"p50_ms": p50_ms} for name, p50_ms in kernels.items()}}
        for kernels in (
            {"shrink": 0.125},
            {"make_cloud": 0.5},
            {"make_cloud": 9, "count_valid": 0.25, "gather_points": 0.5, "sample_farthest": 2,
             "group_nearest": 3, "nearest_centres": 4},
        )
    )  # fmt: skip
    figures = {
        "gpu": "Orin",
        gpu_floors.COLOUR: colour,
        gpu_floors.CLOUD: cloud,
        gpu_floors.GROUPS: groups,
    }
    (tmp_path / "gpu_front.json").write_text(json.dumps({"figures": figures}))
    _, _, *rows = gpu_floors.table(tmp_path).splitlines()
    told = [row.split(" | ")[-1] for row in rows]
    assert told == [f"{ms} ms p50, Orin |" for ms in
                    ("0.500", "0.125", "0.750", "2.000", "3.000", "4.000")]  # fmt: skip


def test_sides_take_turns_both_ways_and_rounds_are_pairs() -> None:
    from harness import paired_ratio, take_turns

    called: list[str] = []
    sides = {name: lambda name=name: called.append(name) for name in "abc"}
    times_us = take_turns(sides, n_rounds=4, n_warm_up=2)
    assert "".join(called) == "abccba" * 3
    assert {name: len(spent) for name, spent in times_us.items()} == {"a": 4, "b": 4, "c": 4}
    assert paired_ratio({"a": [2, 30, 8], "b": [1, 10, 1]}, "a", "b") == 3


def test_without_a_gpu_the_benchmark_refuses(repository: Path) -> None:
    there = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(repository / "benchmarks" / "gpu_front.py")]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=there)
    assert told.returncode == 2
    assert "NVIDIA GPU" in told.stdout
    assert "Traceback" not in told.stderr
