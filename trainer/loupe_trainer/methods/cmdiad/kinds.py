"""Which kinds of tokens there are, and which of them each mode looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from loupe_models.manifest import Mode
from loupe_trainer.methods.cmdiad.config import CmdiadConfig
from loupe_trainer.methods.cmdiad.hallucination import Direction

Modality = Literal["rgb", "depth"]
TokenKind = Literal["rgb", "depth", "depth_from_rgb", "rgb_from_depth"]

DIRECTION: Final[dict[Mode, Direction]] = {"rgb": "depth_from_rgb", "depth": "rgb_from_depth"}
MAIN: Final[dict[Direction, Modality]] = {"depth_from_rgb": "rgb", "rgb_from_depth": "depth"}
OTHER: Final[dict[Direction, Modality]] = {"depth_from_rgb": "depth", "rgb_from_depth": "rgb"}


def kinds_of(config: CmdiadConfig, mode: Mode) -> tuple[TokenKind, ...]:
    """Name what a mode's banks hold: what is seen, and what that makes one think of."""
    if mode == "rgbd":
        return ("rgb", "depth")
    seen: Modality = "rgb" if mode == "rgb" else "depth"
    return (seen,) if config.distillation.kind == "none" else (seen, DIRECTION[mode])


def directions_of(config: CmdiadConfig, modes: Sequence[Mode]) -> tuple[Direction, ...]:
    """Name what has to be distilled for some modes."""
    if config.distillation.kind == "none":
        return ()
    return tuple(DIRECTION[mode] for mode in modes if mode in DIRECTION)


def modalities_of(config: CmdiadConfig, modes: Sequence[Mode]) -> tuple[Modality, ...]:
    """Name whose features are learnt from: both, where either is distilled."""
    if directions_of(config, modes) or "rgbd" in modes:
        return ("rgb", "depth")
    return tuple(mode for mode in ("rgb", "depth") if mode in modes)
