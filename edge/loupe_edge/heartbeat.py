"""A sign of life four times a second, so that silence on the wire means something."""

from __future__ import annotations

import threading
import time

from loupe_edge.errors import ServiceError
from loupe_edge.health import Health
from loupe_edge.protocols import Publisher
from loupe_edge.verdict import Heartbeat, encodable

STOP_TIMEOUT_S = 2.0
LAST_WORDS = "the service ends"  # last in the reason of a station that ran to its end


class HeartbeatThread:
    """Sends what `Health` says, at a steady beat, until it is stopped.

    The beat is a timer, but what it says is tied to progress: a loop that stands still is
    reported as a fault, whoever is to blame.
    """

    def __init__(
        self,
        publisher: Publisher,
        health: Health,
        *,
        station: str,
        epoch: int,
        interval_ms: int,
    ) -> None:
        self._publisher = publisher
        self._health = health
        self._station = station
        self._epoch = epoch
        self._interval_s = interval_ms / 1000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; the first beat goes out at once."""
        self._thread.start()

    def check(self) -> None:
        """Raise if the thread died.

        Raises:
            ServiceError: Its traceback is in the log.
        """
        if not self._thread.is_alive() and not self._stop.is_set():
            raise ServiceError("the heartbeat thread died; its traceback is in the log")

    def stop(self) -> None:
        """Send one last beat and end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        self._beat()
        while not self._stop.wait(self._interval_s):
            self._beat()
        self._beat(LAST_WORDS)

    def _beat(self, last_words: str = "") -> None:
        condition = self._health.condition()
        reasons = [condition.reason]
        if condition.state in ("ready", "degraded"):  # else it did not run to its end
            reasons.append(last_words)
        self._publisher.heartbeat(
            Heartbeat(
                station=self._station,
                epoch=self._epoch,
                seq=self._health.last_seq,
                state=condition.state,
                reason=encodable("; ".join(filter(None, reasons))),
                at_ns=time.time_ns(),
            )
        )
