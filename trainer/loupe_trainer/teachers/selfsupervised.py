"""A teacher from nothing but pictures: the losses of Uninformed Students without its backbone.

A patch and the same patch slightly moved, lit and noised are to be described alike; differently
from patches from elsewhere, and from itself with a small mark drawn on it (triplets with anchor
swap); and the channels of the description are to say different things (compactness, on squared
correlations: plain ones would reward anti-correlation).

The marks are ours. Strangers are told apart by whatever fills a patch, and a teacher that learns
only that is blind to a scratch; for the same reason twins differ less than in the paper. Nor is
there room for much compactness: with fewer patches in a batch than channels, most of the
correlation that it sees is chance.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.compute import autocast, open_device, place, unplace
from loupe_trainer.errors import TrainingError
from loupe_trainer.interrupts import held_interrupts
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.teachers.config import PretrainConfig
from loupe_trainer.teachers.corpus import Corpus, to_grey
from loupe_trainer.teachers.marks import draw_mark
from loupe_trainer.teachers.normalise import imagenet_normalise
from loupe_trainer.teachers.pdn import RECEPTIVE_FIELD_PX, Pdn, initialise, teacher_network

Rgb = npt.NDArray[np.uint8]

MARGIN = 1.0
COMPACTNESS_WEIGHT = 0.1
MIN_SPREAD = 1e-6
MAX_SHIFT_PX = 1
MAX_ZOOM = 3.0
GREY_SHARE = 0.1
BRIGHTNESS = 0.05
NOISE = 0.02
PICTURE_PX = 256


def train_selfsupervised(
    config: PretrainConfig, corpus: Corpus, checkpoint: Path, progress: Progress
) -> Pdn:
    """Train a teacher on 33 px patches.

    Args:
        config: The schedule and the network's shape.
        corpus: Where patches are cut from.
        checkpoint: Where to keep resumable state.
        progress: Shown.

    Raises:
        RunError: The checkpoint is of another training.
        TrainingError: The loss is not finite.
    """
    device = open_device(config.device)
    torch.manual_seed(config.seed)
    network = place(initialise(teacher_network(config.shape)), device)
    optimiser = adam(network.parameters(), config.lr, config.weight_decay)
    rng = np.random.default_rng(config.seed)
    pictures = [corpus.picture(rng, PICTURE_PX, PICTURE_PX) for _ in range(config.n_pictures)]
    trained, settings = {"teacher": network}, config.resumed_with
    step = load_checkpoint(checkpoint, trained, optimiser, settings, rng)
    with (
        held_interrupts() as held,
        progress.task("learning to describe patches", config.steps, step) as task,
    ):
        while step < config.steps:
            patches = draw_patches(pictures, config.batch, rng).to(device)
            with autocast(device):
                described = network(imagenet_normalise(patches)).flatten(1).float()
            loss = teacher_loss(described)
            if not loss.isfinite():
                raise TrainingError("the teacher's loss is not finite; lower pretrain.lr")
            descend(loss, optimiser, learning_rate(config.lr, step, config.steps))
            step += 1
            is_stopped = held.is_asked
            is_due = step % config.checkpoint_every == 0 and step < config.steps
            if is_due or is_stopped:
                save_checkpoint(checkpoint, step, trained, optimiser, settings, rng)
            task.advance(note=f"loss {loss.item():.3f}")
            if is_stopped:
                raise KeyboardInterrupt
    return unplace(network)


def teacher_loss(described: Tensor) -> Tensor:
    """Sum the losses of (3 B, C) descriptions: anchors, their positives, their marked copies.

    All look at descriptions in units of each channel's spread over the batch, as the student
    will, so that none can be satisfied by scale alone.
    """
    unit = (described - described.mean(0)) / (described.std(0) + MIN_SPREAD)
    anchors, positives, marked = unit.chunk(3)
    return (
        triplet_loss(anchors, positives, nearest_stranger(anchors, positives))
        + triplet_loss(anchors, positives, marked)
        + COMPACTNESS_WEIGHT * compactness_loss(anchors)
    )


def triplet_loss(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Ask that a pair be closer than either of it is to its negative, by a margin.

    Distances are channel means, so that the margin means the same for every width. The anchor is
    swapped for its positive where that is the harder question: the smaller distance counts.
    """
    to_negative = torch.minimum(_distance(anchors, negatives), _distance(positives, negatives))
    return nnf.relu(MARGIN + _distance(anchors, positives) - to_negative).mean()


def nearest_stranger(anchors: Tensor, positives: Tensor) -> Tensor:
    """Give, for each pair, the anchor of the batch that is nearest to either of it, (B, C)."""
    with torch.no_grad():
        to_others = torch.minimum(torch.cdist(anchors, anchors), torch.cdist(positives, anchors))
        own = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
        nearest = to_others.masked_fill(own, torch.inf).argmin(1)
    return anchors[nearest]


def compactness_loss(described: Tensor) -> Tensor:
    """Average the squared correlation between channels over the batch, (B, C)."""
    centred = described - described.mean(0)
    unit = nnf.normalize(centred, dim=0, eps=MIN_SPREAD)
    correlation = unit.T @ unit  # (C, C)
    n = correlation.shape[0]
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / n


def draw_patches(pictures: list[Rgb], n: int, rng: np.random.Generator) -> Tensor:
    """Cut patches, (3 n, 3, 33, 33) in 0..255: `n` anchors, their positives, marked copies."""
    pairs = [_cut_pair(pictures[int(rng.integers(len(pictures)))], rng) for _ in range(n)]
    anchors = _batch([anchor for anchor, _ in pairs])
    positives = _batch([positive for _, positive in pairs])
    marked = _batch([draw_mark(anchor, rng) for anchor, _ in pairs])
    return torch.cat((anchors, _disturb(positives, rng), _disturb(marked, rng)))


def _disturb(patches: Tensor, rng: np.random.Generator) -> Tensor:
    """Change light and noise, which a teacher is not to care about."""
    gain = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS, (len(patches), 1, 1, 1)).astype(np.float32)
    noise = rng.standard_normal(patches.shape, dtype=np.float32) * np.float32(255 * NOISE)
    return (patches * torch.from_numpy(gain) + torch.from_numpy(noise)).clamp(0, 255)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(1)


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
