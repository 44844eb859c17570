"""The pictures of one training step: parts, their recoloured copies, and foreign ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_trainer.errors import DataError
from loupe_trainer.methods.base import Samples
from loupe_trainer.teachers.corpus import Corpus, to_grey

Rgb = npt.NDArray[np.uint8]

JITTER = (0.8, 1.2)
PENALTY_GREY_SHARE = 0.3
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class StepPictures:
    """What one optimiser step looks at.

    Attributes:
        rows: (B,) which of the training pictures.
        foreign_rows: (B,) which of the foreign ones; None where the penalty is off.
        recoloured: (B, 3, H, W) float32 in 0..255, the training pictures, each with one of
            brightness, contrast and saturation changed.
    """

    rows: npt.NDArray[np.intp]
    foreign_rows: npt.NDArray[np.intp] | None
    recoloured: Tensor


class StepSource:
    """Draws what any step looks at from the seed and the step's number alone.

    So a run that was killed goes on with the very pictures it would have had.
    """

    def __init__(self, parts: Rgb, n_foreign: int, batch: int, seed: int) -> None:
        self._parts, self._n_foreign = parts, n_foreign
        self._batch, self._seed = batch, seed

    def draw(self, step: int) -> StepPictures:
        """Draw the pictures of one step."""
        rng = np.random.default_rng((self._seed, 1, step))
        rows = np.array([self._row(step * self._batch + i) for i in range(self._batch)], np.intp)
        recoloured = torch.stack([recolour(part, rng) for part in to_batch(self._parts[rows])])
        foreign_rows = None
        if self._n_foreign:
            foreign_rows = rng.integers(self._n_foreign, size=self._batch)
        return StepPictures(rows, foreign_rows, recoloured)

    def _row(self, n_drawn: int) -> int:
        """Pass through all pictures in a new order each time."""
        epoch, place = divmod(n_drawn, len(self._parts))
        order = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._parts))
        return int(order[place])


def stack_samples(samples: Samples) -> Rgb:
    """Give all training pictures, (N, H, W, 3).

    Raises:
        DataError: There is none.
    """
    if not len(samples):
        raise DataError("no good part to learn from; collect pictures of good parts")
    return np.concatenate([np.asarray(sample["rgb"], np.uint8) for sample in samples])


def draw_foreign(corpus: Corpus, n: int, size_hw: tuple[int, int], seed: int) -> Rgb:
    """Draw penalty pictures: resized to twice the size, some without colour, the centre cut out."""
    rng = np.random.default_rng((seed, 2))
    height_px, width_px = size_hw
    top, left = height_px // 2, width_px // 2
    pictures = []
    for _ in range(n):
        whole = corpus.picture(rng, 2 * height_px, 2 * width_px)
        picture = whole[top : top + height_px, left : left + width_px]
        pictures.append(to_grey(picture) if rng.random() < PENALTY_GREY_SHARE else picture)
    return np.stack(pictures)


def recolour(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Change one of brightness, contrast and saturation of (3, H, W) in 0..255 by up to a fifth."""
    factor = float(rng.uniform(*JITTER))
    grey = (picture * picture.new_tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    towards = (torch.zeros_like(grey), grey.mean(), grey)[int(rng.integers(3))]
    return (factor * picture + (1 - factor) * towards).clamp(0, 255)


def to_batch(pictures: Rgb) -> Tensor:
    """Turn (B, H, W, 3) uint8 into (B, 3, H, W) float32, channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
