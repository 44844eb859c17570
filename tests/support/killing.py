"""A training that is killed in the middle: it logs a line of `metrics.jsonl` for each step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 120


def count_lines(folder: Path) -> int:
    """Say how many steps have been logged."""
    file = folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill_after(script: Path, folder: Path, n_lines: int) -> None:
    """Run a script on a folder in a process of its own, and kill it after so many steps."""
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # this file, among others
    learning = subprocess.Popen([sys.executable, script, folder], env=found)
    give_up = time.monotonic() + PATIENCE_S
    try:
        while count_lines(folder) < n_lines and time.monotonic() < give_up:
            assert learning.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        os.kill(learning.pid, signal.SIGKILL)
    finally:
        learning.kill()
        status = learning.wait()
    assert status == -signal.SIGKILL
    assert count_lines(folder) >= n_lines
