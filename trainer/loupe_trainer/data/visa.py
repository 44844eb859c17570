"""One category of VisA, as downloaded: `split_csv/1cls.csv` says what is learnt and tested.

Zou et al., "SPot-the-Difference", ECCV 2022.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from loupe_trainer.data.item import Item
from loupe_trainer.data.mvtec import refuse_undrawn
from loupe_trainer.errors import DataError

TABLE = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
SPLITS, LABELS = ("train", "test"), ("normal", "anomaly")


def visa_items(place: Path) -> list[Item]:
    """List the pictures that the one-class table names for a category.

    Masks hold small numbers, one a kind of defect; whatever is not 0 is a defect. Every defect is
    called `anomaly`, for the table does not say which it is.

    Args:
        place: A category's folder, such as `VisA/candle`, beside `split_csv`.

    Raises:
        DataError: No table, no such category in it, or pictures or masks that are missing.
    """
    root = place.parent
    rows = [row for row in _read(root / TABLE) if row["object"] == place.name]
    if not rows:
        raise DataError(
            f"{root / TABLE}: knows no category {place.name!r}; it knows "
            f"{', '.join(visa_categories(root))}"
        )
    items = [_item(root, row) for row in rows]
    absent = [item.key for item in items if not item.source.is_file()]
    if absent:
        raise DataError(
            f"{root / TABLE}: {len(absent)} of {len(items)} pictures of {place.name} are missing, "
            f"such as {absent[0]}; extract the data again"
        )
    refuse_undrawn(root, items)
    return items


def visa_categories(root: Path) -> list[str]:
    """Give the categories that the table names, in its order.

    Raises:
        DataError: No readable table.
    """
    return list(dict.fromkeys(row["object"] for row in _read(root / TABLE)))


def _read(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: not readable ({error}); extract VisA again") from error
    if not rows or any(row.get(column) is None for row in rows for column in COLUMNS):
        raise DataError(f"{table}: needs the columns {', '.join(COLUMNS)} and at least one row")
    return rows


def _item(root: Path, row: Mapping[str, str]) -> Item:
    split, label, key = row["split"], row["label"], row["image"]
    if split not in SPLITS or label not in LABELS or (split, label) == ("train", "anomaly"):
        raise DataError(
            f"{root / TABLE}: {key}: split {split!r} and label {label!r}; a picture is train "
            f"and normal, test and normal, or test and anomaly"
        )
    is_good = label == "normal"
    return Item(
        key=key, part_id=key, kind="good" if is_good else "defect", source=root / key,
        defect=None if is_good else label, is_test_only=split == "test", mask_cut=0,
        mask=root / row["mask"] if row["mask"] and not is_good else None,
    )  # fmt: skip
