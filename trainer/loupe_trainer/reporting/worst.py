"""The worst misses and the worst false rejects, part by part, as rows of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loupe_models.frame import Frame
from loupe_trainer.evaluate import Evaluation, Exam, Shown
from loupe_trainer.outcomes import Outcome
from loupe_trainer.reporting.pictures import coloured, img, outlined, view
from loupe_trainer.reporting.words import NOTHING, counted, table, text

N_WORST = 10
HEADS = ("part", "picture", "truth", "anomaly map")


@dataclass(frozen=True, slots=True)
class Case:
    """One part as a row shows it.

    Attributes:
        key: Of the frame that speaks for the part.
        is_wrong: Whether the answer was wrong; the closest right ones fill the table up.
    """

    part: Outcome
    key: str | None
    is_wrong: bool


def worst_tables(evaluation: Evaluation, exam: Exam) -> tuple[tuple[str, str], tuple[str, str]]:
    """Lay out ten defective parts and ten good ones, the wrong answers first; each with a title."""
    misses, rejects = worst_misses(evaluation), worst_false_rejects(evaluation)
    wanted = {case.key for case in misses + rejects}
    items = [item for item in exam.items if item.key in wanted]
    frames = {item.key: frame for item, frame in exam.data.frames(items)}
    shown = {s.outcome.name: s for s in evaluation.shown}

    def rows(cases: list[Case]) -> list[list[str]]:
        return [
            _row(c, frames.get(c.key or ""), shown.get(c.key or ""), evaluation.threshold)
            for c in cases
        ]

    def laid_out(cases: list[Case], what: str) -> str:
        none = f"<p>No {what} part was tested.</p>"
        return table(HEADS, rows(cases), "pictures") if cases else none

    return (
        (title(misses, "miss", "misses", "caught"), laid_out(misses, "defective")),
        (title(rejects, "false reject", "false rejects", "passed"), laid_out(rejects, "good")),
    )


def title(cases: list[Case], one: str, several: str, right: str) -> str:
    """Say how many of the rows are mistakes, and what fills them up."""
    n_wrong = sum(case.is_wrong for case in cases)
    if n_wrong == len(cases) == N_WORST:
        return f"The {N_WORST} worst {several}"
    told = f"No {several}" if not n_wrong else counted(n_wrong, one, several)
    n_right = len(cases) - n_wrong
    return f"{told}, and the {n_right} {right} by the least margin" if n_right else told


def worst_misses(evaluation: Evaluation) -> list[Case]:
    """Take the missed parts, lowest score first, then the caught ones that came closest."""
    parts = [p for p in evaluation.parts if p.kind == "defect" and p.score is not None]
    parts.sort(key=lambda p: (p.decision != "good", p.score))
    return [_case(p, evaluation, p.decision == "good") for p in parts[:N_WORST]]


def worst_false_rejects(evaluation: Evaluation) -> list[Case]:
    """Take the rejected parts, unknown ones before all, then those passed by the least margin."""

    def rank(part: Outcome) -> tuple[bool, bool, float]:
        return part.decision == "good", part.decision == "defect", -(part.score or 0.0)

    parts = sorted((p for p in evaluation.parts if p.kind == "good"), key=rank)
    return [_case(p, evaluation, p.decision != "good") for p in parts[:N_WORST]]


def _case(part: Outcome, evaluation: Evaluation, is_wrong: bool) -> Case:
    """Find the frame that gave the part its answer: the unknown one, or the highest."""
    frames = [f for f in evaluation.frames if f.part_id == part.part_id]
    alike = [f for f in frames if f.decision == part.decision] or frames
    speaker = max(alike, key=lambda f: -1e300 if f.score is None else f.score, default=None)
    return Case(part, speaker.name if speaker else None, is_wrong)


def _row(case: Case, frame: Frame | None, shown: Shown | None, threshold: float) -> list[str]:
    picture = None if frame is None else view(frame, shown.region if shown else None)
    truth, heat = NOTHING, NOTHING
    if shown is not None:
        heat = img(coloured(shown.anomaly_map, threshold), "anomaly map")
        if shown.mask is None:
            truth = "<small>nobody drew a mask</small>"
        elif case.part.kind == "good":
            truth = "<small>good all over</small>"
        elif picture is not None:
            truth = img(outlined(picture, shown.mask), "picture with the defect outlined")
    seen = NOTHING if picture is None else img(picture, "picture of the part")
    return [_words(case, threshold), seen, truth, heat]


def _words(case: Case, threshold: float) -> str:
    part = case.part
    name = "/".join(Path(case.key or part.name).parts[-2:])
    is_defect = part.kind == "defect"
    if case.is_wrong:
        verdict = "missed" if is_defect else "rejected"
    else:
        verdict = "caught" if is_defect else "passed"
    score = "no score" if part.score is None else f"score {part.score:.4g}, cut {threshold:.4g}"
    why = f"<br><small>{text(part.reason)}</small>" if part.decision == "unknown" else ""
    style = "mark wrong" if case.is_wrong else "mark"
    return (
        f'{text(name)}<br><span class="{style}">{verdict}</span><br>'
        f"<small>truth: {text(part.defect or part.kind)}<br>{score}</small>{why}"
    )
