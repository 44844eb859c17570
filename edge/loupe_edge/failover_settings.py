"""Which modes stand in for the preferred one, and when."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from loupe_edge.sensor_health import SensorRule
from loupe_models.gate import GateSpec
from loupe_models.manifest import Mode


class FailoverSettings(SensorRule):
    """The rule by which another mode of the bundle looks at a frame whose sensors fail.

    Attributes:
        modes: To fall back to, best first.
        return_after_frames: Frames in a row in which a better mode's streams must be well before
            it is taken up again.
        gates: A gate of its own for a mode to fall back to, where the station's or the bundle's
            needs the stream that is missing.
        thresholds: This station's own threshold for such a mode.
    """

    modes: tuple[Mode, ...] = Field(min_length=1)
    return_after_frames: int = Field(default=30, ge=1, le=1_000_000)
    gates: dict[Mode, GateSpec] = Field(default_factory=dict)
    thresholds: dict[Mode, float] = Field(default_factory=dict)

    @field_validator("modes")
    @classmethod
    def _each_once(cls, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        if len(set(modes)) < len(modes):
            raise ValueError("a mode is given twice; give each once")
        return modes

    @model_validator(mode="after")
    def _only_of_these_modes(self) -> FailoverSettings:
        if foreign := sorted({*self.gates, *self.thresholds} - set(self.modes)):
            raise ValueError(f"gates or thresholds for {', '.join(foreign)}, not one of modes")
        return self
