"""The documented floors are the computed ones, and the benchmark refuses without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(script: Path) -> subprocess.CompletedProcess[str]:
    there = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(script)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=there)


def test_the_documented_floors_are_the_computed_ones(repository: Path) -> None:
    told = run(repository / "benchmarks" / "gpu_floors.py")
    assert told.returncode == 0, told.stderr
    page = (repository / "edge" / "loupe_edge" / "cuda" / "README.md").read_text("utf-8")
    assert told.stdout.strip() in page
    assert "sample_farthest" in told.stdout


def test_without_a_gpu_the_benchmark_refuses(repository: Path) -> None:
    told = run(repository / "benchmarks" / "gpu_front.py")
    assert told.returncode == 2
    assert "NVIDIA GPU" in told.stdout
    assert "Traceback" not in told.stderr
