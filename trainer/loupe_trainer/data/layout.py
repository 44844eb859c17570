"""Looking at a place: which reader it wants, and which categories it holds."""

from __future__ import annotations

import re
from pathlib import Path

from loupe_trainer.data.good import SEVERAL
from loupe_trainer.data.visa import TABLE, visa_categories
from loupe_trainer.errors import DataError
from loupe_trainer.recipe import ReaderName

CATEGORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it becomes part of a bundle's id


def reader_of(place: Path) -> ReaderName:
    """Tell how a place is laid out.

    Raises:
        DataError: Neither a folder, an index nor a recording; or a folder of categories.
    """
    by_suffix: dict[str, ReaderName] = {".db3": "recording", ".jsonl": "jsonl"}
    if place.is_dir():
        return _reader_of_folder(place)
    if place.suffix in by_suffix:
        return by_suffix[place.suffix]
    raise DataError(f"{place}: give a folder of pictures, a .jsonl index or a .db3 recording")


def categories(root: Path) -> dict[str, Path]:
    """Find the categories of a published data set, or of one laid out alike.

    Args:
        root: Holds a folder a category, each with `train/good`; or VisA's `split_csv`.

    Returns:
        The folders by name. Of VisA those its table names, present or not.

    Raises:
        DataError: No category, `root` is itself one, or a name that cannot name a bundle.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the one that holds a folder a category")
    if (root / "train").is_dir() or _is_visa_category(root):
        raise DataError(f"{root} is one category: leave --all out, or give {root.parent}")
    found = _inside(root)
    if not found:
        raise DataError(
            f"{root}: no category in it; each is a folder with train/good, or split_csv/1cls.csv "
            f"names them"
        )
    odd = [name for name in found if not CATEGORY.fullmatch(name)]
    if odd:
        raise DataError(f"{root / odd[0]}: rename it with letters, digits, '.', '_' and '-' only")
    return found


def _reader_of_folder(place: Path) -> ReaderName:
    if (place / "groups.csv").is_file():
        return "magnetic_tile"
    if (place / "index.csv").is_file() and (place / "good" / "disp").is_dir():
        return "pothole"
    if (place / "train" / "good" / "rgb").is_dir():
        return "mvtec_3d"
    if (place / "train" / "good").is_dir():
        return "mvtec_loco" if (place / "validation" / "good").is_dir() else "folder"
    if _is_visa_category(place):
        return "visa"
    inside = list(_inside(place))
    if inside:
        more = ", ..." if len(inside) > SEVERAL else ""
        raise DataError(
            f"{place} holds {len(inside)} categories ({', '.join(inside[:SEVERAL])}{more}): give "
            f"one, as in --data {place / inside[0]}, or add --all"
        )
    return "folder"


def _is_visa_category(place: Path) -> bool:
    return (place.parent / TABLE).is_file() and (place / "Data").is_dir()


def _inside(root: Path) -> dict[str, Path]:
    if (root / TABLE).is_file():
        return {name: root / name for name in visa_categories(root)}
    folders = sorted(d for d in root.iterdir() if (d / "train" / "good").is_dir())
    return {folder.name: folder for folder in folders}
