"""A station's settings: one TOML file, checked as a whole before anything starts."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from loupe_calibration.belt import belt_from_camera
from loupe_calibration.errors import CalibrationError
from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.endpoint import MAX_PORT, ipc_path, port_of
from loupe_edge.engine_settings import REFERENCE, EngineSettings
from loupe_edge.errors import StationError
from loupe_edge.failover_settings import FailoverSettings
from loupe_edge.inspector import DEFAULT_MIN_DEPTH_VALID
from loupe_edge.labels import belt_path, labels_path
from loupe_models.bundle import refuse_inside_bundle
from loupe_models.checked import Checked
from loupe_models.errors import BundleError
from loupe_models.gate import GateSpec
from loupe_models.manifest import Mode
from loupe_models.settings import plain_reason, read_settings
from loupe_models.strict_json import loads

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Vector = tuple[float, float, float]


def _require_endpoint(endpoint: str) -> str:
    port_of(endpoint)
    return endpoint


Endpoint = Annotated[str, AfterValidator(_require_endpoint)]

# Where the file may name other files; such a path is relative to the file that says it.
PATH_KEYS = (
    ("bundle",),
    ("belt", "file"),
    ("camera", "recording"),
    ("engine", "cache"),
    ("journal", "path"),
    ("record", "folder"),
)


class BeltSettings(Checked):
    """The belt plane in the camera's optical frame: given here, or in a calibration's file.

    Attributes:
        file: JSON with `rotation` and `translation_m` of `belt_from_camera`.
        normal: Of the plane, either sign; with `point_m`, any point on it.
        travel: Rough direction in which parts move.
    """

    file: Path | None = None
    normal: Vector | None = None
    point_m: Vector | None = None
    travel: Vector = (1.0, 0.0, 0.0)

    @model_validator(mode="after")
    def _one_way(self) -> BeltSettings:
        plane = (self.normal is not None) + (self.point_m is not None)
        if plane + 2 * (self.file is not None) != 2:
            raise ValueError("give either file, or normal and point_m")
        return self

    def belt_from_camera(self) -> Transform:
        """Give the transform into the belt frame.

        Raises:
            StationError: The file cannot be read or is not a transform.
            CalibrationError: The plane is not a plane.
        """
        if self.normal is not None and self.point_m is not None:
            return belt_from_camera(self.normal, self.point_m, self.travel)
        if self.file is None:
            raise StationError("belt: give either file, or normal and point_m")
        try:
            return _TRANSFORM.validate_python(loads(self.file.read_bytes()))
        except OSError as error:
            raise StationError(f"belt.file: {self.file}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(key) for key in first["loc"]) or "the whole"
            raise StationError(
                f"belt.file: {self.file}: not a transform ({where}: {first['msg']}); "
                f"calibrate the belt again"
            ) from error
        except ValueError as error:
            raise StationError(
                f"belt.file: {self.file}: not JSON ({error}); calibrate the belt again"
            ) from error


class ThresholdSettings(Checked):
    """This station's own threshold; the bundle's stays as it is."""

    value: float


class PublishSettings(Checked):
    """Where verdicts go, how long they are worth acting on, and how often the station pulses."""

    endpoint: Endpoint = "tcp://127.0.0.1:5555"
    expires_after_ms: int = Field(default=1000, ge=1, le=3_600_000)
    heartbeat_ms: int = Field(default=250, ge=10, le=10_000)


class JournalSettings(Checked):
    """Where every verdict is kept."""

    path: Path


class RecordSettings(Checked):
    """Where the evidence of whatever was not good is kept, and how much of it."""

    folder: Path
    max_count: int = Field(default=1000, ge=1, le=1_000_000_000)
    max_mb: int = Field(default=1000, ge=1, le=1_000_000_000)


class LimitSettings(Checked):
    """What makes an answer `unknown`.

    Attributes:
        deadline_ms: From hand-over to decision; measured but not enforced in lock-step.
        min_depth_valid: Least share of the region with a depth, where depth is used.
    """

    deadline_ms: int = Field(default=200, ge=1, le=3_600_000)
    min_depth_valid: float = Field(default=DEFAULT_MIN_DEPTH_VALID, ge=0, le=1)


class MetricsSettings(Checked):
    """Where counters can be scraped."""

    port: int = Field(ge=1, le=MAX_PORT)


class Station(Checked):
    """One camera, one bundle, one place on the line."""

    station: Name
    bundle: Path
    mode: Mode = "rgb"
    camera: CameraSettings
    engine: EngineSettings = REFERENCE
    gate: GateSpec | None = None
    threshold: ThresholdSettings | None = None
    belt: BeltSettings | None = None
    publish: PublishSettings = PublishSettings()
    journal: JournalSettings | None = None
    record: RecordSettings | None = None
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings | None = None
    failover: FailoverSettings | None = None

    @field_validator("metrics")
    @classmethod
    def _port_of_its_own(
        cls, metrics: MetricsSettings | None, info: ValidationInfo
    ) -> MetricsSettings | None:
        publish = info.data.get("publish")  # absent where it is wrong itself
        if metrics and publish and metrics.port == port_of(publish.endpoint):
            raise ValueError("port is that of publish.endpoint; choose another")
        return metrics

    @field_validator("failover")
    @classmethod
    def _other_modes(
        cls, failover: FailoverSettings | None, info: ValidationInfo
    ) -> FailoverSettings | None:
        if failover is not None and info.data.get("mode") in failover.modes:
            raise ValueError(f"modes: {info.data['mode']} is the preferred mode; leave it out here")
        return failover

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The preferred mode, then those to fall back to."""
        return (self.mode, *(self.failover.modes if self.failover else ()))

    def gate_of(self, mode: Mode) -> GateSpec | None:
        """Give the station's own gate for a mode; None for the bundle's."""
        own = self.failover.gates.get(mode) if self.failover else None
        return own or self.gate

    def threshold_of(self, mode: Mode) -> float | None:
        """Give the station's own threshold for a mode; None for the bundle's."""
        if mode == self.mode:
            return self.threshold.value if self.threshold else None
        return self.failover.thresholds.get(mode) if self.failover else None

    def belt_from_camera(self) -> Transform | None:
        """Give the transform into the belt frame, where the station has a belt.

        Raises:
            StationError: The belt's file cannot be read or is not a transform.
            CalibrationError: The plane is not a plane.
        """
        return self.belt.belt_from_camera() if self.belt else None

    def calibration_id(self) -> str | None:
        """Name the geometry in force, so that a verdict says which belt its millimetres mean."""
        belt = self.belt_from_camera()
        if belt is None:
            return None
        return "belt-" + hashlib.sha256(_TRANSFORM.dump_json(belt)).hexdigest()[:12]


