"""Iterating with a progress bar."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

from loupe_trainer.progress import Progress

T = TypeVar("T")


def tracked(
    progress: Progress, things: Iterable[T], name: str, total: int
) -> Generator[T, None, None]:
    """Pass things on, one step of a task each."""
    with progress.task(name, total) as task:
        for thing in things:
            yield thing
            task.advance()
