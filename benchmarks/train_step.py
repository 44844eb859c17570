"""One training step of EfficientAD-S at 256 x 256, batch 1: ours and the plain one, in turns.

The plain step is the method as its formulae read: three networks in float32, the teacher asked anew
each time, all 768 channels of the student computed for every picture, the hard quantile by sorting.
Both start from the same weights and see the same pictures, so their losses must fall alike.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as nnf
from harness import Budget, finish, say
from torch import Tensor, nn

from loupe_trainer.compute import place
from loupe_trainer.methods.efficientad.autoencoder import Autoencoder
from loupe_trainer.methods.efficientad.config import EfficientAdConfig
from loupe_trainer.methods.efficientad.detector import fold_statistics
from loupe_trainer.methods.efficientad.frozen import FrozenSides, channel_statistics, freeze
from loupe_trainer.methods.efficientad.pictures import Rgb, StepSource, to_batch
from loupe_trainer.methods.efficientad.training import (
    Networks,
    make_optimiser,
    step_losses,
    step_seed,
)
from loupe_trainer.optimisation import descend
from loupe_trainer.progress import SilentProgress
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import PdnShape, initialise, student_network, teacher_network
from loupe_trainer.teachers.textures import draw_texture

SIDE_PX, N_PARTS, N_FOREIGN = 256, 16, 32
N_STEPS, N_TIMED_FROM, N_COMPARED = 200, 20, 50
LR, SEED = 1e-4, 0
MOST_OF_PLAIN, MOST_LOSS_APART = 0.50, 0.05


def main() -> int:
    """Train both for 200 steps, one step of each in turn."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    parts = np.stack([draw_texture(rng, SIDE_PX, SIDE_PX) for _ in range(N_PARTS)])
    foreign = np.stack([draw_texture(rng, SIDE_PX, SIDE_PX) for _ in range(N_FOREIGN)])
    networks = _networks(parts)
    ours = Ours(copy.deepcopy(networks), parts, foreign)
    plain = Plain(copy.deepcopy(networks), parts, foreign)
    times_s: dict[str, list[float]] = {"ours": [], "plain": [], "student_alone": []}
    losses: dict[str, list[float]] = {"ours": [], "plain": []}
    student_alone = StudentAlone(copy.deepcopy(networks.student))
    for step in range(N_STEPS):
        if step % 20 == 0:
            say(f"step {step} of {N_STEPS}")
        losses["ours"].append(_timed(times_s["ours"], partial(ours.step, step)))
        losses["plain"].append(_timed(times_s["plain"], partial(plain.step, step)))
        if step % 10 == 0:
            _timed(times_s["student_alone"], student_alone.step)
    return _report(times_s, losses)


def _report(times_s: dict[str, list[float]], losses: dict[str, list[float]]) -> int:
    warm = {"ours": N_TIMED_FROM, "plain": N_TIMED_FROM, "student_alone": 2}
    median_s = {name: float(np.median(t[warm[name] :])) for name, t in times_s.items()}
    ratio = median_s["ours"] / median_s["plain"]
    final = {name: float(np.mean(values[-N_COMPARED:])) for name, values in losses.items()}
    apart = abs(final["ours"] / final["plain"] - 1)
    figures = {
        "n_steps": N_STEPS,
        "threads": torch.get_num_threads(),
        "median_s": {name: round(value, 4) for name, value in median_s.items()},
        "ours_over_plain": round(ratio, 3),
        "ours_over_student_alone": round(median_s["ours"] / median_s["student_alone"], 3),
        "plain_over_student_alone": round(median_s["plain"] / median_s["student_alone"], 3),
        "mean_loss_of_the_last_50": {name: round(value, 5) for name, value in final.items()},
        "losses_every_20": {
            name: [round(v, 4) for v in values[::20]] for name, values in losses.items()
        },
    }
    budgets = [
        Budget("our step over the plain step, median", ratio, MOST_OF_PLAIN, ""),
        Budget("loss of the last 50 steps, relative difference", apart, MOST_LOSS_APART, ""),
    ]
    return finish("train_step", figures, budgets)


