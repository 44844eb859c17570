"""Is the threshold's promise kept as often as theory says? On good parts, resplit 1,000 times.

Each resplit calibrates on n parts and counts the rejects among all others. Three figures beside
show what the promise rests on: parts taken as they came off the belt, and frames taken for parts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from good_parts import PartScores, simulated_scores, tile_scores
from harness import Budget, finish, say

from loupe_models.bundle import Bundle
from loupe_models.coverage import most_rejects, predicted_coverage
from loupe_models.threshold import choose_threshold

N_RESPLITS, SEED = 1000, 0
SLACK = 0.02  # 1,000 resplits tell a coverage of 0.95 to 0.007, one of 0.85 to 0.011
LEAST_PARTS = 3000
SIMULATED = ((29, 0.10), (150, 0.10), (59, 0.05), (300, 0.05), (299, 0.01), (1000, 0.01))
TILES = ((29, 0.10),)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Parts:
    """Good parts in the order in which they came; each has a score at least.

    Attributes:
        frames: Of each part, its frames' scores.
        highest: (n,) each part's highest.
    """

    frames: Sequence[Floats]
    highest: Floats

    @classmethod
    def of(cls, scores: PartScores) -> Parts:
        """Leave out what no frame scored: it cannot calibrate, and is counted elsewhere."""
        frames = [np.asarray(s) for s in scores.values() if s]
        return cls(frames, np.array([s.max() for s in frames]))

    def __len__(self) -> int:
        return len(self.frames)


def main() -> int:
    """Score what has not been scored, resplit, compare."""
    simulated, tiles = simulated_scores(), tile_scores()
    say("resplitting")
    figures: dict[str, object] = {"n_resplits": N_RESPLITS}
    n_parts = len(Parts.of(simulated[1]))
    budgets = [Budget("simulated good parts", n_parts, LEAST_PARTS, "", is_least=True)]
    figures["simulated"] = measure("simulated", simulated, SIMULATED, budgets)
    if tiles is None:
        say("no magnetic tile: train trainer/recipes/magnetic_tile.toml first, then call again")
    else:
        figures["magnetic_tile"] = measure("magnetic tile", tiles, TILES, budgets)
    return finish("threshold_coverage", figures, budgets)


def measure(
    name: str, scored: tuple[Bundle, PartScores], asked: Sequence[tuple[int, float]],
    budgets: list[Budget],
) -> dict[str, object]:  # fmt: skip
    """Hold each number of parts and rate against theory; the budgets are added to."""
    bundle, scores = scored
    parts = Parts.of(scores)
    rows = [resplit(parts, n, rate) for n, rate in asked]
    for row in rows:
        what = f"{name}: coverage of {row['rate']:.0%} on {row['n_calibrated']:.0f} parts"
        least = round(row["predicted"] - SLACK, 4)
        budgets.append(Budget(what, row["coverage"], least, "", is_least=True))
    return {
        "bundle": bundle.sha256,
        "n_parts": len(parts),
        "n_parts_without_a_score": len(scores) - len(parts),
        "n_frames": sum(len(frames) for frames in parts.frames),
        "n_different_part_scores": len(np.unique(parts.highest)),
        "resplits": rows,
    }


def resplit(parts: Parts, n: int, rate: float) -> dict[str, float]:
    """Give the share of resplits that keep the rate, and what theory says of it."""
    rng = np.random.default_rng(SEED)
    orders = [rng.permutation(len(parts)) for _ in range(N_RESPLITS)]
    n_tested = len(parts) - n
    at_most = most_rejects(n_tested, rate)
    rejects = np.array([_n_rejected(parts, order[:n], order[n:], rate) for order in orders])
    threshold = choose_threshold(parts.highest[:n], rate)
    starts = rng.integers(len(parts), size=N_RESPLITS)
    turned = [np.roll(np.arange(len(parts)), -start) for start in starts]
    in_order = [_n_rejected(parts, order[:n], order[n:], rate) <= at_most for order in turned]
    return {
        "n_calibrated": n,
        "rate": rate,
        "n_tested": n_tested,
        "rank": threshold.rank,
        "predicted": round(predicted_coverage(threshold, n_tested), 4),
        "coverage": round(float(np.mean(rejects <= at_most)), 4),
        "mean_false_reject_rate": round(float(rejects.mean()) / n_tested, 5),
        "coverage_of_parts_in_a_row": round(float(np.mean(in_order)), 4),
        "coverage_if_frames_were_parts": round(_of_frames(parts, orders, n, rate), 4),
    }


def _n_rejected(parts: Parts, calibrated: Ints, tested: Ints, rate: float) -> int:
    value = choose_threshold(parts.highest[calibrated], rate).value
    return int((parts.highest[tested] > value).sum())


def _of_frames(parts: Parts, orders: Sequence[Ints], n: int, rate: float) -> float:
    """Do it wrong: calibrate on n frames of few parts, as if each were a part of its own."""
    kept = []
    for order in orders:
        n_frames = np.cumsum([len(parts.frames[i]) for i in order])
        n_parts = int(np.searchsorted(n_frames, n)) + 1
        frames = np.concatenate([parts.frames[i] for i in order[:n_parts]])[:n]
        tested = parts.highest[order[n_parts:]]
        n_rejected = int((tested > choose_threshold(frames, rate).value).sum())
        kept.append(n_rejected <= most_rejects(len(tested), rate))
    return float(np.mean(kept))


if __name__ == "__main__":
    sys.exit(main())
