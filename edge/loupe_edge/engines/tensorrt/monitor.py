"""How far a build has come: told to a person and to systemd, and stopped on request."""

from __future__ import annotations

import threading
import time
from typing import Final

import tensorrt as trt

from loupe_edge.notify import notify
from loupe_edge.progress import Report

TELL_EVERY_S: Final = 1.0
PATIENCE_S: Final = 120  # a step may take so long before systemd takes the build for dead


class BuildMonitor(trt.IProgressMonitor):
    """Counts the steps of all phases, nested as they are; TensorRT calls from its own threads.

    Systemd is asked for more time only after a step: a build that hangs is not kept alive.
    """

    def __init__(self, report: Report, stopped: threading.Event) -> None:
        trt.IProgressMonitor.__init__(self)
        self._report = report
        self._stopped = stopped
        self._lock = threading.Lock()
        self._n_steps: dict[str, int] = {}
        self._n_done: dict[str, int] = {}
        self._finished = 0
        self._told_at = -TELL_EVERY_S

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002  (TensorRT's signature)
        """Take up a phase."""
        with self._lock:
            self._n_steps[phase_name] = num_steps
            self._n_done[phase_name] = 0
        self._tell()

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Note a step, and say whether TensorRT shall go on."""
        with self._lock:
            self._n_done[phase_name] = step + 1
        self._tell()
        return not self._stopped.is_set()

    def phase_finish(self, phase_name: str) -> None:
        """Note the end of a phase, whole or not."""
        with self._lock:
            self._finished += self._n_steps.pop(phase_name, 0)
            self._n_done.pop(phase_name, None)
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            done = self._finished + sum(self._n_done.values())
            total = self._finished + sum(self._n_steps.values())
            now = time.monotonic()
            is_due = now - self._told_at >= TELL_EVERY_S
            if is_due:
                self._told_at = now
            self._report(done, total)
        if is_due:
            notify(
                f"EXTEND_TIMEOUT_USEC={PATIENCE_S * 1_000_000}",
                f"STATUS=building a TensorRT plan: {done} of {total} steps",
            )
