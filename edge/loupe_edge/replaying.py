"""What `loupe-edge replay` replays: which settings, which belt, and who listens."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from loupe_calibration.errors import FaultError
from loupe_edge.errors import RecordingError, StationError
from loupe_edge.labels import belt_path
from loupe_edge.places import told_of
from loupe_edge.publisher import ZmqPublisher
from loupe_edge.replay import at_station, replay, station_for
from loupe_edge.station import Station, load_station
from loupe_edge.verdict import Verdict
from loupe_models.manifest import Mode

SUBSCRIBER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """A replay as it was asked for.

    Attributes:
        station: A station's file, for its gate, belt, limits and camera.
        endpoint: Where verdicts also go.
    """

    bundle: Path
    recording: Path
    mode: Mode | None = None
    station: Path | None = None
    endpoint: str | None = None
    is_real_time: bool = False


def replayed(request: Request, tell: Callable[[str], None]) -> Generator[Verdict, None, None]:
    """Yield the verdicts; where they are also published, wait for a subscriber first.

    Args:
        request: What to replay.
        tell: Takes a line of what to know of the verdicts.

    Raises:
        BadInputError: Bundle, recording or station cannot be used.
        FaultError: Nobody subscribed in time, the camera failed, or the bundle is not proved.
    """
    settings = station_of(request)
    publisher: ZmqPublisher | None = None
    with ExitStack() as stack:
        if request.endpoint is not None:  # the station's file is not to blame for it
            publisher = stack.enter_context(closing(ZmqPublisher(request.endpoint)))
            _wait_for_subscriber(publisher, request.endpoint)
        if request.station is not None:
            stack.enter_context(told_of(request.station))
        yield from replay(settings, real_time=request.is_real_time, publisher=publisher, tell=tell)


def _wait_for_subscriber(publisher: ZmqPublisher, endpoint: str) -> None:
    if not publisher.wait_for_subscriber(SUBSCRIBER_TIMEOUT_S):
        raise FaultError(
            f"nobody subscribed to {endpoint} within {SUBSCRIBER_TIMEOUT_S:.0f} s: "
            f"start `loupe-edge listen {endpoint}` first, or leave --publish out"
        )


def station_of(request: Request) -> Station:
    """Give the settings of a replay.

    Raises:
        BadInputError: Bundle, recording or station cannot be used.
    """
    if not request.recording.is_file():
        raise RecordingError(
            f"{request.recording}: no such recording; `loupe-edge record` and `simulate` write one"
        )
    if request.station is None:
        belt = belt_beside(request.recording)
        return station_for(request.bundle, request.recording, mode=request.mode, belt=belt)
    station = at_station(load_station(request.station), request.recording)
    if request.mode is not None and request.mode != station.mode:
        raise StationError(f"{request.station}: mode: is {station.mode}; leave --mode out")
    return station.model_copy(update={"bundle": request.bundle})


def belt_beside(recording: Path) -> Path | None:
    """Find the belt that the simulator wrote beside its recording."""
    belt = belt_path(recording)
    return belt if belt.is_file() else None
