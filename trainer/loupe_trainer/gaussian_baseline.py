"""The plainest detector there is: a mean and a spread for every pixel.

It stands beside every method in the evaluation. Where it does well the exam is easy, and a high
number means little.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from loupe_models.atomic import write_bytes
from loupe_trainer.errors import DataError

BLUR_SIGMA_PX = 1.5
MIN_STD = 1.0  # grey levels: below a camera's own noise a spread is luck


@dataclass(frozen=True, slots=True)
class GaussianBaseline:
    """What good crops look like, pixel by pixel.

    Attributes:
        mean: (H, W, 3) of the blurred crops, grey levels.
        std: (H, W, 3), at least one grey level.
    """

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, crops: Iterable[npt.NDArray[np.uint8]]) -> GaussianBaseline:
        """Learn from crops (H, W, 3) or (1, H, W, 3), all of one size, in one pass.

        Raises:
            DataError: There are no crops.
        """
        n, mean, squares = 0, np.zeros(()), np.zeros(())
        for crop in crops:
            blurred = _blur(crop).astype(np.float64)
            n += 1
            away = blurred - mean
            mean = mean + away / n  # Welford: no large squares are subtracted from each other
            squares = squares + away * (blurred - mean)
        if n == 0:
            raise DataError("no crop to learn a baseline from")
        std = np.maximum(np.sqrt(squares / n), MIN_STD)
        return cls(mean.astype(np.float32), std.astype(np.float32))

    def score(self, crop: npt.NDArray[np.uint8]) -> float:
        """Give the largest deviation of any pixel of a crop, in standard deviations."""
        return float(np.max(np.abs(_blur(crop) - self.mean) / self.std))

    def save(self, path: Path) -> None:
        """Write an .npz."""
        buffer = io.BytesIO()
        np.savez(buffer, mean=self.mean, std=self.std)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> GaussianBaseline:
        """Read what `save` wrote.

        Raises:
            DataError: Missing or not a baseline.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                held: Mapping[str, npt.NDArray[np.float32]] = dict(arrays)
            return cls(held["mean"], held["std"])
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise DataError(f"{path}: not a readable baseline; train again") from error


def _blur(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    picture = crop[0] if crop.ndim == 4 else crop
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), BLUR_SIGMA_PX)
    return np.asarray(smooth, dtype=np.float32)
