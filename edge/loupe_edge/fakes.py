"""Stand-ins for the seams, to try the loop's behaviour where a real device will not misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loupe_edge.errors import EndOfRecordingError
from loupe_edge.protocols import Outputs, Preprocess
from loupe_edge.verdict import Verdict
from loupe_models.frame import Frame
from loupe_models.preprocess import Tensors, preprocess


@dataclass(frozen=True, slots=True)
class ListCounters:
    """Counters of a camera that loses nothing."""

    dropped_frames: int = 0


class ListCamera:
    """Gives frames from a list; an exception in the list is raised when its turn comes.

    Attributes:
        n_opened: How often it was opened.
        is_open: Whether it is.
    """

    def __init__(self, items: Iterable[Frame | Exception]) -> None:
        self._items = iter(items)
        self.n_opened = 0
        self.is_open = False

    @property
    def counters(self) -> ListCounters:
        """Nothing is ever lost."""
        return ListCounters()

    def open(self) -> None:
        """Note that it was opened."""
        self.n_opened += 1
        self.is_open = True

    def read(self) -> Frame:
        """Give the next item; the end of the list is the end of the recording."""
        item = next(self._items, EndOfRecordingError("no more frames"))
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Note that it was closed."""
        self.is_open = False


class FunctionEngine:
    """Answers with whatever a function makes of the tensors that another, or NumPy, prepares."""

    def __init__(
        self, answer: Callable[[Tensors], Outputs], preprocess: Preprocess = preprocess
    ) -> None:
        self._answer = answer
        self.preprocess = preprocess

    def infer(self, tensors: Tensors) -> Outputs:
        """Answer."""
        return self._answer(tensors)

    def close(self) -> None:
        """Nothing to free."""


class ListJournal:
    """Keeps verdicts in memory."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    @property
    def n_owed(self) -> int:
        """Memory takes everything."""
        return 0

    def append(self, verdict: Verdict) -> None:
        """Keep one verdict."""
        self.verdicts.append(verdict)

    def close(self) -> None:
        """Nothing to free."""
