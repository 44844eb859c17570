"""From frames to parts: a part is as bad as its worst frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from loupe_edge.inspector import Inspection
from loupe_edge.verdict import Decision, Verdict
from loupe_models.frame import Frame

_WORST_LAST: Final[tuple[Decision, ...]] = ("good", "unknown", "defect")


@dataclass(frozen=True, slots=True)
class Look:
    """One frame and what was found in it."""

    frame: Frame
    inspection: Inspection


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """What was said of one part, over all its frames.

    Attributes:
        score: The highest of its frames; None where no frame was measured.
    """

    part_id: str
    decision: Decision
    score: float | None
    n_frames: int


def aggregate(looks: Sequence[Look]) -> Look:
    """Give the look that speaks for the part: a defect before an unknown, then the highest score.

    Until parts are tracked, a part has one look, which passes through.

    Raises:
        ValueError: No look at all.
    """
    return max(looks, key=lambda look: _badness(look.inspection.decision, look.inspection.score))


def by_part(verdicts: Iterable[Verdict]) -> list[PartVerdict]:
    """Count verdicts of frames in parts, in the order in which parts first appear.

    A verdict without a part stands for a part of its own.
    """
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        name = verdict.part_id
        key = f"{verdict.epoch}/{verdict.seq}" if name is None else name
        groups.setdefault(key, []).append(verdict)
    return [_part(name, group) for name, group in groups.items()]


def _part(name: str, group: Sequence[Verdict]) -> PartVerdict:
    worst = max(group, key=lambda v: _badness(v.decision, v.score))
    scores = [v.score for v in group if v.score is not None]
    return PartVerdict(name, worst.decision, max(scores, default=None), len(group))


def _badness(decision: Decision, score: float | None) -> tuple[int, float]:
    return _WORST_LAST.index(decision), float("-inf") if score is None else score
