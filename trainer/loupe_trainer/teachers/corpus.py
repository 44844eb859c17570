"""Pictures to learn from that need show no part: a folder of photographs, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from loupe_edge.pictures import PICTURE_SUFFIXES, list_pictures, read_rgb
from loupe_trainer.errors import DataError
from loupe_trainer.teachers.textures import draw_texture

Rgb = npt.NDArray[np.uint8]


class Corpus(Protocol):
    """Gives pictures, as many as anybody wants.

    Attributes:
        name: Told in the origin of what was learnt from it.
    """

    name: str

    def picture(self, rng: np.random.Generator, height_px: int, width_px: int) -> Rgb:
        """Give one, (H, W, 3) uint8; which one is up to `rng` alone."""
        ...


class TextureCorpus:
    """Draws every picture."""

    name = "procedural textures"

    def picture(self, rng: np.random.Generator, height_px: int, width_px: int) -> Rgb:
        """Draw one."""
        return draw_texture(rng, height_px, width_px)


class FolderCorpus:
    """Reads the photographs of a folder and its subfolders; aspect is not kept.

    Any size will do, grey or colour, 8 or 16 bit; transparency is passed over. What is no picture
    is refused at once, by the first bytes of its file, and not after a day of training.

    Raises:
        BadInputError: Not a folder, no picture in it, or some that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        named = (p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
        paths = sorted(p for p in named if not p.name.startswith(".") and p.is_file())
        self._paths = paths or list_pictures(folder)  # the latter says what is wrong
        self.name = folder.name
        broken = [p for p in self._paths if not cv2.haveImageReader(str(p))]
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            raise DataError(
                f"{broken[0]}{more}: not a picture that can be read; replace it or remove it"
            )

    def picture(self, rng: np.random.Generator, height_px: int, width_px: int) -> Rgb:
        """Read one and resize it."""
        path = self._paths[int(rng.integers(len(self._paths)))]
        return _resize(read_rgb(path), height_px, width_px)


class PictureCorpus:
    """Pictures at hand: the good parts that a method fits to."""

    def __init__(self, name: str, pictures: Sequence[Rgb]) -> None:
        self.name = name
        self._pictures = pictures

    def picture(self, rng: np.random.Generator, height_px: int, width_px: int) -> Rgb:
        """Take one and resize it."""
        picture = self._pictures[int(rng.integers(len(self._pictures)))]
        return _resize(picture, height_px, width_px)


class MixedCorpus:
    """Takes each of several corpora equally often."""

    def __init__(self, *corpora: Corpus) -> None:
        self.name = " and ".join(corpus.name for corpus in corpora)
        self._corpora = corpora

    def picture(self, rng: np.random.Generator, height_px: int, width_px: int) -> Rgb:
        """Take one from any of them."""
        corpus = self._corpora[int(rng.integers(len(self._corpora)))]
        return corpus.picture(rng, height_px, width_px)


def open_corpus(folder: Path | None) -> Corpus:
    """Open a folder of pictures, or draw them where there is none."""
    return TextureCorpus() if folder is None else FolderCorpus(folder)


def to_grey(rgb: Rgb) -> Rgb:
    """Take the colour out of (H, W, 3), keeping three channels."""
    return np.asarray(
        cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8
    )


def _resize(rgb: Rgb, height_px: int, width_px: int) -> Rgb:
    shrinks = rgb.shape[0] >= height_px and rgb.shape[1] >= width_px
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (width_px, height_px), interpolation=how), np.uint8)
