"""Files beside the recipe that its method's settings name: what comes out rests on them, too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from loupe_models.bundle import file_sha256
from loupe_trainer.backbones.hugging_face import CONFIG, PREPROCESSING, WEIGHTS


def with_named_files(data_sha256: str, settings: Mapping[str, object], folder: Path) -> str:
    """Extend the data's hash by the files that settings name: a teacher, a mask.

    Args:
        data_sha256: Given back as it is where no setting names a file.
        settings: A recipe's `[fit]`; every text in it that leads to a file counts, and of a folder
            as the Hugging Face hub lays it out what is read of it. A folder of pictures does not:
            a corpus may be larger than everything else.
        folder: Where relative paths start.
    """
    named = [file for key, text in _texts(settings) for file in _files(key, folder / text)]
    lines = [f"{file_sha256(path)}  {key}\n" for key, path in sorted(named) if path.is_file()]
    if not lines:
        return data_sha256
    return hashlib.sha256("".join([f"{data_sha256}\n", *lines]).encode()).hexdigest()


def _files(key: str, path: Path) -> list[tuple[str, Path]]:
    if not path.is_dir():
        return [(key, path)]
    return [(f"{key}/{name}", path / name) for name in (CONFIG, PREPROCESSING, WEIGHTS)]


def _texts(settings: Mapping[str, object], within: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, str):
            yield within + key, value
        elif isinstance(value, Mapping):
            yield from _texts(value, f"{within}{key}.")
