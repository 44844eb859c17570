"""A recording through the very code that runs on the line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from loupe_edge.assembly import open_service
from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.errors import StationError
from loupe_edge.gate_fit import gate_fit
from loupe_edge.inspector import streams_needed
from loupe_edge.protocols import Publisher
from loupe_edge.publisher import SilentPublisher
from loupe_edge.realsense import rgb_from_depth
from loupe_edge.recording_file import read_contents
from loupe_edge.station import BeltSettings, Station
from loupe_edge.verdict import Verdict
from loupe_models.bundle import load_bundle
from loupe_models.manifest import Mode

log = logging.getLogger(__name__)


def replay(
    station: Station,
    *,
    real_time: bool = False,
    publisher: Publisher | None = None,
    tell: Callable[[str], None] = log.warning,
) -> Iterator[Verdict]:
    """Yield the verdicts of a station whose camera is a recording.

    In lock-step nothing is dropped and no deadline is enforced, so the same recording gives the
    same verdicts, apart from times; in real time everything behaves as live.

    Args:
        station: Its journal, evidence and metrics are used where it names them.
        real_time: Behave as live.
        publisher: Where verdicts also go; nowhere by default.
        tell: Takes a line of what to know of the verdicts.

    Raises:
        BadInputError: Settings, bundle or recording cannot be used.
        FaultError: A required stream is dead, or the bundle is not proved here.
    """
    camera = station.camera.model_copy(update={"real_time": real_time})
    station = station.model_copy(update={"camera": camera})
    publisher = publisher or SilentPublisher()
    with open_service(station, lock_step=not real_time, publisher=publisher) as service:
        for warning in gate_fit(station, service.inspector.bundle).rescaled.values():
            tell(f"warning: {warning}")
        yield from service.verdicts()
        if real_time:
            tell(service.pace.told)


def station_for(
    bundle: Path, recording: Path, *, mode: Mode | None = None, belt: Path | None = None
) -> Station:
    """Make the settings of a replay that needs no station's file.

    Args:
        bundle: The bundle to judge with.
        recording: The `.db3` to look at.
        mode: Which of the bundle's modes; needed only where it serves several.
        belt: JSON of `belt_from_camera`, for gates and clouds that need the belt.

    Raises:
        BadInputError: The bundle is damaged, or serves several modes and none was named.
    """
    loaded = load_bundle(bundle)
    served = list(loaded.manifest.modes)
    if mode is None:
        if len(served) > 1:
            raise StationError(f"{bundle} serves {', '.join(served)}: say which with --mode")
        mode = served[0]
    contract = loaded.mode(mode)
    needed = streams_needed(contract, contract.gate)
    return Station(
        station="replay",
        bundle=bundle,
        mode=mode,
        camera=CameraSettings.model_validate(
            {"recording": recording, "streams": tuple(s for s in ("rgb", "depth") if s in needed)}
        ),
        belt=_belt_seen(belt, recording, needed) if belt else None,
    )


def _belt_seen(belt: Path, recording: Path, needed: set[Stream]) -> BeltSettings:
    """Give the belt in the camera's frame: depth alone is seen from depth's own viewpoint."""
    of_colour = BeltSettings(file=belt)
    if needed != {"depth"} or not all(read_contents(recording).n_images.values()):
        return of_colour
    seen = of_colour.belt_from_camera() @ rgb_from_depth(recording)
    point_m = seen.inverse().translation_m
    return BeltSettings(normal=seen.rotation[2], point_m=point_m, travel=seen.rotation[0])


def at_station(station: Station, recording: Path) -> Station:
    """Put a recording in place of a station's live camera, and keep its journal out of it."""
    camera = station.camera.model_dump() | {"serial": None, "recording": recording}
    return station.model_copy(
        update={
            "camera": CameraSettings.model_validate(camera),
            "journal": None,
            "record": None,
            "metrics": None,
        }
    )
