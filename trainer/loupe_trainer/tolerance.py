"""How far apart two answers to one input may be: law 8's measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is allowed of a precision.

    Attributes:
        of_unit: Share of the unit, the good parts' spread s95 - s50: what counts near them.
        of_score: Share of a score, where that is more: far above the threshold a number runs out
            of digits.
    """

    of_unit: float
    of_score: float

    def largest_error(self, have: npt.ArrayLike, want: npt.ArrayLike, unit: float) -> float:
        """Give the largest error, in units, or in as much of a score as stands for one.

        Args:
            have: Scores, or a map.
            want: Of the same shape.
            unit: Of the calibration scores.

        Returns:
            Allowed up to `of_unit`; NaN where either is.
        """
        reference = np.asarray(want, np.float64)
        stands_for_unit = np.maximum(unit, self.of_score / self.of_unit * np.abs(reference))
        return float((np.abs(np.asarray(have, np.float64) - reference) / stands_for_unit).max())

    def said(self, error: float) -> str:
        """Write an error with two digits, or as many as tell it from what is allowed."""
        written = (f"{error:.{n_digits}g}" for n_digits in range(2, 17))
        return next((text for text in written if float(text) != self.of_unit), repr(error))

    def at(self, score: float, unit: float) -> float:
        """Give how far a score may be off."""
        return max(self.of_unit * unit, self.of_score * abs(score))


FLOAT32: Final = Tolerance(1e-3, 1e-5)
"""A score of a thousand units cannot be held to a thousandth of one."""

HALF: Final = Tolerance(1e-2, 1e-3)
"""FP16 has steps of 5e-4 of a number."""
