"""What the frozen teacher says of the training pictures, and the statistics of that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_trainer.errors import TrainingError
from loupe_trainer.methods.efficientad.pictures import Rgb, to_batch
from loupe_trainer.progress import Progress
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import Pdn

MIN_STD = 1e-6


@torch.inference_mode()
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
    total = torch.zeros(teacher.channels, dtype=torch.float64)
    squares = torch.zeros(teacher.channels, dtype=torch.float64)
    for row in progress.track(range(len(pictures)), "measuring the teacher"):
        features = _describe(teacher, pictures[row : row + 1]).double()
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


class TeacherAnswers:
    """The teacher's features on training pictures, computed once where memory allows.

    The student imitates them on pictures as they are, so no augmentation stands in the way. They
    are kept in float16: normalised features are around 1, and the error, 1/2000 of that, is far
    below what a student ever reaches.
    """

    def __init__(self, teacher: Pdn, pictures: Rgb, cache_mb: int) -> None:
        self._teacher, self._pictures = teacher, pictures
        self._max_bytes = cache_mb * 1_000_000
        self._n_bytes = 0
        self._kept: dict[int, Tensor] = {}

    def of(self, rows: npt.NDArray[np.intp]) -> Tensor:
        """Give (B, C, H/4 - 8, W/4 - 8) features of some training pictures."""
        return torch.cat([self._one(int(row)) for row in rows]).float()

    def _one(self, row: int) -> Tensor:
        if row in self._kept:
            return self._kept[row]
        with torch.no_grad():
            features = _describe(self._teacher, self._pictures[row : row + 1]).half()
        self._n_bytes += features.nbytes
        if self._n_bytes <= self._max_bytes:
            self._kept[row] = features
        return features


def _describe(teacher: Pdn, pictures: Rgb) -> Tensor:
    device = teacher.last.weight.device
    batch = to_batch(pictures).to(device, memory_format=torch.channels_last)
    features: Tensor = teacher(imagenet_normalise(batch))
    return features
