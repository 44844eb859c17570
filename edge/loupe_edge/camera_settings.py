"""Which camera a station has, and what it must deliver."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from loupe_models.checked import Checked

Stream = Literal["rgb", "depth"]
MAX_WAIT_S: Final = 600.0


class CameraSettings(Checked):
    """A live camera by its serial number, or a recording; exactly one of them.

    Attributes:
        streams: Those that every frame must have.
        align: Register depth to the colour grid whenever both are required.
        fps: Of a live camera, like its size.
        real_time: Play a recording at the speed it was made, as if it were live.
    """

    serial: str | None = None
    recording: Path | None = None
    streams: tuple[Stream, ...] = Field(default=("rgb",), min_length=1)
    align: bool = True
    width_px: int = Field(default=640, ge=1, le=16_384)
    height_px: int = Field(default=480, ge=1, le=16_384)
    fps: int = Field(default=30, ge=1, le=1000)
    real_time: bool = False
    start_timeout_s: float = Field(default=5.0, gt=0, le=MAX_WAIT_S)
    read_timeout_s: float = Field(default=1.0, gt=0, le=MAX_WAIT_S)

    @field_validator("streams")
    @classmethod
    def _each_once(cls, streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
        if len(set(streams)) < len(streams):
            raise ValueError("a stream is given twice; give each once")
        return streams

    @model_validator(mode="after")
    def _one_source(self) -> CameraSettings:
        if (self.serial is None) == (self.recording is None):
            raise ValueError("give either serial or recording")
        return self