def _timed(times_s: list[float], step: Callable[[], float]) -> float:
    began = time.perf_counter()
    loss = step()
    times_s.append(time.perf_counter() - began)
    return loss


def _networks(parts: Rgb) -> Networks:
    """Give the full-width networks; the teacher's weights are drawn, which costs the same."""
    shape = PdnShape("S", 1.0)
    teacher = initialise(teacher_network(shape)).eval().requires_grad_(False)
    fold_statistics(teacher, *channel_statistics(teacher, parts, SilentProgress()))
    return Networks(teacher, student_network(shape), Autoencoder(shape, (SIDE_PX, SIDE_PX)))


class Ours:
    """What `loupe-trainer train` does for a step."""

    def __init__(self, networks: Networks, parts: Rgb, foreign: Rgb) -> None:
        cpu = torch.device("cpu")
        for module in (networks.teacher, networks.student, networks.autoencoder):
            place(module, cpu)
        self.networks = networks
        self.frozen: FrozenSides = freeze(
            networks.teacher, parts, foreign, shared_stem=False, cache_mb=4096
        )
        self.source = StepSource(parts, len(foreign), 1, SEED)
        self.optimiser = make_optimiser(networks, EfficientAdConfig())

    def step(self, step: int) -> float:
        """Take one."""
        torch.manual_seed(step_seed(SEED, step))
        losses = step_losses(self.networks, self.source.draw(step), self.frozen)
        descend(losses.total, self.optimiser, LR)
        return losses.total.item()


class Plain:
    """The formulae, nothing kept from step to step."""

    def __init__(self, networks: Networks, parts: Rgb, foreign: Rgb) -> None:
        self.teacher, self.student = networks.teacher, networks.student
        self.autoencoder = networks.autoencoder
        self.parts, self.foreign = parts, foreign
        self.source = StepSource(parts, len(foreign), 1, SEED)
        learning = [*self.student.parameters(), *self.autoencoder.parameters()]
        self.optimiser = torch.optim.Adam(learning, lr=LR, weight_decay=1e-5)

    def step(self, step: int) -> float:
        """Take one."""
        torch.manual_seed(step_seed(SEED, step))
        drawn = self.source.draw(step)
        if drawn.foreign_rows is None:
            raise ValueError("the plain step has a penalty")
        half = self.teacher.channels
        part = imagenet_normalise(to_batch(self.parts[drawn.rows]).contiguous())
        foreign = imagenet_normalise(to_batch(self.foreign[drawn.foreign_rows]).contiguous())
        recoloured = imagenet_normalise(drawn.recoloured.contiguous())
        with torch.no_grad():
            target, target_recoloured = self.teacher(part), self.teacher(recoloured)
        difference = (target - self.student(part)[:, :half]).square()
        hard = difference[difference >= _quantile(difference, 0.999)].mean()
        penalty = self.student(foreign)[:, :half].square().mean()
        reconstruction = self.autoencoder(recoloured)
        predicted = self.student(recoloured)[:, half:]
        loss: Tensor = hard + penalty + nnf.mse_loss(reconstruction, target_recoloured)
        loss = loss + nnf.mse_loss(predicted, reconstruction)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.item()


class StudentAlone:
    """Forward and backward of the 768-channel student, the ratio that others can repeat."""

    def __init__(self, student: nn.Module) -> None:
        self.student = student
        self.picture = torch.randn(1, 3, SIDE_PX, SIDE_PX)

    def step(self) -> float:
        """Take one."""
        self.student.zero_grad()
        loss = self.student(self.picture).square().mean()
        loss.backward()
        return float(loss.item())


def _quantile(values: Tensor, share: float) -> Tensor:
    return torch.quantile(values.detach().flatten(), share)


if __name__ == "__main__":
    sys.exit(main())
