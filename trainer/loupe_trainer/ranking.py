"""How well scores put defects above good ones: AUROC, average precision, F1-max.

All three come from one sort and from weighted counts above each distinct score. Counting a frame
twice is weighing it twice, so that the same lines serve the estimate and its bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores in falling order.

    Attributes:
        order: (n,) indices that sort the scores.
        ends: (k,) the last place of each distinct score: ties enter the curve together.
        is_defect: (n,) truth in that order.
    """

    order: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]
    is_defect: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, scores: Sequence[float], is_defect: Sequence[bool]) -> Ranking:
        """Sort (n,) finite scores, higher meaning more anomalous; n is at least 1."""
        values = np.asarray(scores, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
        return cls(order, ends, np.asarray(is_defect, dtype=bool)[order])

    def curve(self, weights: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Count good ones and defects at or above each distinct score, after a first zero.

        Args:
            weights: (r, n) how often each counts, in each of r resamples.

        Returns:
            Two arrays (r, k + 1), the weight of the good ones and of the defects.
        """
        sorted_weights = np.asarray(weights, dtype=np.float64)[:, self.order]
        counts = []
        for kind in (~self.is_defect, self.is_defect):
            above = np.cumsum(sorted_weights * kind, axis=1)[:, self.ends]
            counts.append(np.pad(above, ((0, 0), (1, 0))))
        return counts[0], counts[1]

    def measure(self, weights: npt.ArrayLike) -> dict[str, Floats]:
        """Give `auroc`, `average_precision` and `f1_max`, (r,) each; NaN where a kind is missing.

        Average precision sums precision over the steps of recall, without interpolation. F1-max
        is the best F1 over all thresholds: the test's own labels choose that threshold, so it
        tells of the ranking, not of the threshold that is shipped.
        """
        good, defects = self.curve(weights)
        n_good, n_defects = good[:, -1:], defects[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            hit, false = defects / n_defects, good / n_good
            precision = np.where(defects > 0, defects / (defects + good), 0)
            f1 = 2 * defects / (defects + good + n_defects)
            measured = {
                "auroc": np.sum(np.diff(false) * (hit[:, 1:] + hit[:, :-1]) / 2, axis=1),
                "average_precision": np.sum(np.diff(hit) * precision[:, 1:], axis=1),
                "f1_max": f1.max(axis=1),
            }
        is_ranked = (n_good > 0).ravel() & (n_defects > 0).ravel()
        return {name: np.where(is_ranked, values, np.nan) for name, values in measured.items()}
