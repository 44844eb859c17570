"""What the fixture `typed` gives: a command typed in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Typed(Protocol):
    def __call__(self, *words: str | Path) -> tuple[str | int, str]:
        """Type `loupe-trainer` and these words; gives the status, and all that was written."""
