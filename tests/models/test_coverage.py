"""What theory says of a promise is exact where scores differ, and a lower bound where they tie."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom

from loupe_models.coverage import most_rejects, predicted_coverage
from loupe_models.errors import ThresholdError
from loupe_models.threshold import Threshold, choose_threshold

RATE, CONFIDENCE = 0.4, 0.75


def _kept(scores: list[float], n: int, rank: int) -> float:
    """Count every split of a few scores: the share of them that keeps the rate."""
    kept = []
    for chosen in combinations(range(len(scores)), n):
        tested = [s for i, s in enumerate(scores) if i not in chosen]
        cut = sorted(scores[i] for i in chosen)[rank - 1]
        kept.append(sum(s > cut for s in tested) <= most_rejects(len(tested), RATE))
    return float(np.mean(kept))


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_the_prediction_is_the_share_of_all_splits(n: int) -> None:
    scores = [float(s) for s in np.random.default_rng(n).permutation(10)]
    threshold = choose_threshold(scores[:n], RATE, CONFIDENCE)
    expected = _kept(scores, n, threshold.rank)
    assert 0 < expected < 1
    assert predicted_coverage(threshold, len(scores) - n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scores", [[0.0] * 3 + [1.0] * 4 + [2.0] * 3, [0.0] * 9 + [1.0]])
def test_ties_only_ever_raise_the_coverage(scores: list[float]) -> None:
    threshold = choose_threshold(np.arange(5.0), RATE, CONFIDENCE)
    assert _kept(scores, 5, threshold.rank) > predicted_coverage(threshold, 5)


def test_one_tested_part_is_rejected_as_often_as_its_rank_says() -> None:
    threshold = choose_threshold(np.arange(29.0), 0.1)
    assert predicted_coverage(threshold, 1) == pytest.approx(29 / 30)


@pytest.mark.parametrize(("n", "rate"), [(29, 0.10), (59, 0.05), (299, 0.01), (1000, 0.05)])
def test_many_tested_parts_keep_it_as_often_as_was_promised(n: int, rate: float) -> None:
    threshold = choose_threshold(np.arange(float(n)), rate)
    confidence = binom.cdf(threshold.rank - 1, n, 1 - rate)  # what the rank really carries
    assert predicted_coverage(threshold, 10_000_000) == pytest.approx(confidence, abs=1e-3)
    assert confidence >= 0.95


def test_few_tested_parts_keep_it_less_often() -> None:
    """A rate that 19 parts can only show in steps of a nineteenth."""
    threshold = choose_threshold(np.arange(29.0), 0.1)
    assert predicted_coverage(threshold, 19) == pytest.approx(29 / 48 + 29 / 48 * 19 / 47)


def test_a_share_is_counted_without_rounding_noise() -> None:
    assert [most_rejects(100, 0.07), most_rejects(19, 0.1), most_rejects(10, 0.3)] == [7, 1, 3]


def test_nothing_tested_predicts_nothing() -> None:
    one = Threshold(value=0, false_reject_rate=0.5, confidence=0.5, n_parts=1, rank=1)
    with pytest.raises(ThresholdError, match="none is tested"):
        predicted_coverage(one, 0)
