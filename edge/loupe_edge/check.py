"""What a station's file would run: everything short of the camera, tried and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from loupe_edge.gate_fit import GateFit, gate_fit
from loupe_edge.places import check_places, told_of
from loupe_edge.proof import ProofReport
from loupe_edge.proved import open_proved
from loupe_edge.station import Station, load_station
from loupe_edge.station_fit import check_fit
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.manifest import Mode


@dataclass(frozen=True, slots=True)
class CheckedStation:
    """A station that would run, as far as can be told without its camera."""

    station: Station
    bundle: Bundle
    proofs: Mapping[Mode, ProofReport]
    gate: GateFit


def check(path: Path) -> CheckedStation:
    """Read the station's file, load its bundle, and prove it on this machine.

    Args:
        path: The station's TOML file.

    Raises:
        StationError: A setting is wrong; every line of the message is `file: key: reason`.
        BundleError: The bundle is damaged or foreign.
        ProofError: The bundle does not answer here as it did at its trainer's.
    """
    station = load_station(path)
    with told_of(path):
        check_places(station)
        bundle = load_bundle(station.bundle)
        check_fit(station, bundle)
        proofs = {mode: _proof(station, bundle, mode) for mode in station.modes}
    return CheckedStation(station, bundle, proofs, gate_fit(station, bundle))


def _proof(station: Station, bundle: Bundle, mode: Mode) -> ProofReport:
    with open_proved(bundle, mode, station.engine) as proved:
        return proved.report


def checked_table(checked: CheckedStation) -> Table:
    """Say what would run, one line a subject."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for subject, said in _lines(checked):
        table.add_row(subject, Text(said))
    return table


def _lines(checked: CheckedStation) -> list[tuple[str, str]]:
    station, bundle = checked.station, checked.bundle
    manifest = bundle.manifest
    camera = station.camera
    limits = station.limits
    source = f"recording {camera.recording}" if camera.recording else f"serial {camera.serial}"
    return [
        ("station", station.station),
        ("bundle", f"{manifest.id} ({manifest.method}), sha256 {bundle.sha256[:12]}"),
        ("engine", _engine_line(station)),
        ("proof", "; ".join(_proof_line(mode, proof) for mode, proof in checked.proofs.items())),
        ("camera", f"{source}, {' and '.join(camera.streams)}"),
        ("failover", _failover_line(station)),
        *(("gate", _gate_line(checked, mode)) for mode in station.modes),
        *(("threshold", _threshold_line(checked, mode)) for mode in station.modes),
        ("belt", station.calibration_id() or "none: no heights, no millimetres"),
        (
            "publish",
            f"{station.publish.endpoint}, heartbeat every {station.publish.heartbeat_ms} ms, "
            f"verdicts expire after {station.publish.expires_after_ms} ms",
        ),
        ("journal", str(station.journal.path) if station.journal else "none"),
        ("record", _record_line(station)),
        (
            "unknown if",
            f"slower than {limits.deadline_ms} ms, or depth known for less than "
            f"{limits.min_depth_valid:.0%} of the region",
        ),
    ]


def _engine_line(station: Station) -> str:
    engine = station.engine
    how = engine.kind if engine.kind == "tensorrt" else f"{engine.kind}, {engine.threads} threads"
    front = ", preprocessing on the GPU" if engine.front == "gpu" else ""
    return f"{station.mode} {engine.variant}, {how}{front}"


def _proof_line(mode: Mode, proof: ProofReport) -> str:
    return (
        f"{mode}: {proof.n_golden} golden frames agree; score error "
        f"{max(proof.errors, default=0.0):.1e} of {proof.tolerance:.0e} allowed"
    )


def _failover_line(station: Station) -> str:
    rule = station.failover
    if rule is None:
        return "none: a frame that lacks a stream is unknown"
    return f"to {', then '.join(rule.modes)}, and back after {rule.return_after_frames} good frames"


def _gate_line(checked: CheckedStation, mode: Mode) -> str:
    if checked.gate.is_labelled:
        return f"{mode}: where the recording's labels say; no gate counts"
    own = checked.station.gate_of(mode)
    spec = own or checked.bundle.mode(mode).gate
    whose = "the station's" if own else "the bundle's"
    where = "the whole frame"
    if spec.region_px is not None:
        x, y, width, height = spec.region_px
        where = f"{width}×{height} px at {x}, {y}"
    how = "always" if spec.occupied is None else f"when occupied by {spec.occupied.by}"
    return f"{mode}: {where}, {how} ({whose})"


def _threshold_line(checked: CheckedStation, mode: Mode) -> str:
    station = checked.station
    own_value = station.threshold_of(mode)
    if own_value is not None:
        return f"{mode}: {own_value:.4f} (the station's own: no promise comes with it)"
    threshold = checked.bundle.mode(mode).threshold_of(station.engine.variant)
    if mode in checked.gate.rescaled:
        return f"{mode}: {threshold.value:.4f} (at another scale: no promise comes with it)"
    return (
        f"{mode}: {threshold.value:.4f} "
        f"(at most {threshold.false_reject_rate:.1%} of good parts rejected, "
        f"at {threshold.confidence:.0%} confidence, from {threshold.n_parts} good parts)"
    )


def _record_line(station: Station) -> str:
    if station.record is None:
        return "none"
    return (
        f"{station.record.folder}, at most {station.record.max_count} or {station.record.max_mb} MB"
    )
