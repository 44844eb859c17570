"""A JSON Lines index of pictures."""

from __future__ import annotations

from pathlib import Path

from loupe_edge.pictures import Picture, read_index
from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError


def jsonl_items(index: Path) -> list[Item]:
    """List the pictures of an index, as `loupe_edge.pictures.read_index` reads it.

    A line without a label says nothing that could be learnt or tested, so it is refused.

    Args:
        index: Its file names are absolute or relative to the file itself.

    Raises:
        BadInputError: Not readable, a line that is not as it should be, or no line at all.
    """
    items = [_item(index, picture) for picture in read_index(index)]
    if not items:
        raise DataError(f"{index}: holds no picture; write one JSON object a line")
    keys = {item.key for item in items}
    if len(keys) < len(items):
        raise DataError(f"{index}: {len(items) - len(keys)} lines name a picture once more")
    recordings = {item.source.name for item in items if item.source.suffix == ".db3"}
    if recordings:
        raise DataError(
            f"{index}: its lines are frames of {', '.join(sorted(recordings))}; give the "
            f"recording itself, or evaluate a run again with `loupe-trainer report RUN`"
        )
    return items


def _item(index: Path, picture: Picture) -> Item:
    """Name a picture by its path from the index where it lies beside it: the set may move."""
    if picture.kind is None:
        raise DataError(
            f"{index}:{picture.line}: no label; write 0 for a good part, 1 for a defect"
        )
    folder = index.parent
    is_beside = picture.file.is_relative_to(folder)
    key = picture.file.relative_to(folder) if is_beside else picture.file
    return Item(
        key=str(key),
        part_id=picture.part,
        kind=picture.kind,
        source=picture.file,
        defect=picture.label_name if picture.kind == "defect" else None,
        mask=picture.mask,
        mask_cut=picture.mask_cut,
    )
