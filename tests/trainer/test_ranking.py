import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from loupe_trainer.ranking import Ranking


def measure(scores: list[float], is_defect: list[bool]) -> dict[str, float]:
    found = Ranking.of(scores, is_defect).measure(np.ones((1, len(scores))))
    return {name: float(values[0]) for name, values in found.items()}


def test_by_hand() -> None:
    # From the top: defect, good, defect, good. Precision at the two defects: 1 and 2/3.
    found = measure([4, 3, 2, 1], [True, False, True, False])
    assert found["auroc"] == pytest.approx(3 / 4)
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["f1_max"] == pytest.approx(2 * 2 / (2 * 2 + 1))  # a cut at 2: both, and one good


def test_ties_enter_together() -> None:
    # One defect alone on top, then a defect and two good ones that cannot be told apart.
    found = measure([2, 1, 1, 1], [True, True, False, False])
    assert found["auroc"] == pytest.approx((2 + 1) / 4)
    assert found["average_precision"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 4)
    assert found["f1_max"] == pytest.approx(2 / 3)


def test_a_ranking_upside_down_stays_upside_down() -> None:
    assert measure([1, 2, 3, 4], [True, True, False, False])["auroc"] == 0


@pytest.mark.parametrize("is_defect", [True, False])
def test_one_kind_alone_is_not_a_number(is_defect: bool) -> None:
    assert all(np.isnan(value) for value in measure([1, 2], [is_defect, is_defect]).values())


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([3, 10, 100_000]))
def test_as_scikit_learn_has_it(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.append(rng.random(40) < 0.3, [True, False])
    scores = rng.integers(0, levels, 42) + truth * levels * 0.2
    found = measure(list(scores), [bool(t) for t in truth])
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert found["f1_max"] == pytest.approx(f1.max())


def test_to_weigh_twice_is_to_count_twice() -> None:
    rng = np.random.default_rng(1)
    scores = [float(s) for s in rng.integers(0, 9, 30)]
    truth = [bool(t) for t in rng.random(30) < 0.4]
    counts = rng.integers(0, 4, (5, 30))
    weighed = Ranking.of(scores, truth).measure(counts)
    for row, times in enumerate(counts):
        again = measure(list(np.repeat(scores, times)), [bool(t) for t in np.repeat(truth, times)])
        for name, values in weighed.items():
            assert values[row] == pytest.approx(again[name])
