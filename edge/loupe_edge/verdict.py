"""What the line hears: verdict and heartbeat, schema 1 of the wire."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from loupe_models.frame import Rect, TimeDomain
from loupe_models.manifest import Mode

WIRE_SCHEMA: Final = 1

Decision = Literal["good", "defect", "unknown"]
State = Literal["starting", "ready", "degraded", "fault"]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WireTime(_Wire):
    """The camera's own stamp."""

    ns: int
    domain: TimeDomain


class WireSync(_Wire):
    """How far apart the two exposures were."""

    delta_us: int
    domain: TimeDomain


class WireRegion(_Wire):
    """An area above the threshold; colour pixels, or depth pixels in depth mode.

    Attributes:
        centroid_mm: In the belt frame, where depth and belt are known.
        size_mm: Extent along the belt frame's x and y, likewise.
    """

    bbox_px: Rect
    area_px: int
    peak: float
    centroid_mm: tuple[float, float, float] | None = None
    size_mm: tuple[float, float] | None = None


class WireBundle(_Wire):
    """Which bundle spoke."""

    id: str
    sha256: str


class Verdict(_Wire):
    """What Loupe says of one part (of one frame until parts are tracked).

    Attributes:
        epoch: UNIX nanosecond of service start; `seq` is contiguous from 0 within it.
        reason: Why, in a few words; always present with `unknown`.
        frame_id: None, like `camera_time`, where there was no frame to speak of.
        score: None exactly where nothing was measured.
        p_value: Share of good calibration parts that score at least this high.
    """

    schema_: Literal[1] = Field(default=WIRE_SCHEMA, alias="schema")
    station: str
    epoch: int
    seq: int = Field(ge=0)
    part_id: str | None
    frame_id: int | None
    captured_at_ns: int
    published_at_ns: int
    expires_at_ns: int
    camera_time: WireTime | None
    decision: Decision
    reason: str
    score: float | None
    threshold: float
    p_value: float | None
    mode: Mode
    regions: tuple[WireRegion, ...]
    sync: WireSync | None
    depth_valid_fraction: float | None
    stage_us: dict[str, int]
    dropped_frames: int
    bundle: WireBundle
    calibration_id: str | None

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class Heartbeat(_Wire):
    """Sent every 250 ms, so that silence means something."""

    schema_: Literal[1] = Field(default=WIRE_SCHEMA, alias="schema")
    station: str
    epoch: int
    seq: int = Field(description="of the last verdict; -1 before the first")
    state: State
    reason: str
    at_ns: int

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )
