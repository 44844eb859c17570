"""Whether a run's FP16 graph goes into the bundle, on the frames that only the plan knows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from loupe_edge.errors import EngineError
from loupe_models.errors import FrameError, GraphError
from loupe_models.preprocess import Tensors
from loupe_trainer.data.item import Kind, one_a_part
from loupe_trainer.errors import HalfError
from loupe_trainer.golden import GoldenFrame, GoldenRule
from loupe_trainer.half_exam import N_RANKED, HalfExam
from loupe_trainer.half_range import MagnitudeProbe
from loupe_trainer.learn import LearntMode
from loupe_trainer.plan import Plan
from loupe_trainer.scorer import Scorer
from loupe_trainer.spread import spread


@dataclass(frozen=True, slots=True)
class HalfVariant:
    """An FP16 graph that may be shipped, or why there is none.

    Attributes:
        graph: None where it is refused.
        parity: Evidence; empty where it is refused.
        refused: The reason; empty where it is not.
    """

    graph: Path | None
    parity: dict[str, float]
    refused: str = ""


def examine_half(
    plan: Plan, learnt: LearntMode, graphs: tuple[Path, Path], rule: GoldenRule,
    golden: Sequence[GoldenFrame], unit: float,
) -> HalfVariant:  # fmt: skip
    """Put a mode's FP16 graph to its last gate.

    Args:
        plan: Has the frames that are held out.
        learnt: What was found when the graph was exported.
        graphs: The float32 graph and the FP16 graph.
        rule: Says how the mode looks at frames, its threshold, and asks the float32 graph.
        golden: The mode's.
        unit: Of the calibration scores, s95 - s50.
    """
    if learnt.half.refused:
        return HalfVariant(None, {}, learnt.half.refused)
    specs = learnt.inputs, learnt.outputs
    try:
        with (
            Scorer(graphs[1], *specs) as half,
            MagnitudeProbe(*graphs, *specs) as probe,
            closing(_held_out(plan, rule, "good")) as good,
            closing(_held_out(plan, rule, "defect")) as defects,
        ):
            exam = HalfExam(
                proof=learnt.half, scorer=rule.scorer, half_scorer=half, probe=probe,
                threshold=rule.threshold, unit=unit,
                golden=[rule.view.prepared(g.frame, g.region) for g in golden],
                good=good, defects=defects,
            )  # fmt: skip
            return HalfVariant(graphs[1], exam.take())
    except (HalfError, GraphError, EngineError) as error:
        return HalfVariant(None, {}, str(error))


def _held_out(plan: Plan, rule: GoldenRule, kind: Kind) -> Generator[Tensors, None, None]:
    """Give at most 32 test frames of a kind, one a part, spread over all of them."""
    items = one_a_part(item for item in plan.split.test if item.kind == kind)
    some = [items[i] for i in spread(len(items), N_RANKED)]
    with closing(plan.data.frames(some)) as frames:
        for _, frame in frames:
            try:
                tensors = rule.view.tensors(frame)
            except FrameError:  # an unknown to either graph
                continue
            if tensors is not None:
                yield tensors
