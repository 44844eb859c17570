"""What is exported, one detector a mode: each takes the tensors of its own mode and no other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from loupe_trainer.encoders.encoder import Encoder
from loupe_trainer.methods.base import Detector
from loupe_trainer.methods.cmdiad.hallucination import (
    Hallucination,
    cloud_picture,
    colour_picture,
)
from loupe_trainer.methods.cmdiad.judge import Judge


class CmdiadDetector(Detector, ABC):
    """Encoders in front of a judge.

    Attributes:
        judge: Has one bank for each of what `kinds` gives.
    """

    judge: Judge

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Give anomaly map (1, 1, H, W) and image score (1,)."""
        answer: tuple[Tensor, Tensor] = self.judge(self.kinds(*tensors))
        return answer

    def amplify(self, gain: float) -> None:
        """Scale what encoders say, and what a hallucination says in another's stead."""
        for speaker in self.speakers():
            speaker.amplify(gain)

    @abstractmethod
    def speakers(self) -> Sequence[Encoder | Hallucination]:
        """Give whoever makes tokens."""

    @abstractmethod
    def kinds(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Give the tokens for each bank, (1, C, h, w) float32."""


class RgbDetector(CmdiadDetector):
    """Colour alone: what is seen, and the depth features that it makes one think of.

    Args:
        encoder: Of colour.
        hallucination: Of depth; None judges what is seen alone.
        judge: With as many banks.
    """

    def __init__(self, encoder: Encoder, hallucination: Hallucination | None, judge: Judge) -> None:
        super().__init__()
        self.encoder, self.hallucination, self.judge = encoder, hallucination, judge

    def speakers(self) -> Sequence[Encoder | Hallucination]:
        """Give the encoder, and the hallucination where there is one."""
        return [self.encoder, *([] if self.hallucination is None else [self.hallucination])]

    def kinds(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take `rgb`, uint8 (1, H, W, 3)."""
        (rgb,) = tensors
        picture = colour_picture(rgb)
        tokens = self.encoder(picture)
        if self.hallucination is None:
            return (tokens,)
        return tokens, self.hallucination(tokens, picture)


class DepthDetector(CmdiadDetector):
    """Depth alone: what is measured, and the colour features that it makes one think of.

    Args:
        encoder: Of depth; its `tensors` says what it takes.
        hallucination: Of colour; None judges what is measured alone.
        judge: With as many banks.
        takes: All tensors of the graph, in order: what the encoder takes, and `xyz` where the
            hallucination looks at the cloud itself.
    """

    def __init__(
        self, encoder: Encoder, hallucination: Hallucination | None, judge: Judge,
        takes: Sequence[str],
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.hallucination, self.judge = encoder, hallucination, judge
        self.takes = tuple(takes)

    def speakers(self) -> Sequence[Encoder | Hallucination]:
        """Give the encoder, and the hallucination where there is one."""
        return [self.encoder, *([] if self.hallucination is None else [self.hallucination])]

    def kinds(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take the tensors that `takes` names."""
        named = dict(zip(self.takes, tensors, strict=True))
        tokens = self.encoder(*(named[name] for name in self.encoder.tensors))
        if self.hallucination is None:
            return (tokens,)
        picture = cloud_picture(named["xyz"]) if "xyz" in named else None
        return tokens, self.hallucination(tokens, picture)


class RgbdDetector(CmdiadDetector):
    """Both, with a bank for either; nothing has to be imagined."""

    def __init__(self, rgb_encoder: Encoder, depth_encoder: Encoder, judge: Judge) -> None:
        super().__init__()
        self.rgb_encoder, self.depth_encoder, self.judge = rgb_encoder, depth_encoder, judge

    def speakers(self) -> Sequence[Encoder | Hallucination]:
        """Give both encoders."""
        return self.rgb_encoder, self.depth_encoder

    def kinds(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take `rgb`, then what the depth encoder takes."""
        rgb, *depth = tensors
        return self.rgb_encoder(colour_picture(rgb)), self.depth_encoder(*depth)
