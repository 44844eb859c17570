"""Folders of pictures: good ones alone, or MVTec AD's train, test and ground_truth."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from loupe_trainer.data.good import SEVERAL, good_items
from loupe_trainer.data.item import Item
from loupe_trainer.data.kinds import kinds_folder, kinds_items
from loupe_trainer.data.mvtec import mvtec_items
from loupe_trainer.errors import DataError


def folder_items(
    root: Path, part_pattern: str | None = None, is_for_test: bool = False
) -> list[Item]:
    """List the pictures of a folder.

    Args:
        root: Either holds pictures of good parts, or is laid out as MVTec AD.
        part_pattern: A regular expression whose first group, found in a picture's path relative
            to `root`, names the part; None takes every picture for a part of its own.
        is_for_test: Nothing is learnt from it: `test` alone will do, or `good` beside defects.

    Raises:
        DataError: No pictures, defects among the good, or a pattern that does not fit.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder; give the folder that holds the pictures")
    if not root.is_dir():
        raise DataError(f"{root}: not a folder; give the folder that holds the pictures")
    is_mvtec = (root / "train" / "good").is_dir()
    kinds = kinds_folder(root) if is_for_test else None
    if kinds is not None:
        items = kinds_items(root, kinds)
    else:
        items = mvtec_items(root) if is_mvtec else _plain_items(root, is_for_test)
    return items if part_pattern is None else _with_parts(items, part_pattern)


def _plain_items(root: Path, is_for_test: bool) -> list[Item]:
    inner = sorted(d.name for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    if inner and is_for_test:
        raise DataError(
            f"{root} holds folders ({', '.join(inner[:SEVERAL])}), none of them called good: put "
            f"good parts into good and each kind of defect into a folder of its name, or name the "
            f"pictures in a .jsonl index"
        )
    if inner:
        raise DataError(
            f"{root} holds folders ({', '.join(inner[:SEVERAL])}): put pictures of good parts "
            f"straight into one folder, or lay them out as train/good, test/good, test/DEFECT"
        )
    return good_items(root, root)


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
    return replace(item, part_id=found.group(1))
