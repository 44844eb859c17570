"""The tiny vision transformer: learns, the same every time, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as nnf

from loupe_trainer.encoders.vit import Vit
from loupe_trainer.encoders.vit_tiny import (
    TinyVitConfig,
    draw_views,
    nearest_of_other_pictures,
    tiny_loss,
    tiny_vit,
    train_tiny_vit,
)
from loupe_trainer.errors import RunError
from loupe_trainer.progress import Progress, SilentProgress, Task
from loupe_trainer.teachers.textures import draw_texture

SMALL = TinyVitConfig(
    channels=32, depth=1, input_hw_px=(64, 96), crop_px=32, steps=6, batch=2, n_pictures=4,
    checkpoint_every=2,
)  # fmt: skip


class Killed(BaseException):
    pass


class KilledAt(Progress):
    """Dies after a step; counts the steps it was shown."""

    def __init__(self, step: int | None) -> None:
        self.step, self.n_seen = step, 0

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:  # noqa: ARG002
        self.done = done
        yield self

    def advance(self, n: int = 1, note: str = "") -> None:  # noqa: ARG002
        self.done += n
        self.n_seen += n
        if self.done == self.step:
            raise Killed


@pytest.fixture(scope="module")
def pictures() -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(8)
    return [draw_texture(rng, 80, 120) for _ in range(3)]


def same_weights(one: Vit, other: Vit) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def train(pictures: list[npt.NDArray[np.uint8]], file: Path, config: TinyVitConfig) -> Vit:
    return train_tiny_vit(pictures, config, file, SilentProgress())


def test_the_same_seed_gives_the_same_network_and_another_another(
    tmp_path: Path, pictures: list[npt.NDArray[np.uint8]]
) -> None:
    one = train(pictures, tmp_path / "a", SMALL)
    assert same_weights(one, train(pictures, tmp_path / "b", SMALL))
    other = SMALL.model_copy(update={"seed": 1})
    assert not same_weights(one, train(pictures, tmp_path / "c", other))
    assert one(torch.zeros(2, 3, 64, 96)).shape == (2, 32, 8, 12)
    assert one.origin is None
    assert not one.training


@pytest.mark.parametrize(("killed_at", "n_left"), [(1, 6), (2, 4), (5, 2)])
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, pictures: list[npt.NDArray[np.uint8]], killed_at: int, n_left: int
) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train_tiny_vit(pictures, SMALL, file, KilledAt(killed_at))
    watched = KilledAt(None)
    resumed = train_tiny_vit(pictures, SMALL, file, watched)
    assert watched.n_seen == n_left
    assert same_weights(resumed, train(pictures, tmp_path / "straight", SMALL))


def test_a_checkpoint_of_other_settings_is_refused(
    tmp_path: Path, pictures: list[npt.NDArray[np.uint8]]
) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        train_tiny_vit(pictures, SMALL, file, KilledAt(3))
    with pytest.raises(RunError, match="other settings"):
        train(pictures, file, SMALL.model_copy(update={"lr": 0.01}))


def test_marks_are_told_where_they_are(pictures: list[npt.NDArray[np.uint8]]) -> None:
    config = SMALL.model_copy(update={"batch": 32})
    views, is_marked = draw_views(pictures, config, np.random.default_rng(3))
    assert views.shape == (96, 3, 32, 32)
    assert is_marked.shape == (32, 16)
    crops, _, marked = views.chunk(3)
    change = nnf.avg_pool2d((marked - crops).abs().mean(1), 8)
    assert is_marked.any()
    assert change.flatten(1)[is_marked].mean() > 2 * change.flatten(1)[~is_marked].mean()


def test_strangers_are_of_other_pictures() -> None:
    torch.manual_seed(0)
    anchors = torch.randn(3, 5, 4)
    anchors[1, 2] = anchors[0, 1] + 1e-3
    anchors[0, 2] = anchors[0, 1] + 1e-6  # nearer, and a neighbour
    assert torch.equal(nearest_of_other_pictures(anchors)[1], anchors[1, 2])


def test_the_loss_falls_when_a_mark_is_seen_and_light_is_not() -> None:
    torch.manual_seed(0)
    anchors, elsewhere = torch.randn(2, 16, 8), torch.randn(2, 16, 8)
    is_marked = torch.zeros(2, 16, dtype=torch.bool)
    is_marked[:, 5] = True
    blind = tiny_loss(torch.cat((anchors, anchors, anchors)), is_marked)
    sees = tiny_loss(torch.cat((anchors, anchors, 3 * elsewhere)), is_marked)
    cares = tiny_loss(torch.cat((anchors, elsewhere, 3 * elsewhere)), is_marked)
    assert sees < blind < cares


def test_training_makes_marks_stand_out(
    tmp_path: Path, pictures: list[npt.NDArray[np.uint8]]
) -> None:
    """Marked tokens lie further from their unmarked selves than light and noise move the others."""
    config = SMALL.model_copy(update={"steps": 60, "batch": 4, "crop_px": 64, "lr": 2e-3,
                                      "input_hw_px": (64, 64), "n_pictures": 8})  # fmt: skip
    views, is_marked = draw_views(pictures, config, np.random.default_rng(77))

    def contrast(vit: Vit) -> float:
        with torch.no_grad():
            tokens = vit(views).flatten(2).mT
        anchors, again, marked = tokens.chunk(3)
        moved_by_light = (again - anchors).norm(dim=2).mean()
        return float((marked - anchors).norm(dim=2)[is_marked].mean() / moved_by_light)

    untrained = tiny_vit(config).eval()
    assert contrast(train(pictures, tmp_path / "c", config)) > 1.2 * contrast(untrained)
