"""How far long work has come: a bar on a terminal, a plain line now and then elsewhere.

Told on the error stream, so that what a command prints stays clean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_LINE_EVERY_S: Final = 5.0

Report = Callable[[int, int], None]
"""Called with what is done and what there is in all, 0 where nobody knows."""


@contextmanager
def progress(name: str) -> Iterator[Report]:
    """Show one piece of long work."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(console, name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(name, total=None)

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total or None)

        yield report


def _plain_lines(console: Console, name: str) -> Report:
    told_at = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal told_at
        is_due = time.monotonic() - told_at >= PLAIN_LINE_EVERY_S
        if is_due or (total and done == total):
            told_at = time.monotonic()
            of_total = f" of {total}" if total else ""
            console.print(f"{name}: {done}{of_total}", markup=False, highlight=False)

    return report
