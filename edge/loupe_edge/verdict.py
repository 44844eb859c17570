"""What the line hears: verdict and heartbeat, schema 1 of the wire."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, Strict, model_validator

from loupe_models.checked import Checked
from loupe_models.frame import Rect, TimeDomain
from loupe_models.manifest import Mode

WIRE_SCHEMA: Final = 1
INT64_MAX: Final = 2**63 - 1


def encodable(text: str) -> str:
    """Escape what UTF-8 cannot carry, such as the odd bytes of a file name in a reason."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _require_encodable(text: str) -> str:
    if encodable(text) != text:
        raise ValueError("half a surrogate pair is no text")
    return text


# Types are exact, so that every reader in every language reads the same: neither true nor "1" is
# a number, integers fit 64 bits, and text is UTF-8.
Schema = Annotated[int, Strict(), Field(ge=WIRE_SCHEMA, le=WIRE_SCHEMA)]
Int = Annotated[int, Strict(), Field(ge=-INT64_MAX - 1, le=INT64_MAX)]
Count = Annotated[int, Strict(), Field(ge=0, le=INT64_MAX)]
LastSeq = Annotated[int, Strict(), Field(ge=-1, le=INT64_MAX)]
UnixNs = Count
Real = Annotated[float, Strict()]
Text = Annotated[str, AfterValidator(_require_encodable)]
Decision = Literal["good", "defect", "unknown"]
State = Literal["starting", "ready", "degraded", "fault"]


class WireTime(Checked):
    """The camera's own stamp."""

    ns: Int
    domain: TimeDomain


class WireSync(Checked):
    """How far apart the two exposures were."""

    delta_us: Int
    domain: TimeDomain


class WireRegion(Checked):
    """An area above the threshold; colour pixels, or depth pixels in depth mode.

    Attributes:
        centroid_mm: In the belt frame, where depth and belt are known.
        size_mm: Extent along the belt frame's x and y, likewise.
    """

    bbox_px: Rect
    area_px: Count
    peak: Real
    centroid_mm: tuple[Real, Real, Real] | None = None
    size_mm: tuple[Real, Real] | None = None


class WireBundle(Checked):
    """Which bundle spoke."""

    id: Text
    sha256: Text


class Verdict(Checked):
    """What Loupe says of one part (of one frame until parts are tracked).

    Attributes:
        epoch: UNIX nanosecond of service start; `seq` is contiguous from 0 within it.
        reason: Why, in a few words; always present with `unknown`.
        decision: `good` and `defect` have a score, and it is above `threshold` for `defect` only.
        frame_id: None, like `camera_time`, where there was no frame to speak of.
        score: None exactly where nothing was measured.
        p_value: Share of good calibration parts that score at least this high.
    """

    schema_: Schema = Field(default=WIRE_SCHEMA, alias="schema")
    station: Text
    epoch: UnixNs
    seq: Count
    part_id: Text | None
    frame_id: Count | None
    captured_at_ns: UnixNs
    published_at_ns: UnixNs
    expires_at_ns: UnixNs
    camera_time: WireTime | None
    decision: Decision
    reason: Text
    score: Real | None
    threshold: Real
    p_value: Real | None
    mode: Mode
    regions: tuple[WireRegion, ...]
    sync: WireSync | None
    depth_valid_fraction: Real | None
    stage_us: dict[Text, Count]
    dropped_frames: Count
    bundle: WireBundle
    calibration_id: Text | None

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="after")
    def _decision_follows_from_score(self) -> Verdict:
        if self.decision == "unknown":
            if not self.reason.strip():
                raise ValueError("unknown without a reason")
        elif self.score is None:
            raise ValueError(f"{self.decision} without a score")
        elif (self.decision == "defect") != (self.score > self.threshold):
            raise ValueError(
                f"{self.decision} with score {self.score} at threshold {self.threshold}"
            )
        return self


class Heartbeat(Checked):
    """Sent every 250 ms, so that silence means something."""

    schema_: Schema = Field(default=WIRE_SCHEMA, alias="schema")
    station: Text
    epoch: UnixNs
    seq: LastSeq = Field(description="of the last verdict; -1 before the first")
    state: State
    reason: Text
    at_ns: UnixNs

    model_config = ConfigDict(populate_by_name=True)
