"""Is depth in the unit that it is read in?"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

NEAREST_M: Final = 0.01  # nothing that triangulates sees closer
FARTHEST_M: Final = 30.0  # no camera over a belt hangs higher


def doubt_units(depth_m: npt.NDArray[np.floating]) -> str | None:
    """Say what is wrong with depth whose median lies where no camera over a belt measures.

    Args:
        depth_m: Any shape, metres; what is not finite or 0 was not measured.

    Returns:
        The depths as read, and the unit that they may be in; None where they are plausible.
    """
    known = depth_m[np.isfinite(depth_m) & (depth_m != 0)]
    if known.size == 0:
        return None
    median = abs(float(np.median(known)))
    if NEAREST_M <= median <= FARTHEST_M:
        return None
    unit = "millimetres" if median > FARTHEST_M else "metres that were read as millimetres"
    return f"depths of {known.min():.3g} to {known.max():.3g} m; are these {unit}?"
