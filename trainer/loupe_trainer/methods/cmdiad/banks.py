"""The banks of a run: one for each kind of tokens that some mode looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from loupe_trainer.methods.cmdiad.bank import MemoryBank
from loupe_trainer.methods.cmdiad.config import BankConfig
from loupe_trainer.methods.cmdiad.coreset import select_coreset
from loupe_trainer.methods.cmdiad.features import Features
from loupe_trainer.methods.cmdiad.kinds import TokenKind
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder


@dataclass(frozen=True, slots=True)
class Filling:
    """How a run's banks are filled.

    Attributes:
        n_frames: Of all frames the first so many may be kept in a bank.
        deviation: What features are put over, the same for all banks, as published; None takes
            each bank's own.
    """

    config: BankConfig
    n_frames: int
    seed: int
    run: RunFolder
    progress: Progress
    deviation: float | None = None

    def fill(self, kind: TokenKind, features: Features) -> MemoryBank:
        """Choose a coreset of (N, h, w, C) features and make a bank of it.

        What was chosen is kept in the run, so that a visit after a kill chooses no more.
        """
        candidates = features[: self.n_frames].reshape(-1, features.shape[-1])
        checkpoint = self.run.checkpoints / f"coreset-{kind}.safetensors"
        rows = select_coreset(candidates, self.config.share, self.seed, self.progress, checkpoint)
        chosen = torch.from_numpy(np.array(candidates[rows]))
        n_dimensions = self.config.n_dimensions
        if n_dimensions is not None and n_dimensions >= chosen.shape[1]:
            n_dimensions = None
        return MemoryBank(chosen, n_dimensions, deviation=self.deviation)


def deviation_of(features: Features, n_frames: int) -> float:
    """Give the standard deviation over all elements of the first frames, frame by frame."""
    total, squares, n = 0.0, 0.0, 0
    for frame in features[:n_frames]:
        values = frame.astype(np.float64)
        total, squares, n = total + values.sum(), squares + np.square(values).sum(), n + values.size
    return float(np.sqrt(max(squares / n - (total / n) ** 2, 0.0)))
