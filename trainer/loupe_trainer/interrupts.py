"""Ctrl-C in a training loop: the step is ended and saved first, so that nothing is done twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Held:
    """Whether somebody asked to stop: the loop looks after each step, saves, and stops."""

    is_asked = False


@contextmanager
def held_interrupts() -> Iterator[Held]:
    """Hold the first Ctrl-C back until the loop's step is whole; a second one stops at once.

    Elsewhere than in the main thread, which alone is interrupted, this does nothing.
    """
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return

    def hold(_number: int, _frame: FrameType | None) -> None:
        if held.is_asked:
            raise KeyboardInterrupt
        held.is_asked = True

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, before)
