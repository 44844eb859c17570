"""Tiles of the stereo pothole pictures: colour, and disparity that stands for depth.

Fan et al., IEEE Transactions on Image Processing 2020 ("Pothole Detection Based on Disparity
Transformation and Road Surface Modeling"). Disparity is transformed so that the road is flat, and
is in arbitrary units: it has no scale and no lens. It is read as
`depth = 0.65 m - 2 um * disparity`, seen through a nominal pinhole of 53 degrees: a road at 0.53 to
0.55 m with potholes some 3 cm deep. So shapes are real, while metres are nominal.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.camera_settings import Stream
from loupe_trainer.data.depth_beside import DepthBeside, Scan
from loupe_trainer.data.item import Item
from loupe_trainer.data.picture_set import PictureSet
from loupe_trainer.errors import DataError

TABLE: Final = "index.csv"
COLUMNS: Final = ("name", "dataset", "frame", "class")
CLASSES: Final = ("good", "pothole")
DEPTH_UNIT_M: Final = 1e-5
FARTHEST_UNITS: Final = 65_000  # where disparity would be 0: 0.65 m
DISPARITY_PER_UNIT: Final = 5


def open_potholes(root: Path, streams: tuple[Stream, ...]) -> DepthBeside:
    """List the tiles; those of one picture of the road are one part.

    Args:
        root: Holds `index.csv` (name, dataset, frame, class, mask_px) and, for each class,
            `rgb/NAME.jpg` and `disp/NAME.png`; of potholes `mask/NAME.png` too.
        streams: What frames are given.

    Raises:
        DataError: The table is missing, lacks a column, or names a missing file.
    """
    items = tuple(_item(root, row) for row in _rows(root / TABLE))
    data = DepthBeside(PictureSet(items), streams, _disparity_of, _read_disparity)
    absent = [file for file in data.files.values() if not file.is_file()]
    if absent:
        raise DataError(f"{absent[0]}: named in {TABLE} but missing; copy the data again")
    return data


def _read_disparity(file: Path) -> Scan:
    disparity = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if disparity is None or disparity.dtype != np.uint16 or disparity.ndim != 2:
        raise DataError(f"{file}: not a 16-bit picture of one channel; copy the data again")
    height, width = disparity.shape
    lens = Intrinsics(width, height, width, width, (width - 1) / 2, (height - 1) / 2)
    return Scan(_depth(disparity), DEPTH_UNIT_M, lens)


def _depth(disparity: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
    """Give depth in units of `DEPTH_UNIT_M`; 0, which says that none was found, stays 0."""
    units = np.round(FARTHEST_UNITS - disparity.astype(np.float64) / DISPARITY_PER_UNIT)
    return np.where(disparity == 0, 0, units).astype(np.uint16)


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{table}: not readable; give the folder that holds {TABLE}, good and pothole"
        ) from error
    if not rows or any(row.get(column) is None for row in rows for column in COLUMNS):
        raise DataError(f"{table}: needs the columns {', '.join(COLUMNS)} and at least one row")
    odd = [row["class"] for row in rows if row["class"] not in CLASSES]
    if odd:
        raise DataError(f"{table}: class {odd[0]!r}; it is {' or '.join(CLASSES)}")
    return rows


def _item(root: Path, row: dict[str, str]) -> Item:
    folder, name, is_good = root / row["class"], row["name"], row["class"] == "good"
    return Item(
        key=f"{row['class']}/rgb/{name}.jpg",
        part_id=f"road-{row['dataset']}-{row['frame']}",
        kind="good" if is_good else "defect",
        source=folder / "rgb" / f"{name}.jpg",
        defect=None if is_good else "pothole",
        mask=None if is_good else folder / "mask" / f"{name}.png",
    )


def _disparity_of(item: Item) -> Path:
    return item.source.parent.parent / "disp" / f"{item.source.stem}.png"
