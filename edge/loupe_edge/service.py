"""The loop of a station: capture, hand over, inspect, say, keep, record."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from loupe_calibration.errors import LoupeError
from loupe_edge.aggregate import Look, aggregate
from loupe_edge.capture import Capture, Ladder
from loupe_edge.clerk import Clerk
from loupe_edge.errors import EngineError, EngineLostError, EvidenceError, JournalError
from loupe_edge.evidence import EvidenceFolder
from loupe_edge.handover import Handed, HandOver, Trouble
from loupe_edge.health import Health
from loupe_edge.heartbeat import HeartbeatThread
from loupe_edge.metrics import Metrics
from loupe_edge.pace import Pace
from loupe_edge.protocols import Camera, FrameInspector, Journal, Publisher
from loupe_edge.stopwatch import Stopwatch
from loupe_edge.verdict import Verdict

TAKE_TIMEOUT_S = 0.1
MAX_ENGINE_ERRORS = 10  # in a row: no longer this frame's fault, and only a fresh start may help


@dataclass(slots=True)
class Service:
    """Everything one station runs on; `assembly.open_service` puts it together.

    Attributes:
        lock_step: Replay: hand-over waits, deadlines are measured but not enforced.
        deadline_ms: From hand-over to decision.
        pace: Whether it kept up with its camera.
    """

    camera: Camera
    inspector: FrameInspector
    clerk: Clerk
    publisher: Publisher
    heartbeat: HeartbeatThread
    health: Health
    metrics: Metrics
    journal: Journal | None = None
    evidence: EvidenceFolder | None = None
    ladder: Ladder = field(default_factory=Ladder)
    lock_step: bool = False
    deadline_ms: int = 200
    pace: Pace = field(default_factory=Pace)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Say verdicts until stopped, or until the recording is over.

        Raises:
            CameraError: The camera gave no frame, however often it was opened.
            EngineError: The engine is lost, or failed on every frame, for too many in a row.
            RecordingError: The recording cannot be used.
            ServiceError: A thread died.
        """
        for _ in self.verdicts():
            pass

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stop.set()

    def verdicts(self) -> Iterator[Verdict]:
        """Do the station's work, and give each verdict after it was said and kept."""
        hand_over = HandOver(lock_step=self.lock_step)
        with self._capturing(hand_over) as capture:
            for handed in self._handed(hand_over, capture):  # capture, hand over
                watch = Stopwatch()
                look = self._look(handed)  # gate, preprocess, infer, decide
                if look is None:
                    continue
                verdict = self._write(look, hand_over)
                with watch.stage("publish"):
                    self.publisher.publish(verdict)
                self.health.last_seq = verdict.seq
                with watch.stage("journal"):
                    self._keep(verdict)
                with watch.stage("record"):
                    self._record(look, verdict)
                self.metrics.count(verdict)
                self.metrics.time(watch.stage_us)
                yield verdict
                self._require_engine(verdict)

    @contextmanager
    def _capturing(self, hand_over: HandOver) -> Iterator[Capture]:
        capture = Capture(self.camera, hand_over, self.health, self.ladder)
        self.health.heal("service")
        try:
            yield capture
        except LoupeError as error:
            self.health.ail("service", "fault", str(error))
            raise
        except Exception as error:
            # The part in front of the camera gets its verdict even from a bug; then crash.
            bug = f"internal error: {type(error).__name__}: {error}"
            self.health.ail("service", "fault", bug)
            self.publisher.publish(self._write(Trouble(bug), hand_over))
            raise
        finally:
            capture.stop()
            self.pace.n_verdicts = self.clerk.last_seq + 1
            self.pace.n_dropped = self._n_dropped(hand_over)
            self.health.rest("loop")

    def _handed(self, hand_over: HandOver, capture: Capture) -> Iterator[Handed]:
        while not self._stop.is_set():
            self.health.moved("loop")
            self.heartbeat.check()
            handed = hand_over.take(TAKE_TIMEOUT_S)
            if handed is not None:
                yield handed
            elif hand_over.is_over:
                capture.finish()
                return

    def _look(self, handed: Handed) -> Look | Trouble | None:
        """Give the look that speaks for the part; None where there is nothing on the belt."""
        if isinstance(handed.item, Trouble):
            return handed.item
        waited_us = (time.monotonic_ns() - handed.at_ns) // 1000
        found = self.inspector.inspect(handed.item)
        self.pace.count(handed.item, found)
        self._tell_mode()
        if found is None:
            return None
        found = replace(found, stage_us={"hand_over": waited_us, **found.stage_us})
        return self._in_time(aggregate([Look(handed.item, found)]), handed)

    def _tell_mode(self) -> None:
        """Say on the heartbeat that another mode than the preferred one looks, and why."""
        self.metrics.set_mode(self.inspector.mode)
        if self.inspector.ailment:
            self.health.ail("mode", "degraded", self.inspector.ailment)
        else:
            self.health.heal("mode")

    def _require_engine(self, last: Verdict) -> None:
        """Crash rather than say `unknown` for ever; a replay answers for every frame.

        A lost engine ends a replay too: no later frame would get another answer.
        """
        if self.inspector.is_engine_lost:
            raise EngineLostError(last.reason)
        if self.inspector.n_engine_errors >= MAX_ENGINE_ERRORS and not self.lock_step:
            raise EngineError(
                f"the engine failed on {MAX_ENGINE_ERRORS} frames in a row ({last.reason})"
            )

    def _in_time(self, look: Look, handed: Handed) -> Look:
        late_ms = (time.monotonic_ns() - handed.at_ns) / 1e6
        if late_ms <= self.deadline_ms:
            return look
        self.metrics.count_missed_deadline()
        if self.lock_step:
            return look
        reason = f"missed the deadline: {late_ms:.0f} ms, {self.deadline_ms} ms are allowed"
        return replace(look, inspection=replace(look.inspection, decision="unknown", reason=reason))

    def _write(self, look: Look | Trouble, hand_over: HandOver) -> Verdict:
        dropped = self._n_dropped(hand_over)
        if isinstance(look, Trouble):
            return self.clerk.write_trouble(
                look.reason, self.inspector.mode, self.inspector.cut, dropped
            )
        return self.clerk.write(look, dropped)

    def _n_dropped(self, hand_over: HandOver) -> int:
        return self.camera.counters.dropped_frames + hand_over.dropped

    def _keep(self, verdict: Verdict) -> None:
        """Append to the journal; a disk that refuses is told on the heartbeat, not by silence."""
        if self.journal is None:
            return
        try:
            self.journal.append(verdict)
        except JournalError as error:
            self.health.ail("journal", "degraded", str(error))
        else:
            self.health.heal("journal")

    def _record(self, look: Look | Trouble, verdict: Verdict) -> None:
        if self.evidence is None or isinstance(look, Trouble):
            return
        try:
            self.evidence.record(look, verdict)
        except EvidenceError as error:
            self.health.ail("record", "degraded", str(error))
        else:
            self.health.heal("record")
