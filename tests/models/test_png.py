"""Pictures are written whole, or the disk's refusal is told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from full_disk import full_disk

from loupe_models.errors import FrameError
from loupe_models.png import write_png


@pytest.mark.parametrize(
    "picture",
    [
        np.arange(60, dtype=np.uint8).reshape(5, 4, 3)[:, ::-1],
        np.arange(20, dtype=np.uint16).reshape(5, 4) * 3000,
    ],
)
def test_a_picture_comes_back(tmp_path: Path, picture: np.ndarray) -> None:
    write_png(tmp_path / "deep" / "a.png", picture)
    read = cv2.imread(str(tmp_path / "deep" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(np.asarray(read), picture)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with full_disk(2000), pytest.raises(OSError, match=r"a\.png"):
        write_png(tmp_path / "a.png", noise)
    assert not list(tmp_path.iterdir())


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"\(3, 3, 5\) float64"):
        write_png(tmp_path / "a.png", np.zeros((3, 3, 5)))
