"""What exactly is learnt from: every file hashed, identical pictures known for what they are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loupe_models.bundle import file_sha256
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.errors import DataError
from loupe_trainer.progress import Progress
from loupe_trainer.tracked import tracked


@dataclass(frozen=True, slots=True)
class Index:
    """The items of a set and the hash of all that they rest on.

    Attributes:
        data_sha256: Of every file's content and every item's part and truth; where the folder
            lies does not matter.
        sha256: Of each file's content, by its place.
        n_originals: Pictures of which there are copies, and `n_copies` of them.
    """

    items: tuple[Item, ...]
    data_sha256: str
    sha256: Mapping[Path, str]
    n_originals: int
    n_copies: int


def index_data(data: DataSet, progress: Progress) -> Index:
    """Hash every file.

    Byte-identical pictures show one part, whatever they are called, so that no copy of a
    picture that was learnt from can be tested on.

    Raises:
        DataError: Nothing to index, a file cannot be read, or a good picture is a copy of a
            defective one.
    """
    if not data.items:
        raise DataError("the data holds no labelled picture or frame; give a place that does")
    files, sha256 = data.files, dict[str, str]()
    for name, path in tracked(progress, files.items(), "hashing the data", len(files)):
        try:
            sha256[name] = file_sha256(path)
        except OSError as error:
            raise DataError(f"{path}: not readable ({error.strerror}); copy it again") from error
    items = _merge_copies(data.items, sha256)
    digest = hashlib.sha256()
    for name in sorted(sha256):
        digest.update(f"{sha256[name]}  {name}\n".encode())
    for item in sorted(items, key=lambda i: i.key):
        digest.update(f"{item.key}\t{item.part_id}\t{item.kind}\t{item.defect}\n".encode())
    by_place = {path: sha256[name] for name, path in files.items()}
    times = Counter(sha256[item.key] for item in items if item.key in sha256)
    several = [n for n in times.values() if n > 1]
    n_originals = len(several)
    return Index(
        tuple(items), digest.hexdigest(), by_place, n_originals, sum(several) - n_originals
    )


def _merge_copies(items: Sequence[Item], sha256: Mapping[str, str]) -> list[Item]:
    first: dict[str, Item] = {}
    same_part: dict[str, str] = {}
    for item in items:
        content = sha256.get(item.key)
        if content is None:  # a frame of a recording
            continue
        known = first.setdefault(content, item)
        if known.kind != item.kind:
            raise DataError(
                f"{item.source} ({item.kind}) is a copy of {known.source} ({known.kind}): "
                f"remove the one that is labelled wrongly"
            )
        _join(same_part, known.part_id, item.part_id)
    return [replace(item, part_id=_root(same_part, item.part_id)) for item in items]


def _join(same_part: dict[str, str], one: str, other: str) -> None:
    low, high = sorted((_root(same_part, one), _root(same_part, other)))
    if low != high:
        same_part[high] = low


def _root(same_part: Mapping[str, str], part_id: str) -> str:
    while part_id in same_part:
        part_id = same_part[part_id]
    return part_id
