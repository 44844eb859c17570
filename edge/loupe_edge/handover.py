"""From the capture thread to the loop: one slot, newest wins; or, in replay, one slot that waits.

Live, an inspection that falls behind must look at what is on the belt now, so a frame that is
still waiting when the next one comes is dropped and counted. In lock-step the capture waits
instead and nothing is dropped, so that the same recording gives the same verdicts.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from loupe_models.frame import Frame


@dataclass(frozen=True, slots=True)
class Trouble:
    """The camera gave no frame where one was due."""

    reason: str


@dataclass(frozen=True, slots=True)
class Handed:
    """Something handed over, and when, on the monotonic clock."""

    item: Frame | Trouble
    at_ns: int


class HandOver:
    """Holds at most one frame; troubles keep their place in line and are never dropped."""

    def __init__(self, *, lock_step: bool = False) -> None:
        self.lock_step = lock_step
        self._waiting: deque[Handed] = deque()
        self._changed = threading.Condition()
        self._over = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames dropped so far because a newer one came."""
        return self._dropped

    def put(self, item: Frame | Trouble) -> bool:
        """Hand something over; False when the loop has stopped and wants no more."""
        with self._changed:
            if self.lock_step:
                self._changed.wait_for(lambda: self._over or not self._waiting)
            if self._over:
                return False
            if isinstance(item, Frame):
                self._drop_older_frame()
            self._waiting.append(Handed(item, time.monotonic_ns()))
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> Handed | None:
        """Wait for the next item; None when none came in time, or none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or bool(self._waiting), timeout_s)
            if not self._waiting:
                return None
            handed = self._waiting.popleft()
            self._changed.notify_all()
            return handed

    @property
    def is_over(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._over and not self._waiting

    def close(self) -> None:
        """Say that nothing more will come, or nothing more is wanted; wakes both sides."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _drop_older_frame(self) -> None:
        kept = [handed for handed in self._waiting if isinstance(handed.item, Trouble)]
        self._dropped += len(self._waiting) - len(kept)
        self._waiting = deque(kept)
