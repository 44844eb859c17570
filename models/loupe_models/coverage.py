"""How often a threshold's promise should be kept by so many tested parts: what theory predicts."""

from __future__ import annotations

import math

from scipy.stats import betabinom

from loupe_models.errors import ThresholdError
from loupe_models.threshold import Threshold


def most_rejects(n_tested: int, false_reject_rate: float) -> int:
    """Count the false rejects among so many tested good parts that still keep the rate."""
    return math.floor(round(n_tested * false_reject_rate, 9))  # 0.07 * 100 is 7, not 7.000000001


def predicted_coverage(threshold: Threshold, n_tested: int) -> float:
    """Give the probability that so many other good parts keep the threshold's rate.

    Parts that could as well have been calibrated on have scores in any order with the same
    probability, whatever their distribution. Then the number above the k-th smallest of n is
    beta-binomial with n - k + 1 and k, exactly; a random resplit of a fixed set of parts follows
    the same law. It is not the promise's confidence, which is of the rate of all parts there will
    ever be: 19 tested parts keep 10 % only with at most one reject.

    Ties: a part that scores what the threshold is is not rejected, so that equal scores can only
    lower the number, and the prediction becomes a lower bound.

    Args:
        threshold: Its rank and number of parts count, its value does not.
        n_tested: Good parts that it is held against, one score each.

    Raises:
        ThresholdError: No part is tested.
    """
    if n_tested < 1:
        raise ThresholdError("a promise is held against good parts; none is tested")
    n, k = threshold.n_parts, threshold.rank
    at_most = most_rejects(n_tested, threshold.false_reject_rate)
    return float(betabinom.cdf(at_most, n_tested, n - k + 1, k))
