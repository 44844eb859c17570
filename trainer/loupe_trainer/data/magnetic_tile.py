"""The magnetic tile defect pictures, with the groups that say which show the same tile."""

from __future__ import annotations

import csv
from pathlib import Path

from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError

GOOD = "MT_Free"
COLUMNS = ("path", "class", "group")


def magnetic_tile_items(root: Path) -> list[Item]:
    """List the tiles; a group of exposures is one part.

    Args:
        root: Holds `groups.csv` (path, class, exposure, num, group) and the folders it names.

    Raises:
        DataError: The table is missing, lacks a column, or names a missing picture.
    """
    table = root / "groups.csv"
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(
            f"{table}: not readable; give the folder that holds groups.csv and the MT_* folders"
        ) from error
    if not rows or any(row.get(column) is None for row in rows for column in COLUMNS):
        raise DataError(f"{table}: needs the columns {', '.join(COLUMNS)} and at least one row")
    return [_item(root, row) for row in rows]


def _item(root: Path, row: dict[str, str]) -> Item:
    source = root / row["path"]
    if not source.is_file():
        raise DataError(f"{source}: named in groups.csv but missing; copy the data again")
    is_good = row["class"] == GOOD
    mask = source.with_suffix(".png")
    return Item(
        key=row["path"],
        part_id=f"group-{row['group']}",
        kind="good" if is_good else "defect",
        source=source,
        defect=None if is_good else row["class"].removeprefix("MT_").lower(),
        mask=mask if not is_good and mask.is_file() else None,
    )
