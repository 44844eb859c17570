"""Counters for whoever scrapes them (Prometheus text format)."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from loupe_edge.errors import StationError
from loupe_edge.verdict import Verdict

STAGE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """One registry a service; served over HTTP only where the station asks for a port."""

    def __init__(self, station: str) -> None:
        self.registry = CollectorRegistry()
        self._station = station
        self._server: tuple[WSGIServer, Thread] | None = None
        self._verdicts = Counter(
            "loupe_verdicts",
            "Verdicts by decision",
            ("station", "decision"),
            registry=self.registry,
        )
        self._missed = Counter(
            "loupe_missed_deadlines",
            "Verdicts later than the station's deadline",
            ("station",),
            registry=self.registry,
        ).labels(station)
        self._dropped = Gauge(
            "loupe_dropped_frames",
            "Frames nobody looked at since start",
            ("station",),
            registry=self.registry,
        ).labels(station)
        self._mode = Gauge(
            "loupe_mode",
            "1 for the mode in force, 0 for every other that has been",
            ("station", "mode"),
            registry=self.registry,
        )
        self._mode_in_force = ""
        self._stage = Histogram(
            "loupe_stage_seconds",
            "Duration of each stage",
            ("station", "stage"),
            registry=self.registry,
            buckets=STAGE_BUCKETS_S,
        )

    def serve(self, port: int) -> None:
        """Serve the registry on every interface.

        Raises:
            StationError: The port is taken.
        """
        try:
            self._server = start_http_server(port, registry=self.registry)
        except OSError as error:
            raise StationError(
                f"metrics.port: cannot listen on {port} ({error.strerror}); choose another port"
            ) from error

    def count(self, verdict: Verdict) -> None:
        """Count one verdict and the stages it names."""
        self._verdicts.labels(self._station, verdict.decision).inc()
        self._dropped.set(verdict.dropped_frames)
        self.time(verdict.stage_us)

    def time(self, stage_us: Mapping[str, int]) -> None:
        """Count stages that took so many microseconds."""
        for stage, us in stage_us.items():
            self._stage.labels(self._station, stage).observe(us / 1e6)

    def set_mode(self, mode: str) -> None:
        """Note the mode in force."""
        if mode == self._mode_in_force:
            return
        if self._mode_in_force:
            self._mode.labels(self._station, self._mode_in_force).set(0)
        self._mode.labels(self._station, mode).set(1)
        self._mode_in_force = mode

    def count_missed_deadline(self) -> None:
        """Count one answer that came too late."""
        self._missed.inc()

    def close(self) -> None:
        """Stop serving; safe to call twice."""
        if self._server is not None:
            server, thread = self._server
            self._server = None
            server.shutdown()
            server.server_close()
            thread.join()
