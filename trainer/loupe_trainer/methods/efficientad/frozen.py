"""What frozen layers say of fixed pictures, computed once where memory allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_trainer.compute import autocast
from loupe_trainer.errors import TrainingError
from loupe_trainer.methods.efficientad.pictures import Rgb, to_batch
from loupe_trainer.progress import Progress
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import Pdn

MIN_STD = 1e-6


@dataclass(frozen=True, slots=True)
class FrozenSides:
    """What does not change while student and autoencoder learn.

    Attributes:
        teacher: Its answers on the training pictures. The student imitates them on pictures as
            they are, so no augmentation stands in the way of computing them once. In float16:
            normalised features are around 1, and 1/2000 of that is far below what a student
            ever reaches.
        parts: What the student's learning layers are given of the training pictures: the
            normalised picture, or what a stem that it shares with the teacher says of it.
        foreign: The same of foreign pictures; None where the penalty is off.
    """

    teacher: FrozenFeatures
    parts: FrozenFeatures
    foreign: FrozenFeatures | None


class FrozenFeatures:
    """A frozen function of a set of pictures; each answer is computed when first asked for.

    Args:
        describe: From (1, 3, H, W) ImageNet-normalised to (1, C, h, w).
        pictures: (N, H, W, 3) uint8.
        device: Where `describe` computes and answers stay.
        cache_mb: Memory for answers; once it is full, others are computed each time.
    """

    def __init__(
        self, describe: Callable[[Tensor], Tensor], pictures: Rgb, device: torch.device,
        cache_mb: int,
    ) -> None:  # fmt: skip
        self._describe, self._pictures, self._device = describe, pictures, device
        self._room_bytes = cache_mb * 1_000_000
        self._kept: dict[int, Tensor] = {}

    def of(self, rows: npt.NDArray[np.intp]) -> Tensor:
        """Give (B, C, h, w) of some of the pictures."""
        return torch.cat([self._one(int(row)) for row in rows])

    def _one(self, row: int) -> Tensor:
        if row in self._kept:
            return self._kept[row]
        with torch.no_grad():
            features = self._describe(load(self._pictures[row : row + 1], self._device))
        if features.nbytes <= self._room_bytes:
            self._room_bytes -= features.nbytes
            self._kept[row] = features
        return features


def freeze(
    teacher: Pdn, parts: Rgb, foreign: Rgb | None, *, shared_stem: bool, cache_mb: int
) -> FrozenSides:
    """Set up what is computed once, with an equal share of the memory for each."""
    device = teacher.last.weight.device

    def answer(picture: Tensor) -> Tensor:
        features: Tensor = teacher(picture)
        return features.half()

    def begin(picture: Tensor) -> Tensor:
        if not shared_stem:
            return picture
        with autocast(device):
            stemmed: Tensor = teacher.stem(picture)
        return stemmed

    share_mb = cache_mb // 3
    return FrozenSides(
        FrozenFeatures(answer, parts, device, share_mb),
        FrozenFeatures(begin, parts, device, share_mb),
        None if foreign is None else FrozenFeatures(begin, foreign, device, share_mb),
    )


@torch.no_grad()
def channel_statistics(teacher: Pdn, pictures: Rgb, progress: Progress) -> tuple[Tensor, Tensor]:
    """Give mean and standard deviation of each channel over all training pictures.

    Args:
        teacher: Without padding, as it is used afterwards.
        pictures: (N, H, W, 3) uint8.
        progress: Shown.

    Returns:
        Two (C,) float32 tensors.

    Raises:
        TrainingError: A channel of the teacher never changes.
    """
    device = teacher.last.weight.device
    total = torch.zeros(teacher.channels, dtype=torch.float64)
    squares = torch.zeros(teacher.channels, dtype=torch.float64)
    for row in progress.track(range(len(pictures)), "measuring the teacher"):
        features = teacher(load(pictures[row : row + 1], device)).double()
        total += features.mean((0, 2, 3)).cpu()
        squares += features.square().mean((0, 2, 3)).cpu()
    mean = total / len(pictures)
    std = (squares / len(pictures) - mean.square()).clamp(min=0).sqrt()
    if not bool((std > MIN_STD).all()):
        raise TrainingError(
            "a channel of the teacher says the same of every pixel: the pictures are blank, or "
            "the teacher was not trained; look at the pictures, or make the teacher anew"
        )
    return mean.float(), std.float()


def load(pictures: Rgb, device: torch.device) -> Tensor:
    """Bring (B, H, W, 3) uint8 pictures to the networks, normalised."""
    batch = to_batch(pictures).to(device, memory_format=torch.channels_last)
    return imagenet_normalise(batch)
