"""A station as a process: from its file to a signal that ends it."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType

from loupe_edge.assembly import open_service
from loupe_edge.errors import JournalError
from loupe_edge.gate_fit import gate_fit
from loupe_edge.places import check_places, told_of
from loupe_edge.station import Station, load_station

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"  # journald adds the time

log = logging.getLogger(__name__)


def run_station(path: Path) -> int:
    """Run a station until it is told to stop, or its recording is over.

    Args:
        path: The station's TOML file.

    Returns:
        The exit status: 0, or 130 after an interrupt from the keyboard.

    Raises:
        BadInputError: The file, the bundle and the device do not fit together.
        FaultError: The camera, the engine or a thread gave up, or verdicts were never kept.
    """
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    station = _as_live(load_station(path))
    received: list[int] = []
    with told_of(path):
        check_places(station)
    with told_of(path), open_service(station) as service:

        def stop(number: int, _: FrameType | None) -> None:
            received.append(number)
            service.stop()

        before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            log.info("%s: verdicts on %s", station.station, station.publish.endpoint)
            for warning in gate_fit(station, service.inspector.bundle).warnings:
                log.warning("%s", warning)
            service.run()
        finally:
            level = logging.WARNING if service.pace.is_behind else logging.INFO
            log.log(level, "%s", service.pace.told)
            for number, handler in before.items():
                signal.signal(number, handler)
    if service.journal is not None and service.journal.n_owed:
        raise JournalError(
            f"{service.journal.n_owed} verdicts were said but never kept; free some space where "
            f"journal.path lies, or name another place"
        )
    return 130 if signal.SIGINT in received else 0


def _as_live(station: Station) -> Station:
    """Play a recording at the speed it was made: read any faster, most of its parts are dropped."""
    camera = station.camera.model_copy(update={"real_time": station.camera.recording is not None})
    return station.model_copy(update={"camera": camera})
