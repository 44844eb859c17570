"""Cross-modal distillation: a network learns to say what the other modality would have said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.compute import unplace
from loupe_trainer.errors import TrainingError
from loupe_trainer.methods.cmdiad.config import DistillationConfig
from loupe_trainer.optimisation import adam, descend
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder

WARM_UP_SHARE: Final = 0.1  # of the epochs: 10 of the paper's 100
WEIGHT_DECAY: Final = 0.0  # the published code takes the setting and does not pass it on


class Pairs(Protocol):
    """What a network is given, and what it should say."""

    def __len__(self) -> int:
        """How many frames there are."""
        ...

    def batch(self, rows: npt.NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Give (B, C_in, h, w) and (B, C_out, h', w'), both float32, of some of the frames."""
        ...


@dataclass(frozen=True, slots=True)
class Lesson:
    """Which network is taught, and under which name it is kept.

    Attributes:
        name: Of checkpoint and log: `depth_from_rgb` or `rgb_from_depth`.
        lr: Adam's, after the warm-up.
        settings: What a checkpoint must have in common with this run to be continued.
        first_step: Where this lesson's steps begin in the run's log.
    """

    name: str
    lr: float
    config: DistillationConfig
    seed: int
    device: torch.device
    settings: Mapping[str, object]
    first_step: int = 0

    def n_steps(self, n_frames: int) -> int:
        """Give the number of optimiser steps that the epochs are."""
        return self.config.epochs * _steps_an_epoch(n_frames, self.config.batch)


def distillation_loss(hallucinated: Tensor, real: Tensor) -> Tensor:
    """Sum the L2 norms over all places, and average that over frames; as published.

    Args:
        hallucinated: (B, C, h, w).
        real: (B, C, h', w'); the coarser of both is repeated to the finer's grid, as the published
            code does with colour tokens.
    """
    grid = max(hallucinated.shape[-2], real.shape[-2]), max(hallucinated.shape[-1], real.shape[-1])
    difference = to_grid(hallucinated.float(), grid) - to_grid(real.float(), grid)
    distances: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return distances.sum(dim=(1, 2)).mean()


def to_grid(features: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Bring (B, C, h, w) to another grid; where that is a multiple of theirs, by repeating."""
    if tuple(features.shape[-2:]) == grid_hw:
        return features
    return nnf.adaptive_avg_pool2d(features, grid_hw)


def distil(
    network: nn.Module, pairs: Pairs, lesson: Lesson, run: RunFolder, progress: Progress
) -> None:
    """Teach a network in place, from the run's checkpoint if it has one; leaves it in evaluation.

    Raises:
        TrainingError: The loss is not finite.
    """
    config, name = lesson.config, lesson.name
    n_steps = lesson.n_steps(len(pairs))
    network.to(lesson.device).train()
    file = run.checkpoints / f"{name}.safetensors"
    optimiser = adam(network.parameters(), lesson.lr, WEIGHT_DECAY)
    step = load_checkpoint(file, {name: network}, optimiser, lesson.settings)
    if step < n_steps:
        run.rewind(lesson.first_step + step)
    with progress.task(f"learning {name.replace('_', ' ')}", n_steps, step) as task:
        while step < n_steps:
            given, wanted = pairs.batch(draw(step, len(pairs), config.batch, lesson.seed))
            loss = distillation_loss(network(given.to(lesson.device)), wanted.to(lesson.device))
            descend(loss, optimiser, warmed_up(lesson.lr, step, n_steps))
            step += 1
            if step % config.log_every == 0 or step == n_steps:
                _log(run, lesson, step, loss.item())
            if step % config.checkpoint_every == 0 or step == n_steps:
                save_checkpoint(file, step, {name: network}, optimiser, lesson.settings)
            task.advance(note=f"loss {loss.item():.1f}")
    _settle(network, pairs, lesson)
    unplace(network).eval()


def warmed_up(lr: float, step: int, n_steps: int) -> float:
    """Give the rate of a step: a line up to `lr` over the first tenth, then `lr`."""
    n_warm_up = max(round(WARM_UP_SHARE * n_steps), 1)
    return lr * min((step + 1) / n_warm_up, 1.0)


def draw(step: int, n_frames: int, batch: int, seed: int) -> npt.NDArray[np.intp]:
    """Give the frames of a step: all of them once an epoch, in an order of the epoch's own.

    From the seed and the step's number alone, so that a run that was killed goes on with the very
    frames it would have had.
    """
    epoch, within = divmod(step, _steps_an_epoch(n_frames, batch))
    order = np.random.default_rng((seed, epoch)).permutation(n_frames)
    return order[within * batch : (within + 1) * batch]


def _steps_an_epoch(n_frames: int, batch: int) -> int:
    return -(-n_frames // batch)


@torch.no_grad()
def _settle(network: nn.Module, pairs: Pairs, lesson: Lesson) -> None:
    """Measure what batch norms see, once the weights are what they will be.

    The running averages of a short schedule still remember their first values: a cloud in metres
    varies by far less than the 1 that they begin with.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    network.train()
    for step in range(_steps_an_epoch(len(pairs), lesson.config.batch)):
        given, _ = pairs.batch(draw(step, len(pairs), lesson.config.batch, lesson.seed))
        network(given.to(lesson.device))


def _log(run: RunFolder, lesson: Lesson, step: int, loss: float) -> None:
    if not np.isfinite(loss):
        raise TrainingError(f"the loss of {lesson.name} is not finite at step {step}; lower fit.lr")
    run.log({"step": lesson.first_step + step, lesson.name: loss})
