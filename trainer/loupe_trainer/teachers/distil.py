"""Distil a backbone into a patch description network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from loupe_trainer.backbones.base import Backbone
from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.compute import autocast, open_device, place
from loupe_trainer.errors import TrainingError
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.corpus import Corpus, to_grey
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import STRIDE_PX, Pdn, teacher_network

LAYER_DIMENSIONS = 1024
NEIGHBOURHOOD = 3
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
        TrainingError: The loss is not finite.
    """
    device = open_device(config.device)
    place(backbone, device)
    mean, std = _target_statistics(backbone, config, corpus, progress)
    torch.manual_seed(config.seed)
    network = place(teacher_network(config.shape, padding=True), device)
    optimiser = adam(network.parameters(), config.lr, config.weight_decay)
    settings = config.model_dump(mode="json", exclude={"device", "checkpoint_every"})
    step = load_checkpoint(checkpoint, {"teacher": network}, optimiser, settings)
    with progress.task("distilling the backbone", config.steps, step) as task:
        while step < config.steps:
            large = _draw(corpus, config, np.random.default_rng((config.seed, step)))
            target = (_target(backbone, large.to(device), config) - mean) / std
            with autocast(device):
                described = network(imagenet_normalise(_halve(large).to(device)))
            loss = (described.float() - target).square().mean()
            if not loss.isfinite():
                raise TrainingError(f"the loss is not finite at step {step}; lower lr")
            descend(loss, optimiser, learning_rate(config.lr, step, config.steps))
            step += 1
            if step % config.checkpoint_every == 0 and step < config.steps:
                save_checkpoint(checkpoint, step, {"teacher": network}, optimiser, settings)
            task.advance(note=f"loss {loss.item():.3f}")
    bare = teacher_network(config.shape)
    bare.load_state_dict(network.state_dict())
    return bare


def embed(maps: tuple[Tensor, ...], size_hw: tuple[int, int], channels: int) -> Tensor:
    """Describe patches as PatchCore does, by averages over neighbourhoods and channels.

    Args:
        maps: (B, C_i, H_i, W_i) of several layers.
        size_hw: Of the answer; maps of other sizes are resized to it.
        channels: Of the answer.

    Returns:
        (B, channels, H, W) float32.
    """
    batch, n = len(maps[0]), size_hw[0] * size_hw[1]
    layers = []
    for layer in maps:
        # (B, C * 9, H_i * W_i): every position with its neighbours
        around = nnf.unfold(layer.float(), NEIGHBOURHOOD, padding=NEIGHBOURHOOD // 2)
        around = around.reshape(batch, -1, *layer.shape[2:])
        if tuple(layer.shape[2:]) != size_hw:
            around = nnf.interpolate(around, size=size_hw, mode="bilinear")
        rows = around.flatten(2).transpose(1, 2).reshape(batch * n, 1, -1)
        layers.append(nnf.adaptive_avg_pool1d(rows, LAYER_DIMENSIONS))
    pooled = nnf.adaptive_avg_pool1d(torch.cat(layers, dim=2), channels)
    return pooled.reshape(batch, *size_hw, channels).permute(0, 3, 1, 2)


@torch.no_grad()
def _target(backbone: Backbone, large: Tensor, config: PretrainConfig) -> Tensor:
    side = config.input_px // STRIDE_PX
    with autocast(large.device):
        maps = backbone.features(large.to(memory_format=torch.channels_last))
    return embed(maps, (side, side), config.shape.feature_channels)


def _target_statistics(
    backbone: Backbone, config: PretrainConfig, corpus: Corpus, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Give each channel's mean and spread over some pictures, (1, C, 1, 1)."""
    rng = np.random.default_rng((config.seed, 2**31))
    n_batches = max(1, config.n_pictures // config.batch)
    device = open_device(config.device)
    means, squares = [], []
    for _ in progress.track(range(n_batches), "measuring the backbone"):
        target = _target(backbone, _draw(corpus, config, rng).to(device), config).double()
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


def _halve(large: Tensor) -> Tensor:
    return nnf.avg_pool2d(large, 2).to(memory_format=torch.channels_last)
