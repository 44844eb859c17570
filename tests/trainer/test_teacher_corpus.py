"""Any folder of photographs is a corpus; what is none is named at once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.errors import BadInputError
from loupe_trainer.teachers.corpus import FolderCorpus, MixedCorpus, PictureCorpus, open_corpus

RED = np.zeros((20, 30, 3), np.uint8)
RED[..., 2] = 200


def write(file: Path, picture: npt.NDArray[np.integer]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), picture)


def test_folders_and_mixtures_give_pictures_of_the_size_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "red.png", RED)
    rng = np.random.default_rng(0)
    red = FolderCorpus(tmp_path).picture(rng, 40, 50)
    assert red.shape == (40, 50, 3)
    assert (red[..., 0] == 200).all()
    mixed = MixedCorpus(open_corpus(tmp_path), PictureCorpus("blank", [np.zeros_like(RED)]))
    assert {int(mixed.picture(rng, 8, 8).max()) for _ in range(20)} == {0, 200}


@pytest.mark.parametrize(
    ("name", "picture", "expected_rgb"),
    [
        ("grey.png", np.full((20, 30), 90, np.uint8), (90, 90, 90)),
        ("grey16.png", np.full((20, 30), 90 * 256, np.uint16), (90, 90, 90)),
        ("colour16.tif", RED.astype(np.uint16) * 256, (200, 0, 0)),
        ("transparent.png", np.dstack((RED, np.full(RED.shape[:2], 9, np.uint8))), (200, 0, 0)),
        ("one_pixel.png", RED[:1, :1], (200, 0, 0)),
        ("narrow.png", RED[:, :1], (200, 0, 0)),
        ("SHOUTED.PNG", RED, (200, 0, 0)),
        ("deep/er/red.bmp", RED, (200, 0, 0)),
        ("lossless.webp", RED, (200, 0, 0)),
    ],
)
def test_any_kind_of_picture_will_do(
    tmp_path: Path,
    name: str,
    picture: npt.NDArray[np.integer],
    expected_rgb: tuple[int, int, int],
) -> None:
    write(tmp_path / name, picture)
    given = FolderCorpus(tmp_path).picture(np.random.default_rng(0), 64, 48)
    assert given.shape == (64, 48, 3)
    assert given.dtype == np.uint8
    assert np.abs(given.astype(int) - expected_rgb).max() <= 3


def test_what_is_no_picture_is_named_before_anything_is_learnt(tmp_path: Path) -> None:
    write(tmp_path / "a.png", RED)
    for name in ("b.jpg", "c.png"):
        (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(BadInputError, match=r"b.jpg and 1 more: not a picture.*remove it"):
        open_corpus(tmp_path)
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(BadInputError, match=r"c.png: not a picture"):
        open_corpus(tmp_path)


def test_what_lies_beside_pictures_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.png", RED)
    (tmp_path / "notes.txt").write_text("of no interest")
    (tmp_path / "._a.png").write_bytes(b"a resource fork of macOS")
    (tmp_path / "folder.png").mkdir()
    corpus = FolderCorpus(tmp_path)
    rng = np.random.default_rng(0)
    assert all(corpus.picture(rng, 8, 8)[..., 0].min() == 200 for _ in range(10))


def test_a_picture_that_breaks_off_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    write(tmp_path / "a.png", RED)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    corpus = FolderCorpus(tmp_path)
    with pytest.raises(BadInputError, match=r"a.png: not a picture that can be read"):
        corpus.picture(np.random.default_rng(0), 8, 8)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "folder"
    if made:
        folder.mkdir()
    with pytest.raises(BadInputError, match="no picture in it" if made else "no such folder"):
        open_corpus(folder)
