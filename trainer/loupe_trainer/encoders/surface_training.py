"""Teach the cheap depth front what the exact encoder says of good parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from loupe_models.checked import Checked
from loupe_models.preprocess import Tensors
from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.surface_encoder import SurfaceEncoder
from loupe_trainer.errors import DataError, TrainingError
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.recipe import MAX_SEED
from loupe_trainer.weights_hash import weights_sha256

MIN_SPREAD = 1e-6


class SurfaceTraining(Checked):
    """The schedule of the distillation.

    Attributes:
        width: Channels of the front's convolutions.
        steps: Of `batch` frames each.
    """

    width: int = Field(default=64, ge=8, le=1024, multiple_of=2)
    steps: int = Field(default=600, ge=1, le=1_000_000)
    batch: int = Field(default=4, ge=1, le=1024)
    lr: float = Field(default=2e-3, gt=0, le=0.1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    checkpoint_every: int = Field(default=100, ge=1)


def train_surface_encoder(
    samples: Sequence[Tensors],
    teacher: PointEncoder,
    training: SurfaceTraining,
    checkpoint: Path,
    progress: Progress,
) -> SurfaceEncoder:
    """Distil the exact encoder; its maps of all samples are kept in memory.

    Args:
        samples: Good frames with the tensors of both encoders, all of one size.
        teacher: The exact encoder.
        training: The schedule and the front's width.
        checkpoint: Where to keep resumable state; a killed training goes on to the same weights.
        progress: Shown.

    Returns:
        The front, frozen and in evaluation.

    Raises:
        DataError: No sample.
        RunError: The checkpoint is of another training.
        TrainingError: The loss is not finite.
    """
    if not samples:
        raise DataError("there is no good part to learn surfaces from; give some")
    xyz, valid = (_stack(samples, name) for name in SurfaceEncoder.tensors)
    taught = torch.cat([_told(teacher, s) for s in progress.track(samples, "describing points")])
    front = _new_front(teacher, taught, _hw(valid), training)
    optimiser = adam(front.parameters(), training.lr, weight_decay=0.0)
    settings = training.model_dump(mode="json", exclude={"checkpoint_every"})
    settings["teacher"] = weights_sha256(teacher)
    step = load_checkpoint(checkpoint, {"front": front}, optimiser, settings)
    with progress.task("learning to describe surfaces", training.steps, step) as task:
        while step < training.steps:
            rng = np.random.default_rng((training.seed, step))
            rows = torch.from_numpy(rng.integers(len(samples), size=training.batch))
            off = (front(xyz[rows], valid[rows]) - taught[rows]) / front.spread
            loss = off.square().mean()
            if not loss.isfinite():
                raise TrainingError(f"the loss is not finite at step {step}; lower lr")
            descend(loss, optimiser, learning_rate(training.lr, step, training.steps))
            step += 1
            if step % training.checkpoint_every == 0 or step == training.steps:
                save_checkpoint(checkpoint, step, {"front": front}, optimiser, settings)
            task.advance(note=f"loss {loss.item():.3f}")
    return front.requires_grad_(requires_grad=False).eval()


def _new_front(
    teacher: PointEncoder, taught: Tensor, size_hw: tuple[int, int], training: SurfaceTraining
) -> SurfaceEncoder:
    """Make a front that has learnt nothing but how its teacher's maps are spread."""
    torch.manual_seed(training.seed)
    front = SurfaceEncoder(teacher.channels, size_hw, teacher.patches_hw[0], training.width)
    front.origin = teacher.origin
    front.mean.copy_(taught.mean((0, 2, 3), keepdim=True))
    front.spread.copy_(taught.std((0, 2, 3), keepdim=True).clamp(min=MIN_SPREAD))
    return front


@torch.no_grad()
def _told(teacher: PointEncoder, sample: Tensors) -> Tensor:
    arguments = (torch.from_numpy(np.asarray(sample[name])) for name in teacher.tensors)
    cells: Tensor = teacher(*arguments)
    return cells


def _stack(samples: Sequence[Tensors], name: str) -> Tensor:
    return torch.from_numpy(np.concatenate([np.asarray(sample[name]) for sample in samples]))


def _hw(valid: Tensor) -> tuple[int, int]:
    return int(valid.shape[1]), int(valid.shape[2])
