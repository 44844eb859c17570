"""Files beside the recipe that its method's settings name: what comes out rests on them, too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from loupe_models.bundle import file_sha256


def with_named_files(data_sha256: str, settings: Mapping[str, object], folder: Path) -> str:
    """Extend the data's hash by the files that settings name: a teacher, a mask.

    Args:
        data_sha256: Given back as it is where no setting names a file.
        settings: A recipe's `[fit]`; every text in it that leads to a file counts, folders do not.
        folder: Where relative paths start.
    """
    named = [(key, folder / text) for key, text in _texts(settings)]
    lines = [f"{file_sha256(path)}  {key}\n" for key, path in sorted(named) if path.is_file()]
    if not lines:
        return data_sha256
    return hashlib.sha256("".join([f"{data_sha256}\n", *lines]).encode()).hexdigest()


def _texts(settings: Mapping[str, object], within: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, str):
            yield within + key, value
        elif isinstance(value, Mapping):
            yield from _texts(value, f"{within}{key}.")
