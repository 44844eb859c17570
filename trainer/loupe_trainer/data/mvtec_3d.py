"""One category of MVTec 3D-AD, as downloaded: colour, and an organized point cloud beside it.

Bergmann et al., VISAPP 2022. `<set>/<kind>/rgb/NNN.png`, `xyz/NNN.tiff` and `gt/NNN.png`, with the
sets train, validation and test. `loupe-trainer prepare` makes a folder laid out alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from loupe_edge.camera_settings import Stream
from loupe_edge.inspector import DEFAULT_MIN_DEPTH_VALID
from loupe_edge.pictures import list_pictures
from loupe_trainer.data.depth_beside import DepthBeside
from loupe_trainer.data.good import good_items, only_good
from loupe_trainer.data.item import Item
from loupe_trainer.data.mvtec import refuse_undrawn, tested_item
from loupe_trainer.data.organized_cloud import read_scan
from loupe_trainer.data.picture_set import PictureSet
from loupe_trainer.errors import DataError

MARK: Final = "prepared.json"  # lies in a prepared folder: of one category, or of all


def open_mvtec_3d(root: Path, streams: tuple[Stream, ...]) -> DepthBeside:
    """List a category; clouds are opened only where `streams` holds `depth`.

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
    # What `prepare` took away around the part is no hole: a part may be small in its picture.
    least = 0.0 if _is_prepared(root) else DEFAULT_MIN_DEPTH_VALID
    return DepthBeside(PictureSet(tuple(items)), streams, _cloud_of, read_scan, least)


def _is_prepared(root: Path) -> bool:
    return any((folder / MARK).is_file() for folder in (root, root.parent))


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
