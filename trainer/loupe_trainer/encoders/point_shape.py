"""The sizes of a Point-MAE, the published one and the one that is trained on the spot."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from loupe_models.checked import Checked

Norm = Literal["running", "frame"]


class PointShape(Checked):
    """What a Point-MAE's encoder is built from; the defaults are the published sizes.

    Attributes:
        depth: Blocks of the transformer.
        width: Channels of a token.
        n_heads: Of attention.
        taps: Blocks, from 0, whose outputs are joined into the features.
        hidden: Channels of the mini-PointNet's first layer.
        local: Of its second; its third has twice as many.
        unit_m: None takes coordinates as they are, in metres, as CMDIAD does. A number is the
            length that is 1 to the network, and centres are then seen from their mean: pretraining
            on whole objects normalises them like that.
        norm: `running` normalises the mini-PointNet with the statistics of its training, `frame`
            with those of the frame's own points (decisions/0009).
    """

    depth: int = Field(default=12, ge=1, le=48)
    width: int = Field(default=384, ge=8, le=4096)
    n_heads: int = Field(default=6, ge=1, le=64)
    taps: tuple[int, ...] = Field(default=(3, 11), min_length=1)
    hidden: int = Field(default=128, ge=4, le=4096)
    local: int = Field(default=256, ge=4, le=4096)
    unit_m: float | None = Field(default=None, gt=0)
    norm: Norm = "running"

    @model_validator(mode="after")
    def _fits_together(self) -> PointShape:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} is no multiple of {self.n_heads} heads")
        if list(self.taps) != sorted(set(self.taps)) or not self.taps[0] >= 0:
            raise ValueError(f"taps {self.taps} must be rising block numbers from 0")
        if self.taps[-1] >= self.depth:
            raise ValueError(f"tap {self.taps[-1]} is none of {self.depth} blocks from 0")
        return self

    @property
    def channels(self) -> int:
        """Of the features: one width a tap."""
        return self.width * len(self.taps)


TINY: Final = PointShape(
    depth=4, width=96, n_heads=4, taps=(1, 3), hidden=32, local=64, unit_m=0.02
)
