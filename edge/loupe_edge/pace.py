"""Whether a station kept up with its camera."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from loupe_edge.inspector import Inspection
from loupe_models.frame import Frame

N_TIMES: Final = 10_000  # the latest ones: a station may run for months
MOST_DROPPED: Final = 0.1  # of all frames; beyond it, parts may have passed between two looks


@dataclass(slots=True)
class Pace:
    """Frames looked at and not, and how long a look took.

    Attributes:
        n_verdicts: Said; known at the end.
        n_looked: Frames that were looked at, with a part or without.
        n_dropped: Frames that nobody looked at; known at the end.
    """

    n_verdicts: int = 0
    n_looked: int = 0
    n_dropped: int = 0
    _look_us: deque[int] = field(default_factory=lambda: deque(maxlen=N_TIMES))
    _infer_us: deque[int] = field(default_factory=lambda: deque(maxlen=N_TIMES))
    _first: tuple[int, int] = (0, 0)  # number and nanosecond of a frame
    _last: tuple[int, int] = (0, 0)

    def count(self, frame: Frame, found: Inspection | None) -> None:
        """Count a frame that was looked at, and what the look took where there was a part."""
        self.n_looked += 1
        stamp = (frame.frame_id, frame.camera_time.ns)
        if self.n_looked == 1 or stamp <= self._last:  # a camera opened again counts anew
            self._first = stamp
        self._last = stamp
        if found is not None and "infer" in found.stage_us:
            self._look_us.append(sum(found.stage_us.values()))
            self._infer_us.append(found.stage_us["infer"])

    @property
    def is_behind(self) -> bool:
        """Whether more frames were dropped than a station that keeps up would drop."""
        return self.n_dropped > MOST_DROPPED * (self.n_looked + self.n_dropped)

    @property
    def told(self) -> str:
        """Say in one line what was said and dropped, and where that is too much, why."""
        if not self.is_behind:
            return f"{self.n_verdicts} verdicts, {self.n_dropped} frames dropped"
        n_frames = self.n_looked + self.n_dropped
        line = f"{self.n_verdicts} verdicts, {self.n_dropped} of {n_frames} frames dropped"
        if self._look_us:
            look_ms, infer_ms = np.median(self._look_us) / 1e3, np.median(self._infer_us) / 1e3
            line += f": a look takes {look_ms:.0f} ms at p50, of it inference {infer_ms:.0f} ms"
        (first, first_ns), (last, last_ns) = self._first, self._last
        if last > first:
            every_ms = (last_ns - first_ns) / (last - first) / 1e6
            line += f"; the camera gives a frame every {every_ms:.0f} ms"
        return line
