"""Putting a station together: from its settings to a service that is proved and ready."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from loupe_edge.camera import RealSenseCamera
from loupe_edge.capture import Ladder
from loupe_edge.clerk import Clerk
from loupe_edge.evidence import EvidenceFolder
from loupe_edge.failover import FailoverInspector
from loupe_edge.health import STALL_S, Health
from loupe_edge.heartbeat import HeartbeatThread
from loupe_edge.inspector import Inspector
from loupe_edge.journal import JsonlJournal, last_epoch
from loupe_edge.metrics import Metrics
from loupe_edge.overlays import MapScale
from loupe_edge.protocols import Camera, FrameInspector, Publisher
from loupe_edge.proved import open_proved
from loupe_edge.publisher import ZmqPublisher
from loupe_edge.service import Service
from loupe_edge.station import Station
from loupe_edge.station_fit import check_fit, required_streams
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.manifest import Mode


@contextmanager
def open_service(
    station: Station,
    *,
    lock_step: bool = False,
    publisher: Publisher | None = None,
    camera: Camera | None = None,
) -> Iterator[Service]:
    """Open everything a station needs, prove its bundle here, and close it all again.

    Args:
        station: Loaded settings.
        lock_step: Replay: hand-over waits, deadlines are measured but not enforced.
        publisher: In place of the station's own ZeroMQ endpoint.
        camera: In place of the RealSense that the station names.

    Raises:
        BadInputError: Settings, bundle and device do not fit together.
        FaultError: The bundle is not proved here, or a file or port cannot be opened.
    """
    with ExitStack() as stack:
        publisher = publisher or ZmqPublisher(station.publish.endpoint)
        stack.callback(publisher.close)
        journal = _open_journal(station, stack)
        epoch = max(time.time_ns(), 1 + last_epoch(journal.path) if journal else 0)
        health = Health(STALL_S + station.camera.start_timeout_s)
        health.ail("service", "starting", "proving the bundle")
        heartbeat = _start_heartbeat(station, stack, publisher, health, epoch)
        metrics = _open_metrics(station, stack)
        bundle = load_bundle(station.bundle)
        inspectors = open_inspectors(station, bundle, stack)
        required = required_streams(station, bundle)
        yield Service(
            camera=camera or RealSenseCamera(station.camera, required=required),
            inspector=_in_best_mode(station, inspectors),
            clerk=_clerk(station, epoch, bundle),
            publisher=publisher,
            heartbeat=heartbeat,
            health=health,
            metrics=metrics,
            journal=journal,
            evidence=_evidence(station, inspectors),
            ladder=Ladder(reopens=0) if station.camera.recording else Ladder(),
            lock_step=lock_step,
            deadline_ms=station.limits.deadline_ms,
        )


def _clerk(station: Station, epoch: int, bundle: Bundle) -> Clerk:
    return Clerk(
        station.station,
        epoch,
        bundle,
        expires_after_ms=station.publish.expires_after_ms,
        calibration_id=station.calibration_id(),
    )


def _open_journal(station: Station, stack: ExitStack) -> JsonlJournal | None:
    if station.journal is None:
        return None
    journal = JsonlJournal(station.journal.path)
    stack.callback(journal.close)
    return journal


def _start_heartbeat(
    station: Station, stack: ExitStack, publisher: Publisher, health: Health, epoch: int
) -> HeartbeatThread:
    heartbeat = HeartbeatThread(
        publisher,
        health,
        station=station.station,
        epoch=epoch,
        interval_ms=station.publish.heartbeat_ms,
    )
    stack.callback(heartbeat.stop)
    heartbeat.start()
    return heartbeat


def _open_metrics(station: Station, stack: ExitStack) -> Metrics:
    metrics = Metrics(station.station)
    stack.callback(metrics.close)
    if station.metrics:
        metrics.serve(station.metrics.port)
    return metrics


def open_inspector(station: Station, bundle: Bundle, stack: ExitStack) -> Inspector:
    """Open the engine of the preferred mode, and prove it on this device.

    Raises:
        BadInputError: Bundle and station do not fit together.
        FaultError: The engine fails, or the bundle is not proved here.
    """
    check_fit(station, bundle)
    return _open_mode(station, bundle, station.mode, stack)


def open_inspectors(station: Station, bundle: Bundle, stack: ExitStack) -> dict[Mode, Inspector]:
    """Open and prove every mode that may come into force, the preferred one first.

    Raises:
        BadInputError: Bundle and station do not fit together.
        FaultError: The engine fails, or the bundle is not proved here.
    """
    check_fit(station, bundle)
    return {mode: _open_mode(station, bundle, mode, stack) for mode in station.modes}


def _open_mode(station: Station, bundle: Bundle, mode: Mode, stack: ExitStack) -> Inspector:
    proved = stack.enter_context(open_proved(bundle, mode, station.engine))
    return Inspector(
        bundle,
        mode,
        proved.engine,
        gate=station.gate_of(mode),
        threshold=station.threshold_of(mode),
        belt_from_camera=station.belt_from_camera(),
        min_depth_valid=station.limits.min_depth_valid,
        variant=station.engine.variant,
    )


def _in_best_mode(station: Station, inspectors: Mapping[Mode, Inspector]) -> FrameInspector:
    if station.failover is None:
        return inspectors[station.mode]
    return FailoverInspector(
        {str(mode): inspector for mode, inspector in inspectors.items()},
        station.failover,
        station.failover.return_after_frames,
    )


def _evidence(station: Station, inspectors: Mapping[Mode, Inspector]) -> EvidenceFolder | None:
    if station.record is None:
        return None
    scales = {
        str(mode): MapScale.around(one.cut, one.contract.calibration_scores)
        for mode, one in inspectors.items()
    }
    return EvidenceFolder(
        station.record.folder, scales, station.record.max_count, station.record.max_mb
    )
