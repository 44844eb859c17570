"""How commands end: their exit status, and that an interrupt is no accident."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from loupe_calibration.errors import LoupeError

INTERRUPTED = 130


@pytest.mark.parametrize("words", [("listen", "ipc:///tmp/loupe-test-nobody")])
def test_an_interrupt_ends_a_command_without_a_traceback(words: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from loupe_edge.cli import main; main()", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it says that it hears nothing
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in told


def test_every_error_of_ours_carries_its_exit_status() -> None:
    pending, seen = [LoupeError], set()
    while pending:
        kind = pending.pop()
        seen.add(kind.exit_status)
        pending.extend(kind.__subclasses__())
    assert seen - {INTERRUPTED} == {1, 2}
