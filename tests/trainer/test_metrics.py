import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import ndimage

from loupe_trainer.metrics import area_under_curve, image_auroc, pixel_metrics
from loupe_trainer.metrics_table import RANKED, RATES, metrics_table
from loupe_trainer.summary import document


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([1, 1, 1, 1], [0, 0, 1, 1], 0.5),
        ([1, 3, 2, 4], [0, 0, 1, 1], 0.75),
        ([0, 1, 1, 2], [0, 0, 1, 1], 0.875),  # three pairs won, one tied
    ],
)
def test_image_auroc_counts_pairs(scores: list[int], truth: list[int], expected: float) -> None:
    assert image_auroc(scores, truth) == pytest.approx(expected)


@pytest.mark.parametrize("truth", [[0, 0], [1, 1], []])
def test_image_auroc_of_one_kind_is_not_a_number(truth: list[int]) -> None:
    assert math.isnan(image_auroc([0.5] * len(truth), truth))


def test_au_pro_by_hand() -> None:
    # Ten normal pixels score 0..9. Region A (one pixel, 9.5) lies above them all, region B (two
    # pixels, 8.5 and -1) has one pixel below one normal pixel and one below all of them.
    maps = [np.array([[*range(10), 9.5, -5, 8.5, -1]], np.float32)]
    mask = np.zeros((1, 14), bool)
    mask[0, [10, 12, 13]] = True
    # The pixel at -5 is normal too: 11 in all. Hit rate is 1/2 from 0, 3/4 from 1/11 on.
    got = pixel_metrics(maps, [mask])
    assert got.n_regions == 2
    assert got.au_pro_30 == pytest.approx((0.3 * 0.5 + (0.3 - 1 / 11) * 0.25) / 0.3)
    assert got.au_pro_05 == pytest.approx(0.5)
    # Pairs won: 9.5 beats 11, 8.5 beats 10, -1 beats one.
    assert got.pixel_auroc == pytest.approx((11 + 10 + 1) / 33)


def test_a_tie_inside_the_limit_is_joined_by_a_straight_line() -> None:
    normal = np.array([0.0, 0, 0, 0, 1, 1, 1, 1, 2, 2])  # from 20 % to 60 % tie with the positive
    got = area_under_curve(normal, np.array([1.0]), np.array([1.0]), limit=0.3)
    assert got == pytest.approx(0.1 * (0.1 / 0.4) / 2 / 0.3)


def test_au_pro_of_two_pictures_with_ties_by_hand() -> None:
    # Ten normal pixels over both pictures: one scores 5, nine score 0. Region A is one pixel at 7,
    # region B two pixels, 5 and 0, each tied with normal ones.
    maps = [
        np.array([[5, 0, 0, 0, 7]], np.float32),
        np.array([[0, 0, 0, 0, 0, 0, 5, 0]], np.float32),
    ]
    masks = [maps[0] == 7, np.array([[0, 0, 0, 0, 0, 0, 1, 1]], bool)]
    got = pixel_metrics(maps, masks)
    # Overlap is 1/2 at 0, rises straight to 3/4 at 10 % and from there straight to 1 at 100 %.
    at_30 = 0.75 + 0.25 * 0.2 / 0.9
    assert got.au_pro_30 == pytest.approx((0.1 * 0.625 + 0.2 * (0.75 + at_30) / 2) / 0.3)
    assert got.au_pro_05 == pytest.approx((0.5 + 0.625) / 2)
    # Won: 7 beats all ten, 5 beats nine and ties one, 0 ties nine and loses one.
    assert got.pixel_auroc == pytest.approx((10 + 9.5 + 4.5) / 30)


def test_no_mask_no_number() -> None:
    flat = np.zeros((4, 4), np.float32)
    got = pixel_metrics([flat], [flat > 0])
    assert (got.pixel_auroc, got.au_pro_30, got.au_pro_05, got.n_regions) == (None, None, None, 0)
    assert pixel_metrics([], []).pixel_auroc is None


def slow_au_pro(
    maps: list[npt.NDArray[np.float32]], masks: list[npt.NDArray[np.bool_]], limit: float
) -> float:
    """Draw the whole curve, threshold by threshold, and integrate it by trapezes."""
    regions: list[tuple[int, npt.NDArray[np.bool_]]] = []
    for i, mask in enumerate(masks):
        labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(i, labels == k) for k in range(1, n + 1)]
    n_normal = sum(int((~mask).sum()) for mask in masks)
    xs, ys = [0.0], [0.0]
    for cut in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        hits = [(maps[i][region] >= cut).mean() for i, region in regions]
        false = sum(int((m[~t] >= cut).sum()) for m, t in zip(maps, masks, strict=True))
        xs.append(false / n_normal)
        ys.append(float(np.mean(hits)))
    fine = [x for x in xs if x <= limit]
    heights = ys[: len(fine)]
    if fine[-1] < limit:
        j = len(fine)
        share = (limit - xs[j - 1]) / (xs[j] - xs[j - 1])
        heights = [*heights, ys[j - 1] + share * (ys[j] - ys[j - 1])]
        fine = [*fine, limit]
    return float(np.sum(np.diff(fine) * (np.array(heights[1:]) + heights[:-1]) / 2)) / limit


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([3, 8, 1000]))
def test_au_pro_equals_the_slow_reference(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((9, 11)) < 0.15, rng.random((7, 5)) < 0.2, np.zeros((6, 6), bool)]
    masks[0][0, 0] = True
    maps = [(rng.integers(0, levels, m.shape) + m * levels * 0.3).astype(np.float32) for m in masks]
    got = pixel_metrics(maps, masks)
    assert got.au_pro_30 == pytest.approx(slow_au_pro(maps, masks, 0.30), abs=1e-9)
    assert got.au_pro_05 == pytest.approx(slow_au_pro(maps, masks, 0.05), abs=1e-9)
    scores = np.concatenate([m.ravel() for m in maps])
    truth = np.concatenate([m.ravel() for m in masks])
    wins = scores[truth][:, None] - scores[~truth][None]
    assert got.pixel_auroc == pytest.approx(((wins > 0) + 0.5 * (wins == 0)).mean(), abs=1e-9)


@pytest.mark.parametrize("modes", [("rgb",), ("rgb", "depth", "rgbd")])
def test_the_table_fits_a_terminal_of_80_columns(modes: tuple[str, ...]) -> None:
    names = [key for _, key, _ in RANKED] + list(RATES)
    numbers: dict[str, object] = dict.fromkeys(names, 0.123456)
    numbers |= {f"{name}_interval": [0.1, 0.2] for name in names}
    told = document({m: {"mode": m, "seed": 0, "parts": numbers, **numbers} for m in modes})
    console = Console(width=300)
    with console.capture() as drawn:
        console.print(metrics_table(told))
    lines = drawn.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("0.100–0.200" in line for line in lines) >= len(names)
