"""Both trainings learn, are the same twice, and go on after a kill to the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loupe_models.preprocess import Tensors
from loupe_trainer.encoders.point_encoder import PointEncoder
from loupe_trainer.encoders.point_mae import PointMae
from loupe_trainer.encoders.point_shape import PointShape
from loupe_trainer.encoders.point_training import (
    Decoder,
    PointTraining,
    chamfer,
    masked_loss,
    train_tiny_point_mae,
)
from loupe_trainer.encoders.surface_training import SurfaceTraining, train_surface_encoder
from loupe_trainer.errors import DataError, RunError
from loupe_trainer.progress import Progress, SilentProgress, Task

SHAPE = PointShape(depth=2, width=16, n_heads=2, taps=(0, 1), hidden=8, local=16, unit_m=0.02)
POINTS = PointTraining(shape=SHAPE, steps=6, batch=2, checkpoint_every=2)
SURFACE = SurfaceTraining(width=8, steps=6, batch=2, checkpoint_every=2)
GRID_HW, SIDE, N_CENTRES = (24, 24), 6, 20


class Killed(BaseException):
    pass


class Watched(Progress):
    """Dies after a step of a training; keeps what it was told of each."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.losses: list[float] = []

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        with SilentProgress().task(name, total, done) as silent:
            yield _Step(self, done) if name.startswith("learning") else silent


class _Step:
    def __init__(self, outer: Watched, done: int) -> None:
        self._outer, self._done = outer, done

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        self._outer.losses.append(float(note.removeprefix("loss ")))
        if self._done == self._outer.dies_at:
            raise Killed


def part(seed: int) -> Tensors:
    """A wavy surface, grouped; which centres are near which pixel is made up."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[: GRID_HW[0], : GRID_HW[1]]
    z_m = 0.01 + 0.002 * np.sin(u / 4 + rng.uniform(0, 6)) * np.cos(v / 3)
    points = np.stack((u * 1e-3, v * 1e-3, z_m), -1).astype(np.float32)
    flat = points.reshape(-1, 3)
    centres = flat[rng.choice(len(flat), N_CENTRES, replace=False)]
    squared = ((centres[:, None] - flat[None]) ** 2).sum(-1)
    groups = flat[squared.argsort(1)[:, :8]] - centres[:, None]
    nearest = squared.T.argsort(1)[:, :3].astype(np.int32)
    return {
        "xyz": points[None], "valid": np.ones((1, *GRID_HW), np.uint8), "groups": groups[None],
        "centres": centres[None], "nn_index": nearest[None],
        "nn_weight": np.full((1, len(flat), 3), 1 / 3, np.float32),
    }  # fmt: skip


PARTS = [part(seed) for seed in range(4)]


def teacher(seed: int = 0) -> PointEncoder:
    torch.manual_seed(seed)
    return PointEncoder(PointMae(SHAPE), None, GRID_HW, SIDE, N_CENTRES)


def learn_points(checkpoint: Path, progress: Progress, training: PointTraining) -> nn.Module:
    return train_tiny_point_mae(PARTS, training, checkpoint, progress)


def learn_surface(checkpoint: Path, progress: Progress, training: SurfaceTraining) -> nn.Module:
    return train_surface_encoder(PARTS, teacher(), training, checkpoint, progress)


Learn = Callable[[Path, Progress, object], nn.Module]
BOTH = pytest.mark.parametrize(
    ("learn", "training"),
    [(learn_points, POINTS), (learn_surface, SURFACE)],
    ids=["points", "surface"],
)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@BOTH
@pytest.mark.parametrize(("dies_at", "n_left"), [(1, 6), (5, 2)])
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, learn: Learn, training: PointTraining, dies_at: int, n_left: int
) -> None:
    whole = learn(tmp_path / "whole", SilentProgress(), training)
    with pytest.raises(Killed):
        learn(tmp_path / "broken", Watched(dies_at), training)
    watched = Watched()
    resumed = learn(tmp_path / "broken", watched, training)
    assert_same(whole, resumed)
    assert not resumed.training
    assert len(watched.losses) == n_left


@BOTH
def test_other_settings_do_not_go_on(tmp_path: Path, learn: Learn, training: PointTraining) -> None:
    learn(tmp_path / "checkpoint", SilentProgress(), training)
    with pytest.raises(RunError, match="other settings"):
        learn(tmp_path / "checkpoint", SilentProgress(), training.model_copy(update={"seed": 1}))


def test_the_front_does_not_go_on_from_another_teacher(tmp_path: Path) -> None:
    learn_surface(tmp_path / "checkpoint", SilentProgress(), SURFACE)
    with pytest.raises(RunError, match="other settings"):
        train_surface_encoder(PARTS, teacher(1), SURFACE, tmp_path / "checkpoint", SilentProgress())


@BOTH
def test_it_learns(tmp_path: Path, learn: Learn, training: PointTraining) -> None:
    watched = Watched()
    learn(tmp_path / "checkpoint", watched, training.model_copy(update={"steps": 50, "lr": 5e-3}))
    assert np.mean(watched.losses[-5:]) < 0.8 * np.mean(watched.losses[:5])


def test_chamfer_distance_is_the_mean_square_to_the_nearest_both_ways() -> None:
    a = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    b = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    assert chamfer(a, a.flip(0)) == 0
    assert chamfer(a, b) == (0 + 1) / 2 + (0 + 9) / 2


def test_no_part_or_too_few_groups_are_refused(tmp_path: Path) -> None:
    def with_one_group(sample: Tensors) -> Tensors:
        return {name: np.asarray(sample[name])[:, :1] for name in ("groups", "centres")}

    with pytest.raises(DataError, match="no good part"):
        train_tiny_point_mae([], POINTS, tmp_path / "c", SilentProgress())
    with pytest.raises(DataError, match="no good part"):
        train_surface_encoder([], teacher(), SURFACE, tmp_path / "c", SilentProgress())
    with pytest.raises(DataError, match="too few"):
        train_tiny_point_mae([with_one_group(PARTS[0])], POINTS, tmp_path / "c", SilentProgress())


def test_hidden_groups_never_reach_the_encoder() -> None:
    seen: list[Tensor] = []
    network = PointMae(SHAPE).train()
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    groups, centres = (torch.from_numpy(np.asarray(PARTS[0][n])) for n in ("groups", "centres"))
    decoder = Decoder(SHAPE, 8)
    masked_loss(network, decoder, groups, centres, np.random.default_rng(0))
    assert seen[0].shape == (1, N_CENTRES - int(0.6 * N_CENTRES), 8, 3)
