"""What an encoder is: one modality of a frame in, a map of tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from loupe_models.manifest import Backbone
from loupe_models.preprocess import TensorName
from loupe_trainer.precision import KeepsFloat32


class Encoder(KeepsFloat32, ABC):
    """Describes one modality of a frame, patch by patch.

    `forward` takes what `tensors` names, in that order, and gives (B, `channels`, *`patches_hw`)
    float32. Colour comes as a picture, (B, 3, H, W) float32 in 0..255, red first.

    Attributes:
        name: Its kind, as recipes say it.
        tensors: By preprocessing's names; they say which steps it needs before it.
        channels: Of a token.
        patches_hw: Rows and columns of tokens.
        origin: Whose weights it has or learnt from; None where it learnt from the parts alone, or
            nothing.
    """

    name: ClassVar[str]
    tensors: ClassVar[tuple[TensorName, ...]]
    channels: int
    patches_hw: tuple[int, int]
    origin: Backbone | None = None

    @abstractmethod
    def amplify(self, gain: float) -> None:
        """Make its tokens so many times as large; see `Detector.amplify`."""
