import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loupe_trainer.bootstrap import bootstrap
from loupe_trainer.metrics import pixel_metrics
from loupe_trainer.pixel_histograms import PixelHistograms

NAMES = ("pixel_auroc", "au_pro_30", "au_pro_05")
WORST = 1e-3  # what the module promises of the pictures as they are

Maps = list[npt.NDArray[np.float32]]
Masks = list[npt.NDArray[np.bool_]]


def pictures(seed: int, n: int, levels: int, side: int = 40) -> tuple[Maps, Masks]:
    """Half of them with two blots that score somewhat higher."""
    rng = np.random.default_rng(seed)
    masks: Masks = [np.zeros((side, side), bool) for _ in range(n)]
    for mask in masks[::2]:
        for _ in range(2):
            x, y = rng.integers(0, side - 9, 2)
            mask[y : y + int(rng.integers(2, 9)), x : x + int(rng.integers(2, 9))] = True
    maps = [
        (np.round(rng.normal(0, 1, m.shape) * levels) / levels + m * rng.uniform(0, 3)).astype(
            np.float32
        )
        for m in masks
    ]
    return maps, masks


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([2, 20, 100_000]))
def test_close_to_the_exact_numbers(seed: int, levels: int) -> None:
    maps, masks = pictures(seed, 6, levels)
    exact = pixel_metrics(maps, masks)
    binned = PixelHistograms.of(maps, masks).measure(np.ones((1, 6)))
    for name in NAMES:
        assert binned[name][0] == pytest.approx(getattr(exact, name), abs=WORST)


def test_to_weigh_twice_is_to_count_twice() -> None:
    maps, masks = pictures(3, 8, 100_000)
    counts = np.random.default_rng(1).integers(0, 4, (6, 8))
    binned = PixelHistograms.of(maps, masks).measure(counts)
    for row, times in enumerate(counts):
        chosen = np.repeat(np.arange(8), times)
        exact = pixel_metrics([maps[i] for i in chosen], [masks[i] for i in chosen])
        for name in NAMES:
            assert binned[name][row] == pytest.approx(getattr(exact, name), abs=4 * WORST)


def test_some_pictures_of_many() -> None:
    maps, masks = pictures(4, 8, 100_000)
    kept = [0, 1, 5]
    exact = pixel_metrics([maps[i] for i in kept], [masks[i] for i in kept])
    binned = PixelHistograms.of(maps, masks).take(kept).measure(np.ones((1, 3)))
    for name in NAMES:
        assert binned[name][0] == pytest.approx(getattr(exact, name), abs=4 * WORST)


def test_no_defect_and_no_picture() -> None:
    flat = np.zeros((4, 4), np.float32)
    found = PixelHistograms.of([flat], [flat > 0]).measure(np.ones((1, 1)))
    assert all(np.isnan(found[name][0]) for name in NAMES)
    assert not PixelHistograms.of([], []).n_regions.size


def test_the_interval_holds_the_number_and_narrows_with_more_pictures() -> None:
    widths = []
    for n in (12, 120):
        maps, masks = pictures(5, n, 100_000)
        found = bootstrap(
            [str(i) for i in range(n)],
            [bool(m.any()) for m in masks],
            PixelHistograms.of(maps, masks).measure,
        )["au_pro_30"]
        assert found is not None
        exact = pixel_metrics(maps, masks).au_pro_30
        assert exact is not None
        assert found[0] < exact < found[1]
        widths.append(found[1] - found[0])
    assert widths[1] < widths[0] / 2


def test_a_hundred_pictures_with_their_intervals_take_seconds() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((256, 256), dtype=np.float32) for _ in range(100)]
    masks = [np.zeros((256, 256), bool) for _ in range(100)]
    for mask in masks[::2]:
        mask[40:60, 80:110] = True
    began = time.monotonic()
    exact = pixel_metrics(maps, masks)
    found = bootstrap(
        [str(i) for i in range(100)],
        [bool(m.any()) for m in masks],
        PixelHistograms.of(maps, masks).measure,
    )["au_pro_30"]
    assert time.monotonic() - began < 10
    assert found is not None
    assert exact.au_pro_30 is not None
    assert found[0] < exact.au_pro_30 < found[1]
    assert exact.pixel_auroc == pytest.approx(0.5, abs=0.02)
