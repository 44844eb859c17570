"""A tiny vision transformer that learns in minutes on a CPU, from the good parts and nothing else.

The losses are those of the self-supervised teacher, a token at a time: a token and the same token
under other light and noise are to be described alike; differently from tokens of other pictures,
and from itself where a small mark was drawn on it; and channels are to say different things. It
learns on crops, where attention costs little and a picture gives many of them; its positions are
then interpolated to whole pictures, as every network's are to its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from loupe_models.checked import Checked
from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.compute import DeviceName, open_device
from loupe_trainer.encoders.vit import Vit, initialise
from loupe_trainer.encoders.vit_layouts import at_input_size
from loupe_trainer.encoders.vit_spec import Sides, VitSpec
from loupe_trainer.errors import TrainingError
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.recipe import MAX_SEED
from loupe_trainer.teachers.corpus import MixedCorpus, PictureCorpus, TextureCorpus
from loupe_trainer.teachers.marks import draw_mark
from loupe_trainer.teachers.selfsupervised import MIN_SPREAD, compactness_loss, triplet_loss

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

INPUT_HW_PX: Final = (224, 224)
HEAD: Final = 32
BRIGHTNESS: Final = 0.05
NOISE: Final = 0.02
MARKED_BY: Final = 6.0  # mean change of a patch, in 0..255, from which a mark counts
COMPACTNESS_WEIGHT: Final = 0.1


class TinyVitConfig(Checked):
    """How a tiny vision transformer learns.

    Attributes:
        channels: Of a token; a multiple of 32, the channels of a head.
        input_hw_px: Of the pictures that it will describe.
        crop_px: Side of the squares that it learns on.
        batch: Crops a step; each is seen three times.
        n_pictures: That crops are cut from, half of them good parts and half of them textures.
    """

    channels: int = Field(default=128, ge=HEAD, le=768, multiple_of=HEAD)
    depth: int = Field(default=4, ge=1, le=24)
    patch_px: int = Field(default=8, ge=4, le=32)
    input_hw_px: Sides = INPUT_HW_PX
    crop_px: int = Field(default=64, ge=32, le=256)
    steps: int = Field(default=600, ge=1, le=1_000_000)
    batch: int = Field(default=6, ge=2, le=256)
    lr: float = Field(default=1e-3, gt=0, le=0.1)
    n_pictures: int = Field(default=128, ge=2, le=10_000)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    device: DeviceName = "cpu"
    checkpoint_every: int = Field(default=200, ge=1)

    @property
    def resumed_with(self) -> dict[str, object]:
        """What a checkpoint must agree with."""
        return self.model_dump(mode="json", exclude={"device", "checkpoint_every"})


def tiny_vit(config: TinyVitConfig) -> Vit:
    """Make one with random weights, the same for the same seed."""
    return initialise(Vit(_spec(config, config.input_hw_px)), config.seed)


def train_tiny_vit(
    pictures: Sequence[Rgb], config: TinyVitConfig, checkpoint: Path, progress: Progress
) -> Vit:
    """Train a tiny vision transformer.

    Args:
        pictures: Good parts, (H, W, 3) red first, as preprocessing gives them.
        config: The network and the schedule.
        checkpoint: Where to keep resumable state.
        progress: Shown.

    Returns:
        The network for whole pictures, frozen; it has no origin.

    Raises:
        RunError: The checkpoint is of another training.
        TrainingError: The loss is not finite.
    """
    device = open_device(config.device)
    network = initialise(Vit(_spec(config, (config.crop_px,) * 2)), config.seed).to(device)
    optimiser = adam(network.parameters(), config.lr, 0)
    whole = _draw_pictures(pictures, config)
    trained, settings = {"vit": network}, config.resumed_with
    step = load_checkpoint(checkpoint, trained, optimiser, settings)
    with progress.task("learning to describe patches", config.steps, step) as task:
        while step < config.steps:
            rng = np.random.default_rng((config.seed, step))
            views, is_marked = draw_views(whole, config, rng)
            described = network(views.to(device)).flatten(2).transpose(1, 2)  # (3 B, P, C)
            loss = tiny_loss(described, is_marked.to(device))
            if not loss.isfinite():
                raise TrainingError("the tiny vision transformer's loss is not finite; lower lr")
            descend(loss, optimiser, learning_rate(config.lr, step, config.steps))
            step += 1
            if step % config.checkpoint_every == 0 and step < config.steps:
                save_checkpoint(checkpoint, step, trained, optimiser, settings)
            task.advance(note=f"loss {loss.item():.3f}")
    return _for_whole_pictures(network, config)


def tiny_loss(described: Tensor, is_marked: Tensor) -> Tensor:
    """Sum the losses of (3 B, P, C) tokens: of crops, of the same again, and of marked copies.

    Args:
        described: In that order.
        is_marked: (B, P) bool, where a mark changed a patch.
    """
    tokens = described.flatten(0, 1)
    unit = ((tokens - tokens.mean(0)) / (tokens.std(0) + MIN_SPREAD)).view(described.shape)
    anchors, positives, marked = unit.chunk(3)
    strangers = nearest_of_other_pictures(anchors)
    loss = triplet_loss(anchors.flatten(0, 1), positives.flatten(0, 1), strangers)
    if is_marked.any():
        loss = loss + triplet_loss(anchors[is_marked], positives[is_marked], marked[is_marked])
    return loss + COMPACTNESS_WEIGHT * compactness_loss(anchors.flatten(0, 1))


def nearest_of_other_pictures(anchors: Tensor) -> Tensor:
    """Give for each token of (B, P, C) the nearest one of another picture, (B P, C).

    Neighbours in the same picture often show the same surface, and are no strangers.
    """
    n_pictures, n_patches, _ = anchors.shape
    flat = anchors.flatten(0, 1)
    with torch.no_grad():
        picture = torch.arange(n_pictures, device=anchors.device).repeat_interleave(n_patches)
        distance = torch.cdist(flat, flat)
        distance.masked_fill_(picture[:, None] == picture[None, :], torch.inf)
        nearest = distance.argmin(1)
    return flat[nearest]


def draw_views(
    pictures: Sequence[Rgb], config: TinyVitConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut crops, (3 B, 3, side, side) in 0..255, and tell where their third views are marked."""
    crops = [
        _cut(pictures[int(rng.integers(len(pictures)))], config.crop_px, rng)
        for _ in range(config.batch)
    ]
    marked = [draw_mark(crop, rng) for crop in crops]
    is_marked = np.stack(
        [_changed(crop, copy, config.patch_px) for crop, copy in zip(crops, marked, strict=True)]
    )
    views = (_batch(crops), _disturb(_batch(crops), rng), _disturb(_batch(marked), rng))
    return torch.cat(views), torch.from_numpy(is_marked)


