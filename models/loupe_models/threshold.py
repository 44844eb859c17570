"""A threshold with a promise, by order statistics of good parts' scores."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.special import bdtr

from loupe_models.checked import Checked
from loupe_models.errors import ThresholdError

MAX_STORED_SCORES = 2000
MIN_SPREAD = 1e-6


class Threshold(Checked):
    """The cut and its evidence: a part is a defect when its score is above `value`.

    Attributes:
        false_reject_rate: The promise: at most this share of good parts scores above `value`.
        confidence: How sure the promise is, over the draw of the calibration parts.
        n_parts: Good parts it rests on, disjoint from all fitting.
        rank: `value` is the rank-th smallest of the parts' scores.
    """

    value: float
    false_reject_rate: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    n_parts: int = Field(ge=1)
    rank: int = Field(ge=1)

    @model_validator(mode="after")
    def _rank_is_of_a_part(self) -> Threshold:
        if self.rank > self.n_parts:
            raise ValueError(f"rank {self.rank} of {self.n_parts} parts")
        return self


def parts_needed(false_reject_rate: float, confidence: float = 0.95) -> int:
    """Give the fewest good parts that can carry the promise: 29 for 10 %, 59 for 5 %.

    Raises:
        ThresholdError: Rate or confidence is not strictly between 0 and 1.
    """
    if not (0 < false_reject_rate < 1 and 0 < confidence < 1):
        raise ThresholdError(
            f"a false-reject rate and its confidence lie between 0 and 1, such as 0.05 and 0.95; "
            f"got {false_reject_rate} and {confidence}"
        )
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-false_reject_rate)))


def rate_carried(n_parts: int, confidence: float = 0.95) -> float:
    """Give the least false-reject rate that so many good parts carry: 0.099 for 29.

    It is rounded up to three decimals, so that what is printed is what is promised.

    Raises:
        ThresholdError: No part, or a confidence that is not strictly between 0 and 1.
    """
    if n_parts < 1 or not 0 < confidence < 1:
        raise ThresholdError(
            f"a promise needs good parts and a confidence between 0 and 1; got {n_parts} parts "
            f"and {confidence}"
        )
    rate: float = 1 - (1 - confidence) ** (1 / n_parts)
    return math.ceil(rate * 1e3) / 1e3


def choose_threshold(
    part_scores: npt.ArrayLike, false_reject_rate: float, confidence: float = 0.95
) -> Threshold:
    """Take the lowest order statistic that keeps the promise.

    With n good parts, the share of good parts above the k-th smallest score is
    Beta(n - k + 1, k) distributed, whatever the scores' distribution; k is the least for which
    that share is at most `false_reject_rate` with probability `confidence`.

    Args:
        part_scores: (n,) one score a part, its highest frame score.
        false_reject_rate: Promised share of good parts rejected, at most.
        confidence: Probability with which the promise holds.

    Raises:
        ThresholdError: Too few parts, scores that are not finite, or scores without spread.
    """
    scores = np.sort(np.asarray(part_scores, dtype=np.float64))
    n = len(scores)
    needed = parts_needed(false_reject_rate, confidence)
    if n < needed:
        raise ThresholdError(
            f"{n} good parts cannot carry a false-reject rate of {false_reject_rate:.3g} at "
            f"{confidence:.0%} confidence: collect at least {needed} good parts for calibration, "
            f"or promise a higher rate"
        )
    if not np.all(np.isfinite(scores)):
        raise ThresholdError("a calibration score is not finite: the model is unusable")
    if scores[-1] - scores[0] < MIN_SPREAD:
        raise ThresholdError(
            "every calibration part scores the same: the pictures are copies of one, "
            "or the model is constant; collect different good parts"
        )
    # P(share above the k-th <= rate) = P(Binomial(n, 1 - rate) <= k - 1)
    ranks = np.arange(1, n + 1)
    keeps = bdtr(ranks - 1, n, 1 - false_reject_rate) >= confidence
    rank = int(ranks[keeps][0])
    return Threshold(
        value=float(scores[rank - 1]),
        false_reject_rate=false_reject_rate,
        confidence=confidence,
        n_parts=n,
        rank=rank,
    )


def thin(scores: npt.ArrayLike) -> list[float]:
    """Keep at most 2,000 sorted scores, evenly spaced by rank, the extremes among them."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if len(ordered) <= MAX_STORED_SCORES:
        return [float(s) for s in ordered]
    keep = np.linspace(0, len(ordered) - 1, MAX_STORED_SCORES).round().astype(int)
    return [float(s) for s in ordered[keep]]
