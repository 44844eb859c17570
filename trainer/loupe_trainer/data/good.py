"""Pictures of good parts in one folder, and names that give a defect away."""

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


def good_items(root: Path, folder: Path, is_validation: bool = False) -> list[Item]:
    """List the pictures of a folder, each a good part of its own.

    Args:
        root: What keys are relative to.
        folder: Holds nothing but pictures of good parts.
        is_validation: The layout keeps them from fitting.

    Raises:
        BadInputError: No pictures, or some that are named as defects.
    """
    pictures = list_pictures(folder)
    _refuse_defects(folder, pictures)
    return [
        Item(key, part_id=key, kind="good", source=picture, is_validation=is_validation)
        for picture in pictures
        for key in [str(picture.relative_to(root))]
    ]


def only_good(root: Path, name: str) -> Path:
    """Give `<root>/<name>/good`, having made sure that nothing lies beside it.

    Raises:
        DataError: Other kinds of parts among what is learnt from.
    """
    folder = root / name
    strangers = sorted(d.name for d in folder.iterdir() if d.is_dir() and d.name != "good")
    if strangers:
        raise DataError(
            f"{folder}: only good parts are learnt from, but it holds "
            f"{', '.join(strangers[:SEVERAL])}; move them to {root / 'test'}"
        )
    return folder / "good"


def _refuse_defects(folder: Path, pictures: list[Path]) -> None:
    """A defect that is learnt as good is never found again, so a telling name is enough."""
    named = [p.name for p in pictures if DEFECT_WORDS & set(re.split(r"[^a-z]+", p.stem.lower()))]
    if named:
        more = "" if len(named) <= SEVERAL else f" and {len(named) - SEVERAL} more"
        raise DataError(
            f"{folder} must hold good parts only, but these are named as defects: "
            f"{', '.join(named[:SEVERAL])}{more}; move them out, or rename them if they are good"
        )
