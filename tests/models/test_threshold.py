"""The promise of the threshold holds, and is refused where it cannot be made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loupe_models.errors import ThresholdError
from loupe_models.threshold import (
    MAX_STORED_SCORES,
    choose_threshold,
    parts_needed,
    rate_carried,
    thin,
)


@pytest.mark.parametrize(
    ("rate", "confidence", "n_parts"),
    [(0.10, 0.95, 29), (0.05, 0.95, 59), (0.01, 0.95, 299), (0.10, 0.99, 44), (0.5, 0.75, 2)],
)
def test_the_fewest_parts_that_carry_a_promise(
    rate: float, confidence: float, n_parts: int
) -> None:
    assert parts_needed(rate, confidence) == n_parts
    scores = np.arange(n_parts, dtype=float)
    chosen = choose_threshold(scores, rate, confidence)
    assert (chosen.rank, chosen.n_parts, chosen.value) == (n_parts, n_parts, scores[-1])
    if n_parts > 2:
        with pytest.raises(ThresholdError, match=f"collect at least {n_parts} good parts"):
            choose_threshold(scores[1:], rate, confidence)


@pytest.mark.parametrize(("rate", "n"), [(0.1, 29), (0.1, 150), (0.05, 80), (0.3, 40)])
def test_the_promise_holds_in_at_least_95_of_100_draws(rate: float, n: int) -> None:
    """With uniform scores the true false-reject rate of a cut is 1 minus the cut."""
    rng = np.random.default_rng(0)
    n_draws = 4000
    chosen = [choose_threshold(rng.random(n), rate).value for _ in range(n_draws)]
    share_kept = np.mean([1 - value <= rate for value in chosen])
    assert share_kept >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / n_draws)


def test_one_rank_lower_would_break_the_promise() -> None:
    rng = np.random.default_rng(0)
    rank = choose_threshold(np.arange(150.0), 0.1).rank
    below = np.sort(rng.random((4000, 150)), axis=1)[:, rank - 2]
    assert np.mean(1 - below <= 0.1) < 0.95


@given(rate=st.floats(0.01, 0.9), confidence=st.floats(0.5, 0.99), extra=st.integers(0, 200))
def test_whoever_brings_enough_parts_gets_a_threshold(
    rate: float, confidence: float, extra: int
) -> None:
    n = max(2, parts_needed(rate, confidence) + extra)
    scores = np.random.default_rng(n).normal(size=n)
    chosen = choose_threshold(scores, rate, confidence)
    assert chosen.value == np.sort(scores)[chosen.rank - 1]


@pytest.mark.parametrize(
    ("scores", "rate", "confidence", "message"),
    [
        (np.arange(28.0), 0.1, 0.95, "28 good parts cannot carry .* collect at least 29"),
        (np.array([]), 0.1, 0.95, "0 good parts"),
        (np.ones(40), 0.1, 0.95, "scores the same"),
        (np.append(np.arange(40.0), np.nan), 0.1, 0.95, "not finite"),
        (np.append(np.arange(40.0), -np.inf), 0.1, 0.95, "not finite"),
        (np.arange(40.0), 0.0, 0.95, "between 0 and 1"),
        (np.arange(40.0), 1.5, 0.95, "between 0 and 1"),
        (np.arange(40.0), 0.1, 1.0, "between 0 and 1"),
        (np.arange(40.0), float("nan"), 0.95, "between 0 and 1"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(
    scores: np.typing.NDArray[np.float64], rate: float, confidence: float, message: str
) -> None:
    with pytest.raises(ThresholdError, match=message):
        choose_threshold(scores, rate, confidence)


def test_thinning_keeps_the_extremes_and_the_shape() -> None:
    scores = np.random.default_rng(0).normal(size=7001)
    kept = thin(scores)
    assert len(kept) == MAX_STORED_SCORES
    assert (kept[0], kept[-1]) == (scores.min(), scores.max())
    assert kept == sorted(kept)
    assert np.quantile(kept, 0.9) == pytest.approx(np.quantile(scores, 0.9), abs=0.01)
    assert thin([3, 1, 2]) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("n_parts", "rate"), [(1, 0.95), (9, 0.284), (29, 0.099), (59, 0.05)])
def test_the_least_rate_that_so_many_parts_carry(n_parts: int, rate: float) -> None:
    assert rate_carried(n_parts) == pytest.approx(rate)
    assert parts_needed(rate_carried(n_parts)) <= n_parts < parts_needed(rate - 0.002)
    assert choose_threshold(np.arange(n_parts + 1.0), rate_carried(n_parts)).rank >= n_parts


def test_no_parts_carry_nothing() -> None:
    with pytest.raises(ThresholdError, match="needs good parts"):
        rate_carried(0)
    with pytest.raises(ThresholdError, match="needs good parts"):
        rate_carried(5, confidence=1.0)


def test_a_promise_that_nobody_can_carry_is_counted_all_the_same() -> None:
    assert parts_needed(1e-300) > 10**300
    assert parts_needed(0.05, 1e-300) == 1
    assert parts_needed(1e-12) == pytest.approx(2.9957e12, rel=1e-4)
