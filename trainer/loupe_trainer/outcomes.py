"""What a bundle said of every frame, gathered into parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loupe_edge.verdict import Decision
from loupe_models.atomic import write_text
from loupe_trainer.data.item import Item, Kind
from loupe_trainer.metrics import image_auroc

WORST_FIRST: tuple[Decision, ...] = ("defect", "unknown", "good")
NEVER_SEEN = "the gate saw no whole part in any frame"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One frame, or one part: the truth and the answer.

    Attributes:
        name: A frame's key, or a part's id.
        part_id: The part.
        source: The picture, or the recording and the frame's number.
        score: None exactly where nothing was measured; a part's is its highest.
        decision: Of a part: `defect` if any frame says so, else `unknown` if any does.
    """

    name: str
    part_id: str
    source: str
    kind: Kind
    defect: str | None
    decision: Decision
    reason: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """Counts and rates; `unknown` is a false reject of a good one and a caught defect.

    Attributes:
        auroc: Of the scores there are; None where a kind is missing.
    """

    auroc: float | None
    n_good: int
    n_defect: int
    n_unknown: int
    false_reject_rate: float | None
    escape_rate: float | None


def part_outcomes(items: Sequence[Item], frames: Sequence[Outcome]) -> list[Outcome]:
    """Gather frames into parts.

    Args:
        items: Everything that should have been inspected; a part none of whose frames passed
            the gate is unknown, for silence is not good.
        frames: What was.
    """
    by_part: dict[str, list[Outcome]] = {item.part_id: [] for item in items}
    truth: dict[str, Item] = {}
    for item in items:
        known = truth.setdefault(item.part_id, item)
        if item.kind == "defect" and known.kind == "good":
            truth[item.part_id] = item
    for frame in frames:
        by_part[frame.part_id].append(frame)
    return [_part(truth[part_id], group) for part_id, group in by_part.items()]


def rates(outcomes: Sequence[Outcome]) -> Rates:
    """Count what was said of frames or parts."""
    good = [o for o in outcomes if o.kind == "good"]
    defects = [o for o in outcomes if o.kind == "defect"]
    scored = [(o.score, o.kind == "defect") for o in outcomes if o.score is not None]
    has_both = {is_defect for _, is_defect in scored} == {True, False}
    return Rates(
        auroc=image_auroc([s for s, _ in scored], [d for _, d in scored]) if has_both else None,
        n_good=len(good),
        n_defect=len(defects),
        n_unknown=sum(o.decision == "unknown" for o in outcomes),
        false_reject_rate=_share(o.decision != "good" for o in good),
        escape_rate=_share(o.decision == "good" for o in defects),
    )


def write_decisions(path: Path, frames: Iterable[Outcome], threshold: float) -> None:
    """Write one JSON line a frame, in the order of inspection."""
    lines = (
        {
            "source": f.source, "frame": f.name, "part_id": f.part_id, "kind": f.kind,
            "defect": f.defect, "decision": f.decision, "reason": f.reason, "score": f.score,
            "threshold": threshold,
        }
        for f in frames
    )  # fmt: skip
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def _part(truth: Item, frames: Sequence[Outcome]) -> Outcome:
    said = {frame.decision for frame in frames}
    decision: Decision = next((d for d in WORST_FIRST if d in said), "unknown")
    scores = [frame.score for frame in frames if frame.score is not None]
    reasons = [frame.reason for frame in frames if frame.decision == decision]
    return Outcome(
        name=truth.part_id,
        part_id=truth.part_id,
        source=str(truth.source),
        kind=truth.kind,
        defect=truth.defect,
        decision=decision,
        reason=reasons[0] if reasons else NEVER_SEEN,
        score=max(scores) if scores else None,
    )


def _share(hits: Iterable[bool]) -> float | None:
    told = list(hits)
    return sum(told) / len(told) if told else None
