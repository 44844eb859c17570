"""`loupe-edge` in a process of its own."""

from __future__ import annotations

import sys


def command(*words: str) -> list[str]:
    """Give what runs `loupe-edge` with these words."""
    return [sys.executable, "-c", "from loupe_edge.cli import main; main()", *words]
