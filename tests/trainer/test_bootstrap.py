import numpy as np
import pytest

from loupe_trainer.bootstrap import (
    LEVEL,
    N_RESAMPLES,
    Cohort,
    Floats,
    bootstrap,
    exact_interval,
)


def mean_of(values: Floats) -> dict[str, list[float] | None]:
    """Bootstrap a mean whose observations are parts of their own."""
    return bootstrap(
        [f"p{i}" for i in range(len(values))],
        [False] * len(values),
        lambda weights: {"mean": weights @ values / weights.sum(axis=1)},
    )


def test_a_mean_has_the_width_that_theory_gives_it() -> None:
    values = np.random.default_rng(5).normal(10, 2, 400)
    found = mean_of(values)["mean"]
    assert found is not None
    half = 1.96 * values.std() / np.sqrt(400)
    assert found == pytest.approx([values.mean() - half, values.mean() + half], abs=0.15 * half)
    assert mean_of(values)["mean"] == found  # the seed is fixed


def test_frames_of_one_part_come_and_go_together() -> None:
    """Ten copies of each frame tell nothing new, so that the interval must stay as wide."""
    values = np.random.default_rng(2).normal(0, 1, 30)
    copies = np.repeat(values, 10)
    parts = [f"p{i}" for i in np.repeat(np.arange(30), 10)]
    found = bootstrap(
        parts, [False] * 300, lambda weights: {"mean": weights @ copies / weights.sum(axis=1)}
    )
    assert found["mean"] == pytest.approx(mean_of(values)["mean"], abs=0.1)
    narrow = mean_of(copies)["mean"]
    assert narrow is not None
    assert found["mean"] is not None
    assert narrow[1] - narrow[0] < 0.5 * (found["mean"][1] - found["mean"][0])


def test_good_and_defective_parts_are_drawn_apart() -> None:
    parts = ["a", "a", "b", "c", "d", "e", "e"]
    is_defect = [False, False, False, False, True, False, True]  # e has a good frame too
    blocks = np.concatenate(list(Cohort.of(parts, is_defect).draw()))
    assert blocks.shape == (N_RESAMPLES, 7)
    assert (blocks[:, 0] == blocks[:, 1]).all()
    assert (blocks[:, 5] == blocks[:, 6]).all()
    assert (blocks[:, 0] + blocks[:, 2] + blocks[:, 3] == 3).all()
    assert (blocks[:, 4] + blocks[:, 5] == 2).all()


@pytest.mark.parametrize(
    ("parts", "is_defect"),
    [
        ([], []),
        (["a", "a"], [False, False]),
        (["a", "b", "c"], [False, False, True]),  # the one defective part is always drawn
    ],
)
def test_one_part_cannot_be_drawn_anew(parts: list[str], is_defect: list[bool]) -> None:
    assert bootstrap(parts, is_defect, lambda weights: {"n": weights.sum(axis=1)}) == {}


def test_what_no_resample_defines_has_no_interval() -> None:
    found = bootstrap(["a", "b"], [False, False], lambda w: {"x": np.full(len(w), np.nan)})
    assert found == {"x": None}


def test_exact_interval_by_hand() -> None:
    # None of n: the upper end u solves (1 - u)^n = (1 - LEVEL) / 2.
    assert exact_interval(0, 12) == pytest.approx([0, 1 - ((1 - LEVEL) / 2) ** (1 / 12)])
    assert exact_interval(12, 12) == pytest.approx([((1 - LEVEL) / 2) ** (1 / 12), 1])
    assert exact_interval(0, 0) is None
