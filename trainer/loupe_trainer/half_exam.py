"""The last gate of an FP16 graph before it is shipped: verdicts, golden frames, ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from loupe_models.preprocess import Tensors
from loupe_trainer.errors import HalfError
from loupe_trainer.half_proof import HalfProof
from loupe_trainer.half_range import MagnitudeProbe, check_range
from loupe_trainer.metrics import image_auroc
from loupe_trainer.scorer import Scorer
from loupe_trainer.tolerance import HALF

MAX_AUROC_LOSS: Final = 0.001
N_RANKED: Final = 32  # frames of each kind, one a part
ALLOWED: Final = f"and {HALF.of_unit} is allowed"

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class HalfExam:
    """What an FP16 graph is asked before it is shipped.

    Attributes:
        proof: What was found when it was exported.
        scorer: Of the float32 graph.
        half_scorer: Of the FP16 graph.
        probe: Tells how large its tensors are.
        threshold: The mode's.
        unit: Of the calibration scores, s95 - s50.
        golden: Inputs of the golden frames.
        good: Inputs of good parts held out for the test.
        defects: Inputs of defective ones; may be empty.
    """

    proof: HalfProof
    scorer: Scorer
    half_scorer: Scorer
    probe: MagnitudeProbe
    threshold: float
    unit: float
    golden: Sequence[Tensors]
    good: Iterator[Tensors]
    defects: Iterator[Tensors]

    def take(self) -> dict[str, float]:
        """Hold the graph against the float32 one.

        Verdicts may differ only where the score is within a tolerance of the threshold; those are
        counted. Where no defects are held out, there is nothing to rank, and no `auroc_loss`.

        Returns:
            Evidence for the manifest. `image_score` is the 99th percentile of law 8's errors over
            calibration frames, noise and golden frames.

        Raises:
            HalfError: It fails; says where, and which layer loses most.
        """
        golden = [self._ask(tensors) for tensors in self.golden]
        largest = max(check_range(self.probe.largest(t), "a golden frame") for t in self.golden)
        pairs = [*self.proof.scores, *golden]
        errors = [self._error(pair) for pair in pairs]
        p99 = float(np.quantile(errors, 0.99))
        if not p99 <= HALF.of_unit:
            self._fail(f"99 % of {len(errors)} scores are within {HALF.said(p99)}, {ALLOWED}")
        of_golden = max(errors[len(self.proof.scores) :])
        if not of_golden <= HALF.of_unit:
            self._fail(f"the score of a golden frame is off by {HALF.said(of_golden)}, {ALLOWED}")
        ranked = {name: [self._ask(t) for t in found] for name, found in self._held_out()}
        near = self._count_near([*pairs, *(pair for found in ranked.values() for pair in found)])
        return {
            **self.proof.parity,
            "image_score": p99,
            "image_score_max": max(errors),
            "largest_fp16": max(largest, self.proof.parity["largest_fp16"]),
            "n_inputs": len(pairs),
            "n_verdicts_near_threshold": near,
            **self._ranking(ranked["good"], ranked["defect"]),
        }

    def _held_out(self) -> tuple[tuple[str, Iterator[Tensors]], ...]:
        return ("good", self.good), ("defect", self.defects)

    def _ask(self, tensors: Tensors) -> Pair:
        return self.scorer.answer(tensors).score, self.half_scorer.answer(tensors).score

    def _error(self, pair: Pair) -> float:
        want, have = pair
        return HALF.largest_error(have, want, self.unit)

    def _count_near(self, pairs: Sequence[Pair]) -> int:
        near = 0
        for want, have in pairs:
            if (want > self.threshold) != (have > self.threshold):
                if HALF.largest_error(self.threshold, want, self.unit) > HALF.of_unit:
                    self._fail(f"a verdict turns: the score {want:.4g} becomes {have:.4g}")
                near += 1
        return near

    def _ranking(self, good: Sequence[Pair], defects: Sequence[Pair]) -> dict[str, float]:
        counted = {"n_ranked_good": float(len(good)), "n_ranked_defects": float(len(defects))}
        truth = [*(False for _ in good), *(True for _ in defects)]
        before, after = (image_auroc([p[i] for p in (*good, *defects)], truth) for i in (0, 1))
        if math.isnan(before):
            return counted
        if not before - after <= MAX_AUROC_LOSS:
            self._fail(
                f"image AUROC falls from {before:.4f} to {after:.4f} over {len(good)} good and "
                f"{len(defects)} defective parts, and {MAX_AUROC_LOSS} is allowed"
            )
        return {**counted, "auroc_loss": before - after}

    def _fail(self, found: str) -> None:
        raise HalfError(f"{found}; {self.proof.layer}")
