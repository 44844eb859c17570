"""How long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Collects durations by stage, in whole microseconds of the monotonic clock."""

    def __init__(self) -> None:
        self.stage_us: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block, also when it raises."""
        start_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            self.stage_us[name] = (time.perf_counter_ns() - start_ns) // 1000
