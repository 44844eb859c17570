"""Folders of pictures: good ones alone, or MVTec's train, test and ground_truth."""

from __future__ import annotations

import re
from pathlib import Path

from loupe_edge.pictures import list_pictures
from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError

# Whole words of file names that say the picture does not show a good part.
# fmt: off
DEFECT_WORDS = frozenset({
    "anomalous", "anomaly", "bad", "bent", "blowhole", "break", "broken", "burr", "chip",
    "chipped", "contamination", "crack", "cracked", "damage", "damaged", "defect", "defective",
    "defects", "dent", "dented", "fail", "failed", "faulty", "fray", "missing", "ng", "nok",
    "reject", "rejected", "rust", "scrap", "scratch", "scratched", "stain", "stained", "torn",
    "worn",
})
# fmt: on
SEVERAL = 3  # how many offenders a message names


def folder_items(root: Path, part_pattern: str | None = None) -> list[Item]:
    """List the pictures of a folder.

    Args:
        root: Either holds pictures of good parts, or `train/good` and optionally
            `test/<defect>`, `test/good` and `ground_truth/<defect>/<name>_mask.png`.
        part_pattern: A regular expression whose first group, found in a picture's path relative
            to `root`, names the part; None takes every picture for a part of its own.

    Raises:
        DataError: No pictures, defects among the good, or a pattern that does not fit.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder; give the folder that holds the pictures")
    if not root.is_dir():
        raise DataError(f"{root}: not a folder; give the folder that holds the pictures")
    good = root / "train" / "good"
    items = _mvtec_items(root, good) if good.is_dir() else _plain_items(root)
    return items if part_pattern is None else _with_parts(items, part_pattern)


def _plain_items(root: Path) -> list[Item]:
    inner = sorted(d.name for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    if inner:
        raise DataError(
            f"{root} holds folders ({', '.join(inner[:SEVERAL])}): put pictures of good parts "
            f"straight into one folder, or lay them out as train/good, test/good, test/DEFECT"
        )
    pictures = list_pictures(root)
    _refuse_defects(root, pictures)
    return [_good(root, picture) for picture in pictures]


def _mvtec_items(root: Path, good: Path) -> list[Item]:
    strangers = sorted(d.name for d in good.parent.iterdir() if d.is_dir() and d != good)
    if strangers:
        raise DataError(
            f"{good.parent}: only good parts are learnt from, but it holds "
            f"{', '.join(strangers[:SEVERAL])}; move them to {root / 'test'}"
        )
    pictures = list_pictures(good)
    _refuse_defects(good, pictures)
    items = [_good(root, picture) for picture in pictures]
    test = root / "test"
    kinds = sorted(d for d in test.iterdir() if d.is_dir()) if test.is_dir() else []
    for kind in kinds:
        items += [_test_item(root, kind.name, picture) for picture in list_pictures(kind)]
    return items


def _good(root: Path, picture: Path) -> Item:
    key = str(picture.relative_to(root))
    return Item(key=key, part_id=key, kind="good", source=picture)


def _test_item(root: Path, kind: str, picture: Path) -> Item:
    key = str(picture.relative_to(root))
    is_good = kind == "good"
    mask = root / "ground_truth" / kind / f"{picture.stem}_mask.png"
    return Item(
        key=key,
        part_id=key,
        kind="good" if is_good else "defect",
        source=picture,
        defect=None if is_good else kind,
        mask=mask if mask.is_file() else None,
        is_test_only=True,
    )


def _refuse_defects(folder: Path, pictures: list[Path]) -> None:
    """A defect that is learnt as good is never found again, so a telling name is enough."""
    named = [p.name for p in pictures if DEFECT_WORDS & set(re.split(r"[^a-z]+", p.stem.lower()))]
    if named:
        more = "" if len(named) <= SEVERAL else f" and {len(named) - SEVERAL} more"
        raise DataError(
            f"{folder} must hold good parts only, but these are named as defects: "
            f"{', '.join(named[:SEVERAL])}{more}; move them out, or rename them if they are good"
        )


def _with_parts(items: list[Item], part_pattern: str) -> list[Item]:
    try:
        pattern = re.compile(part_pattern)
    except re.error as error:
        raise DataError(f"data.part_pattern {part_pattern!r}: {error}") from error
    if pattern.groups < 1:
        raise DataError(f"data.part_pattern {part_pattern!r} needs a group in parentheses")
    return [_with_part(item, pattern) for item in items]


def _with_part(item: Item, pattern: re.Pattern[str]) -> Item:
    found = pattern.search(item.key)
    if found is None or not found.group(1):
        raise DataError(f"data.part_pattern {pattern.pattern!r} finds no part in {item.key}")
    return Item(
        item.key, found.group(1), item.kind, item.source, item.defect, item.mask, item.is_test_only
    )
