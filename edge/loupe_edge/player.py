"""The SDK's player of a recording, with its traps fenced in."""

from __future__ import annotations

import threading

from loupe_edge.realsense import SdkObject, load_sdk


class Player:
    """A recording that stands still until it is to run, and is halted before it is let go.

    - It would start with the first stream and run ahead of the others: it is paused at once.
    - `resume` waits for a player that in lock-step waits for whoever reads, for up to 10 s: it
      runs beside the reading.
    - It crashes the process where its streams are stopped while it plays, and where it is freed
      before it has dropped them, which stopping only asks for: it is halted before and after.

    Args:
        device: The SDK's, of a file.
        real_time: Whether it keeps the recorded pace and drops what is not read in time.
    """

    def __init__(self, device: SdkObject, *, real_time: bool) -> None:
        self._device = device
        self._resuming: threading.Thread | None = None
        device.set_real_time(real_time)
        device.pause()

    def play(self) -> None:
        """Let it run."""
        self._resuming = threading.Thread(
            target=self._device.resume, name="camera-resume", daemon=True
        )
        self._resuming.start()

    def is_over(self) -> bool:
        """Whether it has been played; images may still be on their way from it."""
        return bool(self._device.current_status() == load_sdk().playback_status.stopped)

    def halt(self) -> None:
        """Wait until it has begun, for `resume` after `pause` would undo it, and then pause it.

        In lock-step this waits for whoever reads.
        """
        if self._resuming is not None:
            self._resuming.join()
        self._device.pause()
