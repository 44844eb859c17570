"""The training of EfficientAD: one loop, four losses, one Adam."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.compute import autocast
from loupe_trainer.errors import TrainingError
from loupe_trainer.interrupts import held_interrupts
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.config import EfficientAdConfig
from loupe_trainer.methods.efficientad.frozen import FrozenSides
from loupe_trainer.methods.efficientad.look import EarlyLook
from loupe_trainer.methods.efficientad.losses import (
    HARD_QUANTILE,
    hard_feature_loss,
    imitation_loss,
    penalty_loss,
)
from loupe_trainer.methods.efficientad.pictures import StepPictures, StepSource
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import Pdn

CHECKPOINT = "efficientad.safetensors"


@dataclass(frozen=True, slots=True)
class Networks:
    """The teacher is frozen and has its statistics folded in; the other two are trained."""

    teacher: Pdn
    student: Pdn
    autoencoder: Autoencoder

    @property
    def have_shared_stem(self) -> bool:
        """Tell whether the student begins with the teacher's own first layers."""
        return self.student.stem is self.teacher.stem

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """What the optimiser moves."""
        return {"student": self.student, "autoencoder": self.autoencoder}


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one step, each a scalar."""

    hard: Tensor
    penalty: Tensor
    autoencoder: Tensor
    student_autoencoder: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.hard + self.penalty + self.autoencoder + self.student_autoencoder

    def floats(self) -> dict[str, float]:
        """Give them for the log."""
        names = ("hard", "penalty", "autoencoder", "student_autoencoder", "total")
        return {name: getattr(self, name).item() for name in names}


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the loop needs to know beside the networks and the pictures.

    Attributes:
        settings: What a checkpoint must have in common with this run to be continued.
        look: None where there is nothing held out to look at.
    """

    config: EfficientAdConfig
    seed: int
    run: RunFolder
    settings: Mapping[str, object]
    look: EarlyLook | None = None


def train(
    networks: Networks, source: StepSource, frozen: FrozenSides, schedule: Schedule,
    progress: Progress,
) -> None:  # fmt: skip
    """Train student and autoencoder in place, from the run's checkpoint if it has one.

    Raises:
        TrainingError: A loss is not finite.
    """
    config, file = schedule.config, schedule.run.checkpoints / CHECKPOINT
    optimiser = make_optimiser(networks, config)
    step = load_checkpoint(file, networks.trained, optimiser, schedule.settings)
    schedule.run.rewind(step)
    for module in networks.trained.values():
        module.train()
    with (
        held_interrupts() as held,
        progress.task("learning good parts", config.steps, step) as task,
    ):
        while step < config.steps:
            torch.manual_seed(step_seed(schedule.seed, step))  # for dropout, whatever ran before
            losses = step_losses(networks, source.draw(step), frozen, config.hard_quantile)
            lr = learning_rate(config.lr, step, config.steps, config.decay_from)
            descend(losses.total, optimiser, lr)
            step += 1
            is_stopped = held.is_asked
            if step % config.log_every == 0 or step == config.steps:
                _log(schedule.run, step, losses.floats())
            if step % config.checkpoint_every == 0 or step == config.steps or is_stopped:
                save_checkpoint(file, step, networks.trained, optimiser, schedule.settings)
            if schedule.look is not None and schedule.look.is_due(step):
                schedule.look.draw(step)
            task.advance(note=f"loss {losses.total.item():.3f}")
            if is_stopped:
                raise KeyboardInterrupt
    for module in networks.trained.values():
        module.eval()


def step_seed(seed: int, step: int) -> int:
    """Give the seed of one step's dropout."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])


def make_optimiser(networks: Networks, config: EfficientAdConfig) -> torch.optim.Adam:
    """Give one Adam over both networks, less a stem that is the teacher's."""
    parameters = [p for module in networks.trained.values() for p in module.parameters()]
    learning = [p for p in parameters if p.requires_grad]
    return adam(learning, config.lr, config.weight_decay)


def step_losses(
    networks: Networks, pictures: StepPictures, frozen: FrozenSides,
    hard_quantile: float = HARD_QUANTILE,
) -> Losses:  # fmt: skip
    """Look at one step's pictures.

    Of the student's last layer only the half that a loss asks for is computed: the first for
    parts and foreign pictures, the second for recoloured parts.
    """
    teacher, student = networks.teacher, networks.student
    device, n = student.last.weight.device, len(pictures.rows)
    recoloured = pictures.recoloured.to(device, memory_format=torch.channels_last)
    recoloured = imagenet_normalise(recoloured)
    seen = [frozen.parts.of(pictures.rows)]
    if frozen.foreign is not None and pictures.foreign_rows is not None:
        seen.append(frozen.foreign.of(pictures.foreign_rows))
    with autocast(device):
        with torch.no_grad():
            stemmed = teacher.stem(recoloured)
            on_recoloured = teacher.describe(stemmed)
        if networks.have_shared_stem:
            begun = torch.cat((*seen, stemmed))
        else:
            begun = student.stem(torch.cat((*seen, recoloured)))
        imitation = student.describe(begun[:-n], slice(0, teacher.channels))
        prediction = student.describe(begun[-n:], slice(teacher.channels, None))
        autoencoder = networks.autoencoder(recoloured)
    foreign = imitation[n:]
    return Losses(
        hard=hard_feature_loss(frozen.teacher.of(pictures.rows), imitation[:n], hard_quantile),
        penalty=penalty_loss(foreign) if len(foreign) else recoloured.new_zeros(()),
        autoencoder=imitation_loss(on_recoloured, autoencoder),
        # Not detached: the autoencoder, too, is drawn to what the student can predict.
        student_autoencoder=imitation_loss(autoencoder, prediction),
    )


def _log(run: RunFolder, step: int, losses: dict[str, float]) -> None:
    if not np.isfinite(losses["total"]):
        raise TrainingError(f"the loss is not finite at step {step}; lower fit.lr")
    run.log({"step": step, **losses})
