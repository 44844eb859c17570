"""A few of many, evenly."""

from __future__ import annotations

import numpy as np


def spread(n: int, at_most: int) -> list[int]:
    """Choose indices of n things, the first and the last among them, in rising order.

    Args:
        n: How many there are; of none, none is chosen.
        at_most: How many may be chosen.
    """
    return [int(i) for i in np.linspace(0, n - 1, min(n, at_most)).round()]
