"""Colour pictures, and beside each a file that holds its depth."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import Stream
from loupe_edge.inspector import DEFAULT_MIN_DEPTH_VALID
from loupe_models.frame import Frame
from loupe_trainer.data.item import Item
from loupe_trainer.data.picture_set import PictureSet
from loupe_trainer.errors import DataError


@dataclass(frozen=True, slots=True)
class Scan:
    """What a frame needs of a file of depth.

    Attributes:
        depth: (H, W) uint16, 0 where nothing was measured.
        unit_m: Metres of one unit of `depth`.
    """

    depth: npt.NDArray[np.uint16]
    unit_m: float
    lens: Intrinsics


@dataclass(frozen=True, slots=True)
class DepthBeside:
    """Exposures of both streams, or of either.

    Attributes:
        pictures: Their colour, which also names them.
        streams: What frames are given; depth is opened only where this holds `depth`.
        depth_of: Where the depth of an item lies.
        read: Opens such a file.
        min_depth_valid: See `DataSet`.
    """

    pictures: PictureSet
    streams: tuple[Stream, ...]
    depth_of: Callable[[Item], Path]
    read: Callable[[Path], Scan]
    min_depth_valid: float = DEFAULT_MIN_DEPTH_VALID

    @property
    def items(self) -> Sequence[Item]:
        """Those of the colour pictures."""
        return self.pictures.items

    @property
    def files(self) -> Mapping[str, Path]:
        """Pictures, masks, and depth where it is used."""
        if "depth" not in self.streams:
            return self.pictures.files
        return {
            **self.pictures.files,
            **{f"{item.key} depth": self.depth_of(item) for item in self.items},
        }

    @property
    def belt_from_camera(self) -> Transform | None:
        """Unknown."""
        return None

    def frames(self, items: Sequence[Item]) -> Generator[tuple[Item, Frame], None, None]:
        """Read colour, depth or both."""
        for item, frame in self.pictures.frames(items):
            yield item, self._with_depth(item, frame) if "depth" in self.streams else frame

    def mask(self, item: Item) -> npt.NDArray[np.bool_] | None:
        """Read a mask, drawn on the colour picture."""
        return self.pictures.mask(item)

    def _with_depth(self, item: Item, frame: Frame) -> Frame:
        file = self.depth_of(item)
        scan = self.read(file)
        if scan.lens.size_wh != frame.size_wh:
            raise DataError(
                f"{file}: {scan.lens.width_px}x{scan.lens.height_px}, its picture "
                f"{frame.size_wh[0]}x{frame.size_wh[1]}; copy the data again"
            )
        return replace(
            frame,
            rgb=frame.rgb if "rgb" in self.streams else None,
            depth=scan.depth,
            depth_scale_m=scan.unit_m,
            intrinsics=scan.lens,
        )
