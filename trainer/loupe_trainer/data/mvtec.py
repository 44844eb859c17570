"""One category of MVTec AD or MVTec LOCO AD, as downloaded; every picture is a part of its own.

MVTec AD: Bergmann et al., CVPR 2019. MVTec LOCO AD: Bergmann et al., IJCV 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from loupe_edge.pictures import MASK_CUT, list_pictures
from loupe_trainer.data.good import good_items, only_good
from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError

GOOD = "good"
MaskOf = Callable[[Path, str, Path], Path]  # of root, kind and picture


def mvtec_items(root: Path) -> list[Item]:
    """List `train/good`, `test/<kind>` and `ground_truth/<kind>/<name>_mask.png`.

    The published test set is the test set; whoever learns divides `train/good`. A folder of one's
    own may lack `test`, or `ground_truth`.

    Raises:
        DataError: Defects among the good, or masks for some of the defects only.
    """
    items = good_items(root, only_good(root, "train"))
    if not (root / "test").is_dir():
        return items
    return items + _tested(root, _drawn(root, _mask_file))


def mvtec_loco_items(root: Path) -> list[Item]:
    """List `train/good`, `validation/good`, `test/<kind>` and `ground_truth/<kind>/<name>/*.png`.

    A picture has one mask a defect, and its grey value names the kind of defect. Here they are
    united into one binary mask: it serves AUROC and AU-PRO. The saturated overlap (sPRO) that the
    data's authors propose, which needs each mask by itself and `defects_config.json`, is not
    computed, so that no figure here compares with a published sPRO.

    Raises:
        DataError: Defects among the good, no test set, or a defect without masks.
    """
    learnt = good_items(root, only_good(root, "train"))
    held = good_items(root, only_good(root, "validation"), is_validation=True)
    if not (root / "test").is_dir():
        raise DataError(f"{root}: no folder test beside train and validation; extract it again")
    return learnt + held + _tested(root, _drawn(root, _mask_folder), mask_cut=0)


def tested_item(root: Path, picture: Path, kind: str, mask: Path | None, mask_cut: int) -> Item:
    """Make an item of the published test set; `kind` is `good` or the defect's name."""
    key = str(picture.relative_to(root))
    is_good = kind == GOOD
    return Item(
        key=key, part_id=key, kind="good" if is_good else "defect", source=picture,
        defect=None if is_good else kind, mask=None if is_good else mask, is_test_only=True,
        mask_cut=mask_cut,
    )  # fmt: skip


def refuse_undrawn(root: Path, items: Sequence[Item]) -> None:
    """Make sure that every defect has its mask: pixel metrics of the rest would mislead.

    Raises:
        DataError: A defect's mask is missing.
    """
    bare = [i for i in items if i.kind == "defect" and not (i.mask and i.mask.exists())]
    if bare:
        raise DataError(
            f"{root}: {len(bare)} of its defects have no mask, such as {bare[0].key}, whose mask "
            f"should be {bare[0].mask}: extract the data again, or draw what is missing"
        )


def _tested(root: Path, mask_of: MaskOf | None, mask_cut: int = MASK_CUT) -> list[Item]:
    items = [
        tested_item(
            root, picture, kind.name, mask_of and mask_of(root, kind.name, picture), mask_cut
        )
        for kind in sorted(d for d in (root / "test").iterdir() if d.is_dir())
        for picture in list_pictures(kind)
    ]
    if mask_of is not None:
        refuse_undrawn(root, items)
    return items


def _drawn(root: Path, mask_of: MaskOf) -> MaskOf | None:
    """Without a `ground_truth` nobody drew masks, and pixels are not evaluated."""
    return mask_of if (root / "ground_truth").is_dir() else None


def _mask_file(root: Path, kind: str, picture: Path) -> Path:
    return root / "ground_truth" / kind / f"{picture.stem}_mask.png"


def _mask_folder(root: Path, kind: str, picture: Path) -> Path:
    return root / "ground_truth" / kind / picture.stem
