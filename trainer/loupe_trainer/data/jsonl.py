"""A JSON Lines index of pictures."""

from __future__ import annotations

from pathlib import Path

from loupe_edge.pictures import Picture, read_index
from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError


def jsonl_items(index: Path) -> list[Item]:
    """List the pictures of an index: filename, label, label_name, clsname, maskname, part.

    Args:
        index: Its file names are absolute or relative to the file itself.

    Raises:
        BadInputError: Not readable, a line that is not as it should be, or no line at all.
    """
    pictures = read_index(index)
    if not pictures:
        raise DataError(f"{index}: holds no picture; write one JSON object a line")
    return [_item(index, picture) for picture in pictures]


def _item(index: Path, picture: Picture) -> Item:
    raise NotImplementedError
