"""One labelled exposure whose pixels are read when they are needed, and a set of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from loupe_calibration.transform import Transform
from loupe_edge.pictures import MASK_CUT
from loupe_models.frame import Frame

Kind = Literal["good", "defect"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which frame of a recording: the camera's number and its own time."""

    frame_id: int
    camera_ns: int


@dataclass(frozen=True, slots=True)
class Item:
    """What is known of one exposure.

    Attributes:
        key: Unique in its set: a path relative to the data, or a frame's number.
        part_id: The physical part, shared by every item that shows it.
        source: The file that holds the pixels.
        defect: The defect's name, for defects.
        mask: Truth mask, where it is a file of its own, or a folder of several.
        is_test_only: The layout of the data puts this item into the test set.
        is_validation: The layout keeps this good item from fitting: it is to calibrate.
        mask_cut: A pixel of the mask above this is part of the defect.
        stamp: For a recording.
    """

    key: str
    part_id: str
    kind: Kind
    source: Path
    defect: str | None = None
    mask: Path | None = None
    is_test_only: bool = False
    is_validation: bool = False
    mask_cut: int = MASK_CUT
    stamp: Stamp | None = None


def one_a_part(items: Iterable[Item]) -> list[Item]:
    """Take the first item of each part, so that the few that are tried differ."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.part_id, item)
    return list(first.values())


class DataSet(Protocol):
    """A place that items come from."""

    @property
    def items(self) -> Sequence[Item]:
        """Every labelled item, in a stable order."""

    @property
    def files(self) -> Mapping[str, Path]:
        """Every file that the result depends on, by a name that outlives a move of the folder."""

    @property
    def belt_from_camera(self) -> Transform | None:
        """The belt, where the data comes with it."""

    @property
    def min_depth_valid(self) -> float:
        """Least share of a region with a depth, where depth is used; less is `unknown`."""

    def frames(self, items: Sequence[Item]) -> Generator[tuple[Item, Frame], None, None]:
        """Read the frames of some items, in the set's own order, each once.

        Whoever does not come to the end closes it, `contextlib.closing`: what is left to the end
        of the process may wait for ever for a camera's threads, which are gone by then.

        Raises:
            DataError: A file is missing or is not what it should be.
        """

    def mask(self, item: Item) -> npt.NDArray[np.bool_] | None:
        """Read a truth mask, (H, W) in the frame's pixels; None where nobody drew one.

        A good item's mask is None too: all of it is normal.
        """
