"""How far a number could be off by the luck of which parts were tested: percentile intervals.

Parts are drawn anew with replacement, as many good and as many defective ones as there are; a
part's frames come and go together, for they are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

N_RESAMPLES: Final = 1000
LEVEL: Final = 0.95
SEED: Final = 0  # fixed: the same evaluation gives the same interval
BLOCK: Final = 100  # resamples at a time, so that memory stays bounded

Interval = list[float]  # low and high, as JSON holds them
Intervals = Mapping[str, Interval | None]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Which part each observation is of.

    Attributes:
        part_of: (n,) the observations' parts, by number.
        strata: The good parts and the defective ones, those without any left out; a part with
            one defective observation is defective.
    """

    part_of: npt.NDArray[np.intp]
    strata: tuple[npt.NDArray[np.intp], ...]

    @classmethod
    def of(cls, parts: Sequence[str], is_defect: Sequence[bool]) -> Cohort:
        """Number the parts of n observations."""
        names, part_of = np.unique(np.asarray(parts, dtype=str), return_inverse=True)
        spoiled = np.zeros(len(names), dtype=bool)
        np.logical_or.at(spoiled, part_of, np.asarray(is_defect, dtype=bool))
        strata = np.flatnonzero(~spoiled), np.flatnonzero(spoiled)
        return cls(part_of.astype(np.intp), tuple(s for s in strata if s.size))

    @property
    def can_be_resampled(self) -> bool:
        """Whether every kind has two parts at least: one part drawn anew is itself again."""
        return bool(self.strata) and all(len(stratum) > 1 for stratum in self.strata)

    def draw(self) -> Iterator[Floats]:
        """Give how often each observation counts: blocks (r, n), 1,000 rows in all."""
        rng = np.random.default_rng(SEED)
        n_parts = sum(len(stratum) for stratum in self.strata)
        for _ in range(N_RESAMPLES // BLOCK):
            counts = np.zeros((BLOCK, n_parts))
            for stratum in self.strata:
                n = len(stratum)
                counts[:, stratum] = rng.multinomial(n, np.full(n, 1 / n), size=BLOCK)
            yield counts[:, self.part_of]


def bootstrap(
    parts: Sequence[str],
    is_defect: Sequence[bool],
    measure: Callable[[Floats], Mapping[str, Floats]],
) -> dict[str, Interval | None]:
    """Give a 95 % percentile interval for each number that `measure` gives.

    Args:
        parts: (n,) the observations' parts.
        is_defect: (n,) truth.
        measure: From weights (r, n) to numbers (r,) by name, NaN where one is undefined.

    Returns:
        None for a number that no resample defines; empty where a kind has one part only, for
        then nothing can be drawn anew.
    """
    cohort = Cohort.of(parts, is_defect)
    if not cohort.can_be_resampled:
        return {}
    blocks = [measure(weights) for weights in cohort.draw()]
    return {name: interval(np.concatenate([b[name] for b in blocks])) for name in blocks[0]}


def interval(values: Floats) -> Interval | None:
    """Cut an equal share off both ends of some resampled values; None where all are NaN."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return [float(low), float(high)]


def exact_interval(n_hits: int, n: int) -> Interval | None:
    """Give the exact binomial interval (Clopper and Pearson 1934) of a rate counted in parts.

    It says what the bootstrap cannot: none of 12 missed still allows a rate of 26 %.
    """
    if n == 0:
        return None
    found = binomtest(n_hits, n).proportion_ci(confidence_level=LEVEL, method="exact")
    return [float(found.low), float(found.high)]
