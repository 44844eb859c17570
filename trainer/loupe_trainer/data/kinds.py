"""Pictures sorted by what they show, for a test alone: nothing here is ever learnt from."""

from __future__ import annotations

from pathlib import Path

from loupe_edge.pictures import MASK_CUT, list_pictures
from loupe_trainer.data.item import Item
from loupe_trainer.data.mvtec import GOOD, refuse_undrawn, tested_item
from loupe_trainer.errors import DataError

TEST, TRUTH = "test", "ground_truth"


def kinds_folder(root: Path) -> Path | None:
    """Find the folder that holds a folder a kind: `root/test`, or `root` where it holds `good`.

    None where the place is laid out otherwise, or holds a training set too.
    """
    if (root / "train").is_dir():
        return None
    if (root / TEST).is_dir():
        return root / TEST
    return root if (root / GOOD).is_dir() else None


def kinds_items(root: Path, kinds: Path) -> list[Item]:
    """List `good` and a folder each defect, with masks `ground_truth/<kind>/<name>_mask.png`.

    The masks' folder lies beside the kinds or, where these are in a folder `test`, beside that.

    Args:
        root: What keys are relative to.
        kinds: From `kinds_folder`.

    Raises:
        BadInputError: No kind, a kind without a picture, or masks for some of the defects only.
    """
    named = sorted(
        d for d in kinds.iterdir()
        if d.is_dir() and d.name != TRUTH and not d.name.startswith(".")
    )  # fmt: skip
    if not named:
        raise DataError(
            f"{kinds}: no folder in it; put good parts into good and each kind of defect into a "
            f"folder of its name"
        )
    beside = [kinds / TRUTH, *([kinds.parent / TRUTH] if kinds.name == TEST else [])]
    truth = next((folder for folder in beside if folder.is_dir()), None)
    items = [
        tested_item(root, picture, kind.name, truth and _mask(truth, kind.name, picture), MASK_CUT)
        for kind in named
        for picture in list_pictures(kind)
    ]
    if truth is not None:
        refuse_undrawn(root, items)
    return items


def _mask(truth: Path, kind: str, picture: Path) -> Path:
    return truth / kind / f"{picture.stem}_mask.png"
