"""What each act of the demo leaves for the page that ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loupe_trainer.demo.outcome import Outcome
from loupe_trainer.demo.pictures import Picture, Views


@dataclass(frozen=True, slots=True)
class FirstAct:
    """Colour alone.

    Attributes:
        views: By part id.
        line: The whole station's view of the plainest defect.
        gaussian_auroc: Of the per-pixel baseline on the same parts.
    """

    outcome: Outcome
    views: Mapping[str, Views]
    line: Picture
    gaussian_auroc: float


@dataclass(frozen=True, slots=True)
class SecondAct:
    """Colour and depth, and depth lost on the way.

    Attributes:
        views: By part id, as the mode in force saw it.
        n_frames: Of the recording.
    """

    outcome: Outcome
    views: Mapping[str, Views]
    n_frames: int
