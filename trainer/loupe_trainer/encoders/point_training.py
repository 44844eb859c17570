"""A tiny Point-MAE from good parts alone, by the published pretraining: masked autoencoding.

Pang et al. (ECCV 2022), section 3: six tenths of the groups are hidden; a small decoder is told
only where they were, and gives their points; Chamfer distance says how far off they are. Parts are
turned about the vertical, where the authors stretch and shift whole objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from loupe_models.checked import Checked
from loupe_models.preprocess import Tensors
from loupe_trainer.checkpoint import load_checkpoint, save_checkpoint
from loupe_trainer.encoders.float32_parts import Norm
from loupe_trainer.encoders.point_blocks import Blocks, PositionMlp, initialise
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import TINY, PointShape
from loupe_trainer.errors import DataError, TrainingError
from loupe_trainer.optimisation import adam, descend, learning_rate
from loupe_trainer.progress import Progress
from loupe_trainer.recipe import MAX_SEED

MASKED_SHARE = 0.6
DECODER_DEPTH = 2
WEIGHT_DECAY = 0.0


class PointTraining(Checked):
    """The schedule of a tiny Point-MAE.

    Attributes:
        shape: The encoder's sizes.
        steps: Of `batch` frames each.
    """

    shape: PointShape = TINY
    steps: int = Field(default=600, ge=1, le=1_000_000)
    batch: int = Field(default=4, ge=1, le=1024)
    lr: float = Field(default=1e-3, gt=0, le=0.1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    checkpoint_every: int = Field(default=100, ge=1)


class Decoder(nn.Module):
    """Gives a hidden group's points from what is seen and from where it was."""

    def __init__(self, shape: PointShape, n_points: int) -> None:
        super().__init__()
        self.n_points = n_points
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = PositionMlp(shape.width)
        self.blocks = Blocks(DECODER_DEPTH, shape.width, shape.n_heads)
        self.norm = Norm(shape.width)
        self.points = nn.Linear(shape.width, 3 * n_points)

    def forward(self, seen: Tensor, seen_at: Tensor, hidden_at: Tensor) -> Tensor:
        """Take (B, S, width), (B, S, 3) and (B, N, 3); give the points, (B, N, M, 3)."""
        n_hidden = hidden_at.shape[1]
        tokens = torch.cat((seen, self.mask_token.expand(len(seen), n_hidden, -1)), 1)
        at = self.pos_embed(torch.cat((seen_at, hidden_at), 1))
        said = self.norm(self.blocks(tokens, at)[-1][:, -n_hidden:])
        points: Tensor = self.points(said).unflatten(-1, (self.n_points, 3))
        return points


def train_tiny_point_mae(
    samples: Sequence[Tensors], training: PointTraining, checkpoint: Path, progress: Progress
) -> PointMae:
    """Learn to describe groups of points.

    Args:
        samples: Good frames with `groups` (1, G, M, 3) and `centres` (1, G, 3), all of one size.
        training: The schedule and the network's sizes.
        checkpoint: Where to keep resumable state; a killed training goes on to the same weights.
        progress: Shown.

    Returns:
        The encoder, in evaluation.

    Raises:
        DataError: No sample, or too few groups to hide some.
        RunError: The checkpoint is of another training.
        TrainingError: The loss is not finite.
    """
    groups, centres = _gather(samples)
    torch.manual_seed(training.seed)
    network, decoder = PointMae(training.shape), Decoder(training.shape, groups.shape[2])
    trained = nn.ModuleDict({"encoder": network, "decoder": decoder})
    initialise(trained)
    modules = dict(trained.items())
    optimiser = adam(trained.parameters(), training.lr, WEIGHT_DECAY)
    settings = training.model_dump(mode="json", exclude={"checkpoint_every"})
    step = load_checkpoint(checkpoint, modules, optimiser, settings)
    trained.train()
    with progress.task("learning to describe points", training.steps, step) as task:
        while step < training.steps:
            rng = np.random.default_rng((training.seed, step))
            rows = rng.integers(len(groups), size=training.batch)
            loss = masked_loss(network, decoder, *_turned(groups[rows], centres[rows], rng), rng)
            if not loss.isfinite():
                raise TrainingError(f"the loss is not finite at step {step}; lower lr")
            descend(loss, optimiser, learning_rate(training.lr, step, training.steps))
            step += 1
            if step % training.checkpoint_every == 0 or step == training.steps:
                save_checkpoint(checkpoint, step, modules, optimiser, settings)
            task.advance(note=f"loss {loss.item():.4f}")
    return network.eval()


def masked_loss(
    network: PointMae, decoder: Decoder, groups: Tensor, centres: Tensor, rng: np.random.Generator
) -> Tensor:
    """Hide groups, have them guessed, and say how far off the guess is; metres in."""
    groups, centres = network.in_units(groups, centres)
    n_frames, n_groups = centres.shape[:2]
    order = torch.from_numpy(np.stack([rng.permutation(n_groups) for _ in range(n_frames)]))
    n_hidden = int(MASKED_SHARE * n_groups)
    hidden, seen = order[:, :n_hidden], order[:, n_hidden:]
    frame = torch.arange(n_frames)[:, None]
    seen_at, hidden_at = centres[frame, seen], centres[frame, hidden]
    # Hidden groups never reach the encoder, so that no statistics of theirs do either.
    tokens = network.encoder(groups[frame, seen])
    said = network.norm(network.blocks(tokens, network.pos_embed(seen_at))[-1])
    return chamfer(decoder(said, seen_at, hidden_at), groups[frame, hidden])


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Average the squared distance to the nearest point of the other, both ways: (…, M, 3)."""
    squared = (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1)
    return squared.amin(-1).mean() + squared.amin(-2).mean()


def _gather(samples: Sequence[Tensors]) -> tuple[Tensor, Tensor]:
    if not samples:
        raise DataError("there is no good part to learn points from; give some")
    groups, centres = (
        torch.from_numpy(np.concatenate([np.asarray(s[name], np.float32) for s in samples]))
        for name in ("groups", "centres")
    )
    if int(MASKED_SHARE * groups.shape[1]) < 1:
        raise DataError(f"{groups.shape[1]} groups a frame are too few to hide some; ask for more")
    return groups, centres


def _turned(groups: Tensor, centres: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Turn every frame about the vertical by an angle of its own."""
    angle = rng.uniform(0, 2 * np.pi, len(groups))
    turn: npt.NDArray[np.float64] = np.zeros((len(groups), 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 0, 1], turn[:, 1, 0], turn[:, 2, 2] = np.sin(angle), -np.sin(angle), 1
    matrix = torch.from_numpy(turn).float()
    return groups @ matrix[:, None], centres @ matrix
