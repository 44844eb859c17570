"""A station held against the bundle that it names, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.errors import RecordingError, StationError
from loupe_edge.inspector import streams_needed
from loupe_edge.labels import belt_path, read_labels
from loupe_edge.realsense import stream_size_wh
from loupe_edge.station import Station
from loupe_models.bundle import Bundle
from loupe_models.gate import ByHeight, GateSpec
from loupe_models.manifest import Mode


def check_fit(station: Station, bundle: Bundle) -> None:
    """Hold a station against the bundle it names, in every mode that may come into force.

    Raises:
        StationError: Every setting that the bundle asks for and the station lacks, a line each.
    """
    problems: list[str] = []
    # Where labels say where to look, no gate counts, and it need not fit the frame.
    frame_wh = None if is_labelled(station.camera) else frame_size_wh(station.camera)
    for mode in station.modes:
        if mode in bundle.manifest.modes:
            problems.extend(_mode_problems(station, bundle, mode, frame_wh))
        else:
            key = "mode" if mode == station.mode else "failover.modes"
            served = ", ".join(bundle.manifest.modes)
            problems.append(
                f"{key}: {bundle.manifest.id} serves {served}, not {mode}; give one of these"
            )
    if problems:
        raise StationError("\n".join(dict.fromkeys(problems)))


def _mode_problems(
    station: Station, bundle: Bundle, mode: Mode, frame_wh: tuple[int, int] | None
) -> Iterator[str]:
    contract = bundle.mode(mode)
    gate = station.gate_of(mode) or contract.gate
    if station.engine.variant not in contract.variants:
        offered = ", ".join(contract.variants)
        why = contract.why_not(station.engine.variant)
        yield (
            f"engine.variant: {bundle.manifest.id} has {offered} for {mode}, "
            f"not {station.engine.variant}{why}"
        )
    needed = streams_needed(contract, gate)
    if missing := sorted(needed - set(station.camera.streams)):
        yield f"camera.streams: mode {mode} and its gate need {', '.join(missing)} too"
    own = streams_needed(contract, GateSpec())
    if mode != station.mode and (more := sorted(needed - own)):
        kind = {"rgb": 'by = "height"', "depth": 'by = "colour"'}[more[0]]
        yield (
            f"failover.gates.{mode}: the gate needs {', '.join(more)}, which mode {mode} is there "
            f"to do without; give it a gate of its own, {kind} or without occupied"
        )
    removes_belt = any(step.step == "remove_belt" for step in contract.preprocess.steps)
    if station.belt is None and (isinstance(gate.occupied, ByHeight) or removes_belt):
        yield _belt_problem(station.camera)
    whose = "the station's" if station.gate_of(mode) else "the bundle's"
    yield from _region_problems(station.camera, gate, whose, frame_wh)


def _belt_problem(camera: CameraSettings) -> str:
    told = "belt: the gate or the preprocessing works by height above the belt: give [belt] file"
    beside = belt_path(camera.recording) if camera.recording is not None else None
    if beside is not None and beside.is_file():
        return f'{told} = "{beside}", which lies beside the recording'
    return (
        f'{told} = "NAME.belt.json", as `loupe-edge simulate` writes it beside its recording, or '
        f"the calibrated plane as normal and point_m"
    )


def required_streams(station: Station, bundle: Bundle) -> frozenset[Stream]:
    """Give what every frame must have: what no mode of the station can do without.

    Without failover that is every stream of its camera.
    """
    if station.failover is None:
        return frozenset(station.camera.streams)
    needed: frozenset[Stream] = frozenset(station.camera.streams)
    for mode in station.modes:
        contract = bundle.mode(mode)
        needed &= streams_needed(contract, station.gate_of(mode) or contract.gate)
    return needed


def _region_problems(
    camera: CameraSettings, gate: GateSpec, whose: str, frame_wh: tuple[int, int] | None
) -> Iterator[str]:
    region = gate.region_px
    if region is None or frame_wh is None:
        return
    right, bottom = region.x_px + region.width_px, region.y_px + region.height_px
    if right > frame_wh[0] or bottom > frame_wh[1]:
        source = "camera" if camera.recording is None else "recording"
        yield (
            f"gate.region_px: {whose} gate {list(region)} reaches to {right}x{bottom}, the "
            f"{source}'s frame is {frame_wh[0]}x{frame_wh[1]}; give a region inside it"
        )


def is_labelled(camera: CameraSettings) -> bool:
    """Whether labels beside a recording say where the parts are; they win over any gate.

    What is wrong with a recording is told where it is played.
    """
    if camera.recording is None:
        return False
    try:
        labels = read_labels(camera.recording).by_frame.values()
    except RecordingError:
        return False
    return any(label.rect_px is not None for label in labels)


def frame_size_wh(camera: CameraSettings) -> tuple[int, int] | None:
    """Give the size of the frames, pixels; None where it is not known yet.

    What is wrong with a recording is told where it is played.
    """
    if camera.recording is None:
        return camera.width_px, camera.height_px
    try:
        return stream_size_wh(camera.recording, "rgb" if "rgb" in camera.streams else "depth")
    except (RecordingError, StationError):
        return None
