"""One category of MVTec 3D-AD, as downloaded: colour, and an organized point cloud beside it.

Bergmann et al., VISAPP 2022. `<set>/<kind>/rgb/NNN.png`, `xyz/NNN.tiff` and `gt/NNN.png`, with the
sets train, validation and test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loupe_calibration.transform import Transform
from loupe_edge.camera_settings import Stream
from loupe_edge.pictures import list_pictures
from loupe_models.frame import Frame
from loupe_trainer.data.good import good_items, only_good
from loupe_trainer.data.item import Item
from loupe_trainer.data.mvtec import refuse_undrawn, tested_item
from loupe_trainer.data.organized_cloud import DEPTH_UNIT_M, read_scan
from loupe_trainer.data.picture_set import PictureSet
from loupe_trainer.errors import DataError


@dataclass(frozen=True, slots=True)
class Mvtec3dSet:
    """The exposures of a category.

    Attributes:
        pictures: Their colour, which also names them.
        streams: What frames are given; clouds are opened only where this holds `depth`.
    """

    pictures: PictureSet
    streams: tuple[Stream, ...]

    @classmethod
    def open(cls, root: Path, streams: tuple[Stream, ...]) -> Mvtec3dSet:
        """List a category.

        Raises:
            DataError: Defects among the good, or a file without its counterpart.
        """
        items = _items(root)
        if "depth" in streams:
            absent = [cloud for item in items if not (cloud := _cloud_of(item)).is_file()]
            if absent:
                raise DataError(
                    f"{root}: {len(absent)} of {len(items)} clouds are missing, such as "
                    f"{absent[0]}; extract the data again"
                )
        return cls(PictureSet(tuple(items)), streams)

    @property
    def items(self) -> Sequence[Item]:
        """Those of the colour pictures."""
        return self.pictures.items

    @property
    def files(self) -> Mapping[str, Path]:
        """Pictures, masks, and clouds where they are used."""
        clouds = {f"{item.key} cloud": _cloud_of(item) for item in self.items}
        return {**self.pictures.files, **(clouds if "depth" in self.streams else {})}

    @property
    def belt_from_camera(self) -> Transform | None:
        """Unknown."""
        return None

    def frames(self, items: Sequence[Item]) -> Iterator[tuple[Item, Frame]]:
        """Read colour, depth or both."""
        for item, frame in self.pictures.frames(items):
            yield item, self._with_depth(item, frame) if "depth" in self.streams else frame

    def mask(self, item: Item) -> npt.NDArray[np.bool_] | None:
        """Read a mask, drawn on the colour picture."""
        return self.pictures.mask(item)

    def _with_depth(self, item: Item, frame: Frame) -> Frame:
        scan = read_scan(_cloud_of(item))
        if scan.lens.size_wh != frame.size_wh:
            raise DataError(
                f"{_cloud_of(item)}: {scan.lens.width_px}x{scan.lens.height_px}, its picture "
                f"{frame.size_wh[0]}x{frame.size_wh[1]}; extract the data again"
            )
        return replace(
            frame,
            rgb=frame.rgb if "rgb" in self.streams else None,
            depth=scan.depth,
            depth_scale_m=DEPTH_UNIT_M,
            intrinsics=scan.lens,
        )


def _items(root: Path) -> list[Item]:
    """List the colour pictures; masks name kinds of defects by grey values from 255 down."""
    items = good_items(root, only_good(root, "train") / "rgb")
    if (root / "validation" / "good").is_dir():
        held = only_good(root, "validation") / "rgb"
        items += good_items(root, held, is_validation=True)
    test = root / "test"
    tested = [
        tested_item(root, picture, kind.name, kind / "gt" / f"{picture.stem}.png", mask_cut=0)
        for kind in (sorted(d for d in test.iterdir() if d.is_dir()) if test.is_dir() else [])
        for picture in list_pictures(kind / "rgb")
    ]
    refuse_undrawn(root, tested)
    return items + tested


def _cloud_of(item: Item) -> Path:
    return item.source.parent.parent / "xyz" / f"{item.source.stem}.tiff"