_TRANSFORM: TypeAdapter[Transform] = TypeAdapter(Transform)


def load_station(path: Path) -> Station:
    """Read a station's TOML file.

    Raises:
        StationError: Every problem of the file on a line of its own, as `file: key: reason`.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StationError(f"{path}: {error.strerror}; give a station's TOML file") from error
    except ValueError as error:  # tomllib's own error, or not UTF-8
        raise StationError(f"{path}: not valid TOML: {error}") from error
    for keys in PATH_KEYS:
        _resolve(document, keys, path.parent.resolve())
    try:
        station = read_settings(Station, document)
        station.belt_from_camera()
        _check_places(station, path)
    except ValidationError as error:
        raise StationError(
            "\n".join(
                f"{path}: {'.'.join(str(key) for key in e['loc']) or 'station'}: {_reason(e)}"
                for e in error.errors()
            )
        ) from error
    except CalibrationError as error:
        raise StationError(f"{path}: belt: {error}") from error
    except StationError as error:
        raise StationError(f"{path}: {error}") from error
    return station


def _check_places(station: Station, path: Path) -> None:
    """Keep what is written apart from what is read: the record folder is emptied of its oldest.

    Raises:
        StationError: Evidence or verdicts among other files, or a place that is not what it
            should be.
    """
    journal = station.journal.path if station.journal else None
    record = station.record.folder if station.record else None
    if journal is not None:
        _check_journal(journal, station, path)
    if record is not None:
        _check_record(record, station, journal)
    written = {
        "journal.path": journal,
        "record.folder": record,
        "engine.cache": station.engine.cache,
        "publish.endpoint": ipc_path(station.publish.endpoint),
    }
    for key, place in written.items():
        try:
            if place is not None:
                refuse_inside_bundle(place)
        except BundleError as error:
            raise StationError(f"{key}: {error}") from error


def _check_journal(journal: Path, station: Station, path: Path) -> None:
    if journal.exists() and not journal.is_file():  # opening a pipe waits for its reader
        raise StationError(f"journal.path: {journal} is no plain file; give the name of one")
    others = {
        "station's own file": path,
        "belt.file": station.belt.file if station.belt else None,
        "socket of publish.endpoint": ipc_path(station.publish.endpoint),
    }
    recording = station.camera.recording
    if recording is not None and recording.is_file():
        others["camera.recording"] = recording
        others["labels file of camera.recording"] = labels_path(recording)
        others["belt file of camera.recording"] = belt_path(recording)
    for name, other in others.items():
        if other is not None and os.path.realpath(journal) == os.path.realpath(other):
            raise StationError(f"journal.path: {journal} is the {name}; name a file of its own")


def _check_record(record: Path, station: Station, journal: Path | None) -> None:
    folder = record.resolve()
    if folder.exists() and not folder.is_dir():
        raise StationError(f"record.folder: {folder} is a file; name a folder")
    others = {
        "bundle": station.bundle,
        "journal.path": journal,
        "camera.recording": station.camera.recording,
    }
    for key, other in others.items():
        if other is not None and folder in (other.resolve(), *other.resolve().parents):
            raise StationError(
                f"record.folder: {folder} is or holds the {key}, {other}; name a folder of its own"
            )


def _resolve(document: dict[str, object], keys: tuple[str, ...], folder: Path) -> None:
    table: object = document
    for key in keys[:-1]:
        table = table.get(key) if isinstance(table, dict) else None
    if isinstance(table, dict) and isinstance(told := table.get(keys[-1]), str):
        table[keys[-1]] = str(folder / told)


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "no such setting; check the spelling, or remove it"
    if error["type"] == "missing":
        return "missing; this setting is required"
    given = error["input"]  # a section as a whole is not repeated
    got = f", got {json.dumps(given)}" if isinstance(given, str | int | float) else ""
    return plain_reason(error) + got
