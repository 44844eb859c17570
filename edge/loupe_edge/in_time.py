"""Starting and stopping what the SDK may hang in, in bounded time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import CameraError, RecordingError

STOP_TIMEOUT_S = 2.0

Outcome = TypeVar("Outcome")


def started_or_raise(
    outcome: Outcome | RuntimeError | CameraError | None, settings: CameraSettings
) -> Outcome:
    """Give what a start led to.

    Args:
        outcome: None where it led to nothing in time, the SDK's or our own error where it failed.
        settings: Name the camera or recording in the message.

    Raises:
        CameraError: It did not start in time, or at all.
        RecordingError: The SDK refuses the recording.
    """
    what = settings.recording or f"camera {settings.serial}"
    if outcome is None:
        raise CameraError(f"{what} did not start within {settings.start_timeout_s} s")
    if isinstance(outcome, CameraError):
        raise outcome
    if isinstance(outcome, RuntimeError):
        reason = str(outcome).strip()
        if settings.recording is not None:
            raise RecordingError(f"{what}: cannot be played ({reason}); record it again")
        raise CameraError(f"{what}: {reason}")
    return outcome


def stop_in_time(stop: Callable[[], None]) -> None:
    """Stop in a thread that is waited for only so long.

    Raises:
        CameraError: The SDK hangs; only the end of the process helps.
    """
    thread = threading.Thread(target=stop, name="camera-stop", daemon=True)
    thread.start()
    thread.join(STOP_TIMEOUT_S)
    if thread.is_alive():
        raise CameraError(
            f"the camera did not stop within {STOP_TIMEOUT_S} s: end this process and start "
            f"it again"
        )
