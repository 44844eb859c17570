"""How the station is: the worst of what ails it, and whether its loop still moves."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from loupe_edge.verdict import State

STALL_S = 5.0
_ORDER: tuple[State, ...] = ("ready", "starting", "degraded", "fault")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a heartbeat says."""

    state: State
    reason: str


class Health:
    """Ailments by source, set and cleared by whoever sees them; read by the heartbeat.

    Attributes:
        last_seq: Number of the last verdict sent; -1 before the first.
        stall_s: A stage that has not moved for longer is a fault.
    """

    def __init__(self, stall_s: float = STALL_S) -> None:
        self._lock = threading.Lock()
        self._ailments: dict[str, Condition] = {}
        self._moved_ns: dict[str, int] = {}
        self.stall_s = stall_s
        self.last_seq = -1

    def ail(self, source: str, state: State, reason: str) -> None:
        """Report what is wrong with one source, in place of what it reported before."""
        with self._lock:
            before = self._ailments.get(source)
            is_told = any(ailment.reason == reason for ailment in self._ailments.values())
            self._ailments[source] = Condition(state, reason)
        if (before is None or before.state != state) and not is_told:
            level = logging.INFO if state == "starting" else logging.WARNING
            log.log(level, "%s is %s: %s", source, state, reason)

    def heal(self, source: str) -> None:
        """Report that a source is well."""
        with self._lock:
            before = self._ailments.pop(source, None)
        if before is not None and before.state != "starting":
            log.info("%s is well again", source)

    def moved(self, stage: str) -> None:
        """Note that a stage made progress; once noted, it must go on making some."""
        with self._lock:
            self._moved_ns[stage] = time.monotonic_ns()

    def rest(self, stage: str) -> None:
        """Note that a stage is done and need not move any more."""
        with self._lock:
            self._moved_ns.pop(stage, None)

    def condition(self) -> Condition:
        """Give the worst ailment; a stage that does not move is a fault."""
        now_ns = time.monotonic_ns()
        with self._lock:
            told = list(self._ailments.values())
            for stage, moved_ns in self._moved_ns.items():
                idle_s = (now_ns - moved_ns) / 1e9
                if idle_s > self.stall_s:
                    told.append(Condition("fault", f"{stage} has not moved for {idle_s:.0f} s"))
        return max(told, key=lambda c: _ORDER.index(c.state), default=Condition("ready", ""))
