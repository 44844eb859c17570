"""The coreset: the plain loop's choices, in bounded memory, again after a stop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loupe_trainer.errors import DataError, RunError
from loupe_trainer.methods.cmdiad import coreset
from loupe_trainer.methods.cmdiad.coreset import select_coreset
from loupe_trainer.progress import SilentProgress


def clustered(n: int, channels: int, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((12, channels))
    few = rng.standard_normal((n, 12)) * rng.choice([0.2, 1.0], (n, 1), p=[0.9, 0.1])
    noise = rng.standard_normal((n, channels))
    features: npt.NDArray[np.float32] = (few @ basis + 0.2 * noise).astype(np.float32)
    return features


def plain_greedy(features: npt.NDArray[np.float32], n_wanted: int) -> list[int]:
    """One row at a time over all candidates, in float64."""
    candidates = features.astype(np.float64)
    chosen = [0]
    nearest = np.full(len(candidates), np.inf)
    while len(chosen) < n_wanted:
        squared = np.square(candidates - candidates[chosen[-1]]).sum(axis=1)
        nearest = np.minimum(nearest, squared)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


@pytest.mark.parametrize("share", [0.002, 0.02, 0.1])
def test_choices_are_those_of_the_plain_loop(share: float) -> None:
    features = clustered(3000, 24)  # too few channels to project
    n_wanted = round(share * 3000)
    rows = select_coreset(features, share, seed=0, progress=SilentProgress())
    assert rows.tolist() == plain_greedy(features, n_wanted)


def test_a_coreset_covers_better_than_rows_drawn_at_random() -> None:
    features = clustered(4000, 512)
    rows = select_coreset(features, 0.02, seed=0, progress=SilentProgress())
    drawn = np.random.default_rng(0).choice(4000, len(rows), replace=False)

    def farthest(kept: npt.NDArray[np.int64]) -> float:
        squared = (
            np.square(features).sum(1)[:, None]
            + np.square(features[kept]).sum(1)
            - 2 * features @ features[kept].T
        )
        return float(squared.min(axis=1).max())

    assert len(set(rows.tolist())) == 80
    assert farthest(rows) < 0.7 * farthest(drawn)


def test_same_seed_same_rows_and_a_smaller_share_is_their_beginning() -> None:
    features = clustered(2500, 512)  # projected to fewer
    many = select_coreset(features, 0.1, seed=3, progress=SilentProgress())
    again = select_coreset(features, 0.1, seed=3, progress=SilentProgress())
    few = select_coreset(features, 0.02, seed=3, progress=SilentProgress())
    other = select_coreset(features, 0.1, seed=4, progress=SilentProgress())
    assert np.array_equal(many, again)
    assert np.array_equal(many[: len(few)], few)
    assert not np.array_equal(many, other)


def test_a_share_of_one_keeps_each_candidate_once() -> None:
    rows = select_coreset(clustered(1500, 24), 1.0, seed=0, progress=SilentProgress())
    assert sorted(rows.tolist()) == list(range(1500))


def test_equal_features_are_each_chosen_once() -> None:
    features = np.repeat(clustered(10, 16), 30, axis=0)
    rows = select_coreset(features, 0.2, seed=0, progress=SilentProgress())
    assert len(set(rows.tolist())) == 60
    assert len(np.unique(features[rows[:10]], axis=0)) == 10


def test_a_stopped_selection_goes_on_to_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = clustered(4000, 512)
    whole = select_coreset(features, 0.1, 0, SilentProgress())
    file = tmp_path / "coreset.safetensors"
    sweep, sweeps = coreset._Cover._sweep, [0]

    def stop_at_the_fourth(cover: coreset._Cover, new: list[int]) -> None:
        sweeps[0] += 1
        if sweeps[0] == 4:
            raise KeyboardInterrupt
        sweep(cover, new)

    monkeypatch.setattr(coreset, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(coreset, "MOST_CHOICES_A_SWEEP", 50)
    with monkeypatch.context() as patch:
        patch.setattr(coreset._Cover, "_sweep", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            select_coreset(features, 0.1, 0, SilentProgress(), file)
    assert np.array_equal(select_coreset(features, 0.1, 0, SilentProgress(), file), whole)
    with pytest.raises(RunError, match="other features, another share or seed"):
        select_coreset(features, 0.1, 1, SilentProgress(), file)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(RunError, match="not a whole checkpoint"):
        select_coreset(features, 0.1, 0, SilentProgress(), file)


def test_candidates_on_disk_are_read_in_blocks(tmp_path: Path) -> None:
    """30,000 x 768 in float16 are 92 MB as float32; the selection takes projections and blocks."""
    file = tmp_path / "features.npy"
    mapped = np.lib.format.open_memmap(file, "w+", np.float16, (30_000, 768))
    for start in range(0, 30_000, 5000):
        mapped[start : start + 5000] = clustered(5000, 768, seed=start)
    mapped.flush()
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, str(file)], capture_output=True, text=True, check=True
    )
    n_rows, more_mb = (float(word) for word in told.stdout.split())
    assert n_rows == 60
    assert more_mb < 60  # the features as float32 alone would take 92 MB


MEASURE = """
import resource, sys
import numpy as np
from loupe_trainer.methods.cmdiad.coreset import select_coreset
from loupe_trainer.progress import SilentProgress
features = np.load(sys.argv[1], mmap_mode="r")
select_coreset(features[:200], 0.1, 0, SilentProgress())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = select_coreset(features, 0.002, 0, SilentProgress())
print(len(rows), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)
"""


def test_what_cannot_be_chosen_from_is_refused() -> None:
    features = clustered(50, 8)
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(DataError, match="more than 0 and at most 1"):
            select_coreset(features, share, 0, SilentProgress())
    with pytest.raises(DataError, match=r"\(0, 8\)"):
        select_coreset(features[:0], 0.1, 0, SilentProgress())
    features[7, 3] = np.inf
    with pytest.raises(DataError, match="row 7"):
        select_coreset(features, 0.1, 0, SilentProgress())


def test_a_single_candidate_is_the_coreset() -> None:
    assert select_coreset(clustered(1, 8), 0.01, 0, SilentProgress()).tolist() == [0]
