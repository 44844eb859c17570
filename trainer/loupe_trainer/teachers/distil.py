"""Distil a backbone into a patch description network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.backbones.base import Backbone
from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.compute import autocast, open_device, place
from loupe_trainer.errors import TrainingError
from loupe_trainer.interrupts import held_interrupts
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.corpus import Corpus, to_grey
from loupe_trainer.teachers.embedding import PatchEmbedding
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import STRIDE_PX, Pdn, teacher_network

GREY_SHARE = 0.1


def distil(
    backbone: Backbone, config: PretrainConfig, corpus: Corpus, checkpoint: Path, progress: Progress
) -> Pdn:
    """Train a teacher to say what the backbone says of the same patches.

    Args:
        backbone: Sees pictures twice as large as the teacher does.
        config: The schedule and the network's shape.
        corpus: Natural pictures.
        checkpoint: Where to keep resumable state.
        progress: Shown.

    Returns:
        The teacher, without padding.

    Raises:
        RunError: The checkpoint is of another training.
        TrainingError: The loss is not finite.
    """
    device = open_device(config.device)
    guide = Guide(place(backbone, device), config)
    mean, std = _target_statistics(guide, config, corpus, progress)
    torch.manual_seed(config.seed)
    network = place(teacher_network(config.shape, padding=True), device)
    optimiser = adam(network.parameters(), config.lr, config.weight_decay)
    settings = config.resumed_with | {"backbone_sha256": backbone.whose.sha256}
    step = load_checkpoint(checkpoint, {"teacher": network}, optimiser, settings)
    with (
        held_interrupts() as held,
        progress.task("distilling the backbone", config.steps, step) as task,
    ):
        while step < config.steps:
            large = _draw(corpus, config, np.random.default_rng((config.seed, step))).to(device)
            loss = _loss(network, large, (guide(large) - mean) / std)
            if not loss.isfinite():
                raise TrainingError(f"the loss is not finite at step {step}; lower lr")
            descend(loss, optimiser, learning_rate(config.lr, step, config.steps))
            step += 1
            is_stopped = held.is_asked
            is_due = step % config.checkpoint_every == 0 and step < config.steps
            if is_due or is_stopped:
                save_checkpoint(checkpoint, step, {"teacher": network}, optimiser, settings)
            task.advance(note=f"loss {loss.item():.3f}")
            if is_stopped:
                raise KeyboardInterrupt
    bare = teacher_network(config.shape)
    bare.load_state_dict(network.state_dict())
    return bare


class Guide(nn.Module):
    """What a teacher is to say: the backbone's description of the same patches."""

    def __init__(self, backbone: Backbone, config: PretrainConfig) -> None:
        super().__init__()
        self.backbone = backbone
        side = config.input_px // STRIDE_PX
        self.embed = PatchEmbedding(
            backbone.channels, config.shape.feature_channels, (side, side)
        ).to(open_device(config.device))

    @torch.no_grad()
    def forward(self, large: Tensor) -> Tensor:
        """Describe (B, 3, 2 * input, 2 * input) pictures in 0..255, not normalised yet."""
        with autocast(large.device):
            maps = self.backbone.features(large.to(memory_format=torch.channels_last))
        described: Tensor = self.embed(maps)
        return described


def _target_statistics(
    guide: Guide, config: PretrainConfig, corpus: Corpus, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Give each channel's mean and spread over some pictures, (1, C, 1, 1)."""
    rng = np.random.default_rng((config.seed, 2**31))
    n_batches = max(1, config.n_pictures // config.batch)
    device = open_device(config.device)
    means, squares = [], []
    for _ in progress.track(range(n_batches), "measuring the backbone"):
        target = guide(_draw(corpus, config, rng).to(device)).double()
        means.append(target.mean((0, 2, 3)))
        squares.append(target.square().mean((0, 2, 3)))
    mean = torch.stack(means).mean(0)
    std = (torch.stack(squares).mean(0) - mean.square()).clamp(min=1e-12).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)


def _draw(corpus: Corpus, config: PretrainConfig, rng: np.random.Generator) -> Tensor:
    """Draw (B, 3, 2 * input, 2 * input) in 0..255."""
    side_px = 2 * config.input_px
    pictures = [corpus.picture(rng, side_px, side_px) for _ in range(config.batch)]
    greyed = [to_grey(p) if rng.random() < GREY_SHARE else p for p in pictures]
    return torch.from_numpy(np.stack(greyed)).permute(0, 3, 1, 2).float()


def _loss(network: Pdn, large: Tensor, target: Tensor) -> Tensor:
    """Hold the network's description of the halved pictures against the backbone's."""
    with autocast(large.device):
        described = network(imagenet_normalise(_halve(large)))
    loss: Tensor = (described.float() - target).square().mean()
    return loss


def _halve(large: Tensor) -> Tensor:
    return nnf.avg_pool2d(large, 2).to(memory_format=torch.channels_last)
