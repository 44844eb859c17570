"""What came of the demo: the verdicts a subscriber received, held against the truth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from loupe_edge.labels import Labels, read_labels
from loupe_edge.verdict import Verdict
from loupe_models.frame import Label
from loupe_trainer.metrics import image_auroc

_VERDICT = TypeAdapter(Verdict)


@dataclass(frozen=True, slots=True)
class Part:
    """One physical part: its truth and the verdict of its highest-scoring frame.

    Attributes:
        decision: `defect` if any frame says so, else `unknown` if any does, else `good`.
        score: Highest frame score; None where no frame was measured.
    """

    part_id: str
    label: Label
    verdict: Verdict
    decision: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Every part that was inspected, and the stage times of every frame."""

    parts: tuple[Part, ...]
    verdicts: tuple[Verdict, ...]

    def of_kind(self, kind: str) -> list[Part]:
        """Give the parts whose truth is `good` or `defect`."""
        return [part for part in self.parts if part.label.kind == kind]

    def defects(self) -> dict[str, list[Part]]:
        """Group the defective parts by defect, in alphabetical order."""
        names = sorted({part.label.defect or "" for part in self.of_kind("defect")})
        return {name: [p for p in self.parts if p.label.defect == name] for name in names}

    def colour_auroc(self) -> float:
        """Give the AUROC of part scores: good parts against defects that colour can show."""
        return colour_auroc({p.part_id: p.score for p in self.parts if p.score is not None}, self)

    def stage_times_ms(self) -> dict[str, tuple[float, float]]:
        """Give p50 and p99 of each stage over all frames, and of their sum as `all`.

        Hand-over is left out: in lock-step it is the wait for the frame before.
        """
        frames = [
            {stage: us / 1000 for stage, us in v.stage_us.items() if stage != "hand_over"}
            for v in self.verdicts
        ]
        stages = frames[0] if frames else {}
        times = {stage: [f.get(stage, 0.0) for f in frames] for stage in stages}
        times["all"] = [sum(f.values()) for f in frames]
        return {s: (float(np.median(t)), float(np.quantile(t, 0.99))) for s, t in times.items()}


def colour_auroc(score_of: Mapping[str, float], outcome: Outcome) -> float:
    """Score any detector on the question the demo asks.

    Args:
        score_of: By part id.
        outcome: Supplies the truth.
    """
    asked = [
        part
        for part in outcome.parts
        if part.part_id in score_of
        and (part.label.kind == "good" or "rgb" in part.label.visible_in)
    ]
    scores = [score_of[part.part_id] for part in asked]
    return image_auroc(scores, [part.label.kind == "defect" for part in asked])


def read_outcome(received: Path, recording: Path) -> Outcome:
    """Join what the subscriber wrote with what the recording knows.

    Args:
        received: JSON Lines of verdicts, as `loupe-edge listen --json` prints them.
        recording: The recording that was replayed.
    """
    verdicts = read_verdicts(received.read_text(encoding="utf-8").splitlines())
    return Outcome(_parts(verdicts, read_labels(recording)), tuple(verdicts))


def read_verdicts(lines: Iterable[str]) -> list[Verdict]:
    """Keep the verdicts of a stream; heartbeats and events are not verdicts."""
    documents = [json.loads(line) for line in lines if line.strip()]
    return [_VERDICT.validate_python(d) for d in documents if "decision" in d]


def _parts(verdicts: Sequence[Verdict], labels: Labels) -> tuple[Part, ...]:
    frames: dict[str, list[Verdict]] = {}
    label_of: dict[str, Label] = {}
    for verdict in verdicts:
        if verdict.frame_id is None or verdict.camera_time is None:
            continue
        label = labels.get(verdict.frame_id, verdict.camera_time.ns)
        if label is not None and label.part_id is not None:
            frames.setdefault(label.part_id, []).append(verdict)
            label_of[label.part_id] = label
    return tuple(_part(part_id, label_of[part_id], group) for part_id, group in frames.items())


def _part(part_id: str, label: Label, frames: list[Verdict]) -> Part:
    said = {verdict.decision for verdict in frames}
    decision = next(d for d in ("defect", "unknown", "good") if d in said)
    top = max(frames, key=lambda v: -np.inf if v.score is None else v.score)
    return Part(part_id, label, top, decision, top.score)
