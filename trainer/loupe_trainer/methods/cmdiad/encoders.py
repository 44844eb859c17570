"""The frozen encoders: loaded from published weights, or trained on the good parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from loupe_models.manifest import Backbone
from loupe_trainer.methods.cmdiad.kinds import Modality
from loupe_trainer.methods.cmdiad.material import Material


class DepthEncoder(nn.Module):
    tensors: tuple[str, ...]
    channels: int
    origin: Backbone | None


@dataclass(frozen=True, slots=True)
class Encoders:
    """What describes colour and depth; None where nobody asks for it."""

    rgb: nn.Module | None
    depth: DepthEncoder | None

    def of(self, modality: Modality) -> nn.Module:
        """Give one of them."""
        found = self.rgb if modality == "rgb" else self.depth
        if found is None:
            raise TypeError(f"nobody asked for an encoder of {modality}")
        return found

    def inputs(self, modality: Modality, material: Material, frames) -> tuple[Tensor, ...]:
        """Give what an encoder takes of some frames."""
        if modality == "rgb" or self.depth is None:
            return (material.colour(frames),)
        return tuple(material.tensors(frames, name) for name in self.depth.tensors)

    @property
    def backbone(self) -> Backbone | None:
        return None


def open_encoders(*args): ...
