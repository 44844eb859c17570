"""Which input pixels make an output pixel, and with what weight: OpenCV's own numbers.

OpenCV computes these per axis before it resizes; the kernels of resize.cu read them. They are
rounded where OpenCV rounds them (float32 shares, weights in 2048ths), so that results are equal
to the bit. Verified against OpenCV 5.0 over hundreds of sizes, with and without its IPP.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import Final

import numpy as np
import numpy.typing as npt

WEIGHT_UNIT: Final = 2048
LEAST_SHARE_PX: Final = 1e-3  # OpenCV leaves out what reaches less far than this into a pixel

Table = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """One axis of a picture that shrinks.

    Attributes:
        begin: (n + 1,) int32, where each output pixel's entries begin.
        source: int32, an input pixel.
        share: float32, what share of the output pixel it is.
    """

    begin: Table
    source: Table
    share: npt.NDArray[np.float32]


def whole_step(n_from: int, n_to: int) -> int | None:
    """Give how many pixels go into one, where OpenCV sees a whole number."""
    scale = _scale(n_from, n_to)
    return round(scale) if abs(scale - round(scale)) < sys.float_info.epsilon else None


@lru_cache(maxsize=64)
def shares(n_from: int, n_to: int) -> Shares:
    """Give what each of n_to pixels takes from n_from, at least as many, by the area it covers."""
    scale = _scale(n_from, n_to)
    begin, entries = [0], list[tuple[int, float]]()
    for to in range(n_to):
        low = to * scale
        high = low + scale
        width = min(scale, n_from - low)
        last = min(floor(high), n_from - 1)
        first = min(ceil(low), last)
        if first - low > LEAST_SHARE_PX:
            entries.append((first - 1, (first - low) / width))
        entries += [(source, 1 / width) for source in range(first, last)]
        if high - last > LEAST_SHARE_PX:
            entries.append((last, min(high - last, 1.0, width) / width))
        begin.append(len(entries))
    source, share = zip(*entries, strict=True)
    return Shares(
        np.array(begin, np.int32), np.array(source, np.int32), np.array(share, np.float32)
    )


@lru_cache(maxsize=64)
def neighbours(n_from: int, n_to: int, *, is_row: bool) -> Table:
    """Give (4, n_to): two input pixels, and their weights in 2048ths, for an axis that grows.

    Args:
        n_from: At most n_to.
        n_to: Output pixels.
        is_row: Whether the pixels of one row are meant. At an edge both neighbours are the same
            pixel; along a row OpenCV gives all the weight to one, down a column it keeps two.
    """
    middle = ((np.arange(n_to) + 0.5) * _scale(n_from, n_to) - 0.5).astype(np.float32)
    first = np.floor(middle).astype(np.int64)
    fraction = (middle - first.astype(np.float32)).astype(np.float32)
    if is_row:
        fraction[(first < 0) | (first >= n_from - 1)] = 0
    return np.stack([
        first.clip(0, n_from - 1),
        (first + 1).clip(0, n_from - 1),
        np.rint((1 - fraction) * WEIGHT_UNIT),
        np.rint(fraction * WEIGHT_UNIT),
    ]).astype(np.int32)  # fmt: skip


def _scale(n_from: int, n_to: int) -> float:
    return 1 / (n_to / n_from)  # rounded twice, as in OpenCV
