"""What a bundle said of every frame, gathered into parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loupe_edge.verdict import Decision
from loupe_trainer.bootstrap import Floats, Intervals, bootstrap
from loupe_trainer.data.item import Item, Kind
from loupe_trainer.ranking import Ranking

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
        auroc: Of the scores there are, as are the next two; None where a kind is missing.
        f1_max: At the threshold that suits these very labels best, not at the one in force.
    """

    auroc: float | None
    average_precision: float | None
    f1_max: float | None
    n_good: int
    n_defect: int
    n_unknown: int
    n_false_rejects: int
    n_escapes: int
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
    n_false_rejects = sum(o.decision != "good" for o in good)
    n_escapes = sum(o.decision == "good" for o in defects)
    ranked = scored(outcomes)
    measured: Mapping[str, Floats] = {}
    if has_both_kinds(ranked):
        measured = ranking(ranked).measure(np.ones((1, len(ranked))))
    return Rates(
        auroc=_first(measured.get("auroc")),
        average_precision=_first(measured.get("average_precision")),
        f1_max=_first(measured.get("f1_max")),
        n_good=len(good),
        n_defect=len(defects),
        n_unknown=sum(o.decision == "unknown" for o in outcomes),
        n_false_rejects=n_false_rejects,
        n_escapes=n_escapes,
        false_reject_rate=n_false_rejects / len(good) if good else None,
        escape_rate=n_escapes / len(defects) if defects else None,
    )


def rate_intervals(outcomes: Sequence[Outcome]) -> Intervals:
    """Give the bootstrap intervals of `rates`, by the same names."""
    good = [o for o in outcomes if o.kind == "good"]
    defects = [o for o in outcomes if o.kind == "defect"]
    ranked = scored(outcomes)
    return {
        **(_resampled(ranked, ranking(ranked).measure) if has_both_kinds(ranked) else {}),
        **_resampled(good, _share("false_reject_rate", [o.decision != "good" for o in good])),
        **_resampled(defects, _share("escape_rate", [o.decision == "good" for o in defects])),
    }


def scored(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Leave out what has no score: it cannot be ranked."""
    return [o for o in outcomes if o.score is not None]


def has_both_kinds(outcomes: Sequence[Outcome]) -> bool:
    """Whether there is something to rank against something."""
    return {o.kind for o in outcomes} == {"good", "defect"}


def ranking(ranked: Sequence[Outcome]) -> Ranking:
    """Sort outcomes that all have a score."""
    return Ranking.of([o.score or 0.0 for o in ranked], [o.kind == "defect" for o in ranked])


def decision_lines(frames: Iterable[Outcome], mode: str, threshold: float) -> str:
    """Give one JSON line a frame, in the order of inspection."""
    lines = (
        {
            "source": f.source, "frame": f.name, "part_id": f.part_id, "kind": f.kind,
            "defect": f.defect, "mode": mode, "decision": f.decision, "reason": f.reason,
            "score": f.score, "threshold": threshold,
        }
        for f in frames
    )  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)


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


def _first(values: Floats | None) -> float | None:
    return None if values is None else float(values[0])


def _share(name: str, hits: Sequence[bool]) -> Callable[[Floats], Mapping[str, Floats]]:
    is_hit = np.asarray(hits, dtype=np.float64)
    return lambda weights: {name: weights @ is_hit / weights.sum(axis=1)}


def _resampled(
    outcomes: Sequence[Outcome], measure: Callable[[Floats], Mapping[str, Floats]]
) -> Intervals:
    return bootstrap([o.part_id for o in outcomes], [o.kind == "defect" for o in outcomes], measure)