def _draw_pictures(pictures: Sequence[Rgb], config: TinyVitConfig) -> list[Rgb]:
    corpus = MixedCorpus(PictureCorpus("good parts", pictures), TextureCorpus())
    rng = np.random.default_rng((config.seed, 2**31))
    height_px, width_px = (max(side, config.crop_px) for side in config.input_hw_px)
    return [corpus.picture(rng, height_px, width_px) for _ in range(config.n_pictures)]


def _cut(picture: Rgb, side_px: int, rng: np.random.Generator) -> Rgb:
    """Cut a square anywhere, turned over half of the time."""
    y, x = (int(rng.integers(side - side_px + 1)) for side in picture.shape[:2])
    crop = picture[y : y + side_px, x : x + side_px]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _changed(crop: Rgb, marked: Rgb, patch_px: int) -> Mask:
    """Tell which patches, (P,), a mark changed."""
    difference = np.abs(crop.astype(np.float32) - marked).mean(2)
    n = crop.shape[0] // patch_px
    mean = cv2.resize(difference, (n, n), interpolation=cv2.INTER_AREA)
    return np.asarray(mean > MARKED_BY).reshape(-1)


def _disturb(crops: Tensor, rng: np.random.Generator) -> Tensor:
    """Change light and noise, which a token is not to care about."""
    gain = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS, (len(crops), 1, 1, 1)).astype(np.float32)
    noise = rng.standard_normal(crops.shape, dtype=np.float32) * np.float32(255 * NOISE)
    return (crops * torch.from_numpy(gain) + torch.from_numpy(noise)).clamp(0, 255)


def _batch(crops: Sequence[Rgb]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()


def _spec(config: TinyVitConfig, input_hw_px: Sides) -> VitSpec:
    return VitSpec(
        channels=config.channels, depth=config.depth, n_heads=config.channels // HEAD,
        hidden=4 * config.channels, patch_px=config.patch_px, input_hw_px=input_hw_px,
    )  # fmt: skip


def _for_whole_pictures(network: Vit, config: TinyVitConfig) -> Vit:
    spec = _spec(config, config.input_hw_px)
    state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    state["positions"] = at_input_size(state["positions"], spec)
    vit = Vit(spec)
    vit.load_state_dict(state)
    vit.requires_grad_(requires_grad=False)
    return vit.eval()
