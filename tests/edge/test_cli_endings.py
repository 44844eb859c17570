"""How commands end: their exit status, and that an interrupt is no accident."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from edge_command import command

from loupe_calibration.errors import LoupeError
from loupe_models.bundle import Bundle

INTERRUPTED = 130


@pytest.mark.parametrize("words", [("listen", "ipc:///tmp/loupe-test-nobody")])
def test_an_interrupt_ends_a_command_without_a_traceback(words: tuple[str, ...]) -> None:
    with subprocess.Popen(
        command(*words),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it says that it hears nothing
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in told


def test_output_into_a_closed_pipe_is_no_traceback(
    tiny_bundle: Bundle, tiny_recording: Path
) -> None:
    replay = command("replay", "--bundle", str(tiny_bundle.path), "--recording",
                     str(tiny_recording), "--mode", "rgb", "--json")  # fmt: skip
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(replay, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert b"Traceback" not in ended.stderr
    assert ended.returncode == 1


def test_every_error_of_ours_carries_its_exit_status() -> None:
    pending, seen = [LoupeError], set()
    while pending:
        kind = pending.pop()
        seen.add(kind.exit_status)
        pending.extend(kind.__subclasses__())
    assert seen - {INTERRUPTED} == {1, 2}
