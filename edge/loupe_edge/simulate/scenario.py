"""What is to be simulated: how many parts, which of them defective, under which light."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from loupe_models.checked import Checked

KindName = Literal["bracket", "cover"]
DefectName = Literal["scratch", "dent", "stain", "hole", "missing_feature", "misplaced_feature"]

KIND_NAMES: tuple[KindName, ...] = get_args(KindName)
DEFECT_NAMES: tuple[DefectName, ...] = get_args(DefectName)


class Scenario(Checked):
    """One recording's worth of belt.

    The same scenario gives the same frames, bit for bit.

    Attributes:
        n_parts: Parts that pass the camera.
        defect_share: Share of parts that carry one defect each, spread evenly over `defects`.
        kinds: Part kinds in the stream, drawn at random.
        light_variation: 1 is an ordinary hall (brightness ±6 %, a wandering lamp, a few per cent
            of colour temperature); 0 is a laboratory.
        depth_off: First part without depth and first with it again: the camera's depth is switched
            off between them. None leaves it on.
        width_px: Of both streams; the field of view stays the same.
    """

    n_parts: int = Field(default=20, ge=1, le=100_000)
    defect_share: float = Field(default=0.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
    kinds: tuple[KindName, ...] = Field(default=KIND_NAMES, min_length=1)
    defects: tuple[DefectName, ...] = Field(default=DEFECT_NAMES, min_length=1)
    light_variation: float = Field(default=1.0, ge=0, le=2)
    depth_off: tuple[int, int] | None = None
    width_px: int = Field(default=640, ge=160, le=1920)
    height_px: int = Field(default=480, ge=120, le=1440)
    fps: int = Field(default=30, ge=1, le=90)

    @model_validator(mode="after")
    def _depth_goes_off_before_it_comes_back(self) -> Scenario:
        if self.depth_off is not None and not 0 <= self.depth_off[0] < self.depth_off[1]:
            raise ValueError("depth_off: give the first part without depth, then the first with it")
        if self.depth_off is not None and self.depth_off[0] >= self.n_parts:
            raise ValueError(
                f"depth_off: begins at part {self.depth_off[0]}, and the last one is "
                f"{self.n_parts - 1}"
            )
        return self
