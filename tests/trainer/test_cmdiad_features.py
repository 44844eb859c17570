"""Features on disk: described once, and anew where the disk lost them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from loupe_trainer.methods.cmdiad.features import kept_features
from loupe_trainer.progress import SilentProgress

N_FRAMES = 3


class Describing:
    """Says of a frame its number; counts how often it was asked."""

    n_asked = 0

    def __call__(self, frame: int) -> Tensor:
        self.n_asked += 1
        return torch.full((1, 4, 2, 2), float(frame))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def overwrite(file: Path) -> None:
    file.write_bytes(b"junk" * 100)


def lose_a_frame(file: Path) -> None:
    np.save(file, np.load(file)[:-1])


def keep(file: Path) -> None:
    assert file.exists()


@pytest.mark.parametrize(
    ("harm", "n_asked"),
    [(keep, 0), (empty, 3), (cut_off, 3), (overwrite, 3), (lose_a_frame, 3), (Path.unlink, 3)],
)
def test_damaged_features_are_made_anew(
    tmp_path: Path, harm: Callable[[Path], None], n_asked: int
) -> None:
    folder = tmp_path / "rgb"
    first = np.array(kept_features(folder, "key", N_FRAMES, Describing(), SilentProgress()))
    harm(folder / "key.npy")
    again = Describing()
    features = kept_features(folder, "key", N_FRAMES, again, SilentProgress())
    assert again.n_asked == n_asked
    np.testing.assert_array_equal(features, first)
    assert [float(frame.mean()) for frame in features] == [0, 1, 2]
    assert [file.name for file in folder.iterdir()] == ["key.npy"]
