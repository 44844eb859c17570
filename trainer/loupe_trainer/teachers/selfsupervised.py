"""A teacher from nothing but pictures: the losses of Uninformed Students without its backbone.

A patch and the same patch slightly moved, lit and noised are to be described alike; patches from
elsewhere differently (triplet with anchor swap); and the channels of the description are to say
different things (compactness, on squared correlations: plain ones would reward anti-correlation).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from loupe_trainer.compute import autocast, open_device, place, unplace
from loupe_trainer.errors import TrainingError
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.corpus import Corpus, to_grey
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import RECEPTIVE_FIELD_PX, Pdn, teacher_network

Rgb = npt.NDArray[np.uint8]

MARGIN = 1.0
MIN_SPREAD = 1e-6
MAX_SHIFT_PX = 4
MAX_ZOOM = 3.0
GREY_SHARE = 0.1
BRIGHTNESS = 0.1
NOISE = 0.02
PICTURE_PX = 256


def train_selfsupervised(config: PretrainConfig, corpus: Corpus, progress: Progress) -> Pdn:
    """Train a teacher on 33 px patches.

    Args:
        config: The schedule and the network's shape.
        corpus: Where patches are cut from.
        progress: Shown.

    Raises:
        TrainingError: The loss is not finite.
    """
    device = open_device(config.device)
    torch.manual_seed(config.seed)
    network = place(teacher_network(config.shape), device)
    optimiser = adam(network.parameters(), config.lr, config.weight_decay)
    rng = np.random.default_rng(config.seed)
    pictures = [corpus.picture(rng, PICTURE_PX, PICTURE_PX) for _ in range(config.n_pictures)]
    with progress.task("learning to describe patches", config.steps) as task:
        for step in range(config.steps):
            anchors, positives = _draw_pairs(pictures, config.batch, rng, device)
            with autocast(device):
                described = network(torch.cat((anchors, positives))).flatten(1).float()
            loss = teacher_loss(*described.chunk(2))
            if not loss.isfinite():
                raise TrainingError("the teacher's loss is not finite; lower pretrain.lr")
            descend(loss, optimiser, learning_rate(config.lr, step, config.steps))
            task.advance(note=f"loss {loss.item():.3f}")
    return unplace(network)


def teacher_loss(anchors: Tensor, positives: Tensor) -> Tensor:
    """Sum the triplet and the compactness loss of (B, C) descriptions.

    Both look at descriptions in units of each channel's spread over the batch, as the student
    will, so that neither can be satisfied by scale alone.
    """
    both = torch.cat((anchors, positives))
    unit = (both - both.mean(0)) / (both.std(0) + MIN_SPREAD)
    anchors, positives = unit.chunk(2)
    return triplet_loss(anchors, positives) + compactness_loss(anchors)


def triplet_loss(anchors: Tensor, positives: Tensor) -> Tensor:
    """Ask that a pair be closer than either of it is to any stranger, by a margin.

    Distances are channel means, so that the margin means the same for every width. The stranger
    is the nearest in the batch. The anchor is swapped for its positive where that is the harder
    question: the smaller of both distances counts.
    """
    n_channels = anchors.shape[1]
    to_positive = (anchors - positives).square().mean(1)
    to_others = torch.minimum(
        _squared_distances(anchors, anchors), _squared_distances(positives, anchors)
    )
    own = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    to_stranger = (to_others / n_channels).masked_fill(own, torch.inf).amin(1)
    return nnf.relu(MARGIN + to_positive - to_stranger).mean()


def compactness_loss(described: Tensor) -> Tensor:
    """Average the squared correlation between channels over the batch, (B, C)."""
    centred = described - described.mean(0)
    unit = nnf.normalize(centred, dim=0, eps=MIN_SPREAD)
    correlation = unit.T @ unit  # (C, C)
    n = correlation.shape[0]
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / n


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Give (A, B) from (A, C) and (B, C), summed over channels."""
    return a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T


def _draw_pairs(
    pictures: list[Rgb], n: int, rng: np.random.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cut `n` patches and their slightly changed twins, (n, 3, 33, 33) ImageNet-normalised."""
    pairs = [_cut_pair(pictures[int(rng.integers(len(pictures)))], rng) for _ in range(n)]
    anchors = _batch([pair[0] for pair in pairs])
    positives = _batch([pair[1] for pair in pairs])
    gain = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS, (n, 1, 1, 1)).astype(np.float32)
    positives = positives * torch.from_numpy(gain)
    noise = rng.standard_normal(positives.shape, dtype=np.float32) * np.float32(255 * NOISE)
    positives = (positives + torch.from_numpy(noise)).clamp(0, 255)
    return (
        imagenet_normalise(anchors.to(device)),
        imagenet_normalise(positives.to(device)),
    )


def _cut_pair(picture: Rgb, rng: np.random.Generator) -> tuple[Rgb, Rgb]:
    side_px = RECEPTIVE_FIELD_PX + MAX_SHIFT_PX
    window_px = min(round(side_px * rng.uniform(1, MAX_ZOOM)), *picture.shape[:2])
    y = int(rng.integers(picture.shape[0] - window_px + 1))
    x = int(rng.integers(picture.shape[1] - window_px + 1))
    window = picture[y : y + window_px, x : x + window_px]
    resized = cv2.resize(window, (side_px, side_px), interpolation=cv2.INTER_AREA)
    patch = np.asarray(resized, np.uint8)
    if rng.random() < GREY_SHARE:
        patch = to_grey(patch)
    shifts = rng.integers(0, MAX_SHIFT_PX + 1, 4)
    return _at(patch, shifts[:2]), _at(patch, shifts[2:])


def _at(patch: Rgb, shift: npt.NDArray[np.int64]) -> Rgb:
    y, x = (int(v) for v in shift)
    return patch[y : y + RECEPTIVE_FIELD_PX, x : x + RECEPTIVE_FIELD_PX]


def _batch(patches: list[Rgb]) -> Tensor:
    return torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float()
