"""Verdicts and heartbeats on ZeroMQ.

Multipart `[topic, header]`, then image parts where the station sends them. Topics are
`verdict/<station>/` and `heartbeat/<station>/`; the slash at the end keeps a subscription to
`line-1` from hearing `line-10`. The header is UTF-8 JSON, schema 1 (`loupe_edge.verdict`). At its
high-water mark ZeroMQ drops the newest messages for a subscriber that does not read: `seq` shows
the gap, and a verdict that is late has expired.
"""

from __future__ import annotations

import errno
import socket
import threading
import time

import zmq

from loupe_edge.endpoint import ADVICE, ipc_path, port_of, unbindable
from loupe_edge.errors import StationError
from loupe_edge.verdict import Heartbeat, Verdict

LINGER_MS = 500
SEND_HWM = 10_000


class ListPublisher:
    """Keeps what would have been sent: the publisher of tests and of a replay nobody listens to."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.heartbeats: list[Heartbeat] = []

    def publish(self, verdict: Verdict) -> None:
        """Keep one verdict."""
        self.verdicts.append(verdict)

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Keep one heartbeat."""
        self.heartbeats.append(heartbeat)

    def close(self) -> None:
        """Keep everything."""


class SilentPublisher:
    """Sends nothing: a replay whose verdicts are read where they are made."""

    def publish(self, verdict: Verdict) -> None:
        """Send nothing."""

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Send nothing."""

    def close(self) -> None:
        """Nothing to free."""


class ZmqPublisher:
    """A bound XPUB socket: to a subscriber a PUB, but it can tell when somebody subscribes.

    Verdicts come from the loop and heartbeats from their thread; a lock keeps the socket to one
    thread at a time, and sending never blocks.
    """

    def __init__(self, endpoint: str) -> None:
        """Bind.

        Raises:
            StationError: The endpoint is taken or not an endpoint; the message says what to do.
        """
        try:
            port_of(endpoint)
        except ValueError as error:
            raise StationError(f"publish.endpoint: {error}") from error
        if reason := unbindable(endpoint):
            raise StationError(f"publish.endpoint: {reason}")
        self._refuse_stolen_ipc(endpoint)
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.set(zmq.LINGER, LINGER_MS)
        self._socket.set(zmq.SNDHWM, SEND_HWM)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise StationError(_bind_message(endpoint, error)) from error

    @property
    def endpoint(self) -> str:
        """Where it is bound, with the port the system chose if it was asked to."""
        return self._socket.get_string(zmq.LAST_ENDPOINT)

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Wait until somebody subscribes, so that a replay loses none of its verdicts."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            with self._lock:
                if self._socket.poll(min(50, int(left_s * 1000) + 1), zmq.POLLIN):
                    return self._socket.recv()[:1] == b"\x01"
        return False

    def publish(self, verdict: Verdict) -> None:
        """Send one verdict; never blocks."""
        header = verdict.model_dump_json(by_alias=True).encode()
        with self._lock:
            self._socket.send_multipart([b"verdict/%b/" % verdict.station.encode(), header])

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Send one heartbeat; never blocks."""
        header = heartbeat.model_dump_json(by_alias=True).encode()
        with self._lock:
            if self._socket.closed:
                return
            self._socket.send_multipart([b"heartbeat/%b/" % heartbeat.station.encode(), header])
            # An XPUB keeps every subscription for whoever asks; nobody here does any more.
            while self._socket.poll(0, zmq.POLLIN):
                self._socket.recv()

    def close(self) -> None:
        """Give what is queued a moment to leave, then free the socket; safe to call twice."""
        with self._lock:
            self._socket.close()
            self._context.term()

    @staticmethod
    def _refuse_stolen_ipc(endpoint: str) -> None:
        """ZeroMQ takes an ipc path away from whoever is bound to it, without a word."""
        path = ipc_path(endpoint)
        if path is None or not path.is_socket():
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            if probe.connect_ex(str(path)) != errno.ECONNREFUSED:  # or nobody is bound to it
                raise StationError(
                    f"publish.endpoint: {endpoint} is in use; is this station running already? "
                    f"stop it, or choose another endpoint"
                )


def _bind_message(endpoint: str, error: zmq.ZMQError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"publish.endpoint: {endpoint} is in use; is this station running already? "
            f"stop it, or choose another port"
        )
    return f"publish.endpoint: cannot bind {endpoint} ({error.strerror}); {ADVICE}"
