"""How long work is shown: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBars

PLAIN_LINE_EVERY_S = 5.0

T = TypeVar("T")


class Task(Protocol):
    """One piece of long work."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Say that `n` more are done; `note` is shown beside the bar."""
        ...


class Progress(ABC):
    """Shows tasks, one after the other."""

    @abstractmethod
    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Task]:
        """Begin a task; `done` is what an earlier run already did."""

    def track(self, items: Iterable[T], name: str, total: int | None = None) -> Iterator[T]:
        """Pass items on, one step each; `total` where they have no length."""
        n = total if total is not None else len(items) if isinstance(items, Sized) else 0
        with self.task(name, n) as task:
            for item in items:
                yield item
                task.advance()


def open_progress() -> Progress:
    """Give bars where somebody watches a terminal, else plain lines."""
    return BarProgress() if sys.stdout.isatty() else LineProgress()


class SilentProgress(Progress):
    """Shows nothing."""

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:  # noqa: ARG002
        """Begin a task that nobody watches."""
        yield _SilentTask()


class _SilentTask:
    def advance(self, n: int = 1, note: str = "") -> None:
        """Do nothing."""


class BarProgress(Progress):
    """Rich's bars with the remaining time."""

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """Begin a task with a bar of its own."""
        bars = RichBars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with bars:
            yield _BarTask(bars, bars.add_task(name, total=total, completed=done, note=""))


class _BarTask:
    def __init__(self, bars: RichBars, task_id: TaskID) -> None:
        self._bars, self._id = bars, task_id

    def advance(self, n: int = 1, note: str = "") -> None:
        self._bars.update(self._id, advance=n, note=note)


class LineProgress(Progress):
    """A line every few seconds, for logs and pipes."""

    def __init__(self, every_s: float = PLAIN_LINE_EVERY_S) -> None:
        self._every_s = every_s
        self._console = Console(soft_wrap=True, highlight=False, markup=False)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """Begin a task; its first and last steps are always told."""
        task = _LineTask(self._console, self._every_s, name, (done, total))
        yield task
        task.close()


class _LineTask:
    def __init__(
        self, console: Console, every_s: float, name: str, done_of_total: tuple[int, int]
    ) -> None:
        self._console, self._every_s, self._name = console, every_s, name
        self._done, self._total = done_of_total
        self._done_at_first = self._done
        self._began = self._told = time.monotonic()
        self._note = ""

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        self._note = note or self._note
        now = time.monotonic()
        if now - self._told >= self._every_s:
            self._told = now
            per_step_s = (now - self._began) / max(self._done - self._done_at_first, 1)
            left_s = per_step_s * (self._total - self._done)
            self._tell(f"{_clock(left_s)} left")

    def close(self) -> None:
        """Tell the end, which came whether or not a line was due."""
        self._tell(f"took {_clock(time.monotonic() - self._began)}")

    def _tell(self, when: str) -> None:
        note = f", {self._note}" if self._note else ""
        self._console.print(f"{self._name}: {self._done}/{self._total}, {when}{note}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
