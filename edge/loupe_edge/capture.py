"""The capture thread: reads the camera, and climbs a short ladder when it gives no frame.

Read again, then close and open again with growing pauses, then give up: the process ends with
the camera's error and is started afresh from outside.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from loupe_edge.errors import CameraError, EndOfRecordingError
from loupe_edge.handover import HandOver, Trouble
from loupe_edge.health import Health
from loupe_edge.protocols import Camera
from loupe_models.frame import Frame

CLOSE_TIMEOUT_S = 2.0
STDERR_FD = 2
STOP_TIMEOUT_S = 30.0  # longer than any bounded open, read and close together

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ladder:
    """How often to try again before giving up.

    Attributes:
        reads: Failed reads in a row before the camera is closed and opened again.
        reopens: Times it is opened again, without one frame in between; 0 for a recording,
            which would begin anew.
        first_wait_s: Pause before the first opening; it doubles each time.
    """

    reads: int = 3
    reopens: int = 5
    first_wait_s: float = 0.5


class Capture:
    """Owns the camera, in a thread of its own, and ends with whatever ended the camera."""

    def __init__(self, camera: Camera, hand_over: HandOver, health: Health, ladder: Ladder) -> None:
        self._camera = camera
        self._hand_over = hand_over
        self._health = health
        self._ladder = ladder
        self._stop = threading.Event()
        self._is_open = False
        self._n_failed_reads = 0
        self._n_reopens = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="capture")
        self._outcome = self._executor.submit(self._run)

    def finish(self) -> None:
        """Wait for the thread, and raise what ended it, if it was not the recording's end.

        Raises:
            CameraError: The camera gave no frame, however often it was opened.
            RecordingError: The recording cannot be used.
        """
        self._outcome.result()

    def stop(self) -> None:
        """End the thread and close the camera; a camera that hangs ends the process."""
        self._stop.set()
        self._hand_over.close()
        self._executor.shutdown(wait=False)
        try:
            self._outcome.exception(STOP_TIMEOUT_S)
        except FutureTimeoutError:
            log.critical("the camera has hung for %.0f s: ending the process", STOP_TIMEOUT_S)
            os._exit(1)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._health.moved("capture")
                frame = self._next()
                if frame is not None and not self._hand_over.put(frame):
                    return
        except EndOfRecordingError:
            log.info("the recording is over")
        finally:
            self._close()
            self._health.rest("capture")
            self._hand_over.close()

    def _next(self) -> Frame | None:
        try:
            if not self._is_open:
                self._camera.open()
                self._is_open = True
            frame = self._camera.read()
        except CameraError as error:
            self._climb(error)
            return None
        self._n_failed_reads = self._n_reopens = 0
        self._health.heal("camera")
        return frame

    def _climb(self, error: CameraError) -> None:
        self._hand_over.put(Trouble(str(error)))
        self._n_failed_reads += 1
        if self._is_open and self._n_failed_reads < self._ladder.reads:
            self._health.ail("camera", "degraded", str(error))
            return
        self._health.ail("camera", "fault", str(error))
        if self._n_reopens >= self._ladder.reopens:
            raise error
        self._close()
        self._stop.wait(self._ladder.first_wait_s * 2**self._n_reopens)
        self._n_reopens += 1
        self._n_failed_reads = 0

    def _close(self) -> None:
        """Close the camera; librealsense's stop can hang for good, and then nothing else helps.

        The timer is the interpreter's own: it fires even where a native call holds the lock that
        Python threads need, writes every thread's traceback, and ends the process.
        """
        self._is_open = False
        faulthandler.dump_traceback_later(CLOSE_TIMEOUT_S, exit=True, file=STDERR_FD)
        try:
            self._camera.close()
        finally:
            faulthandler.cancel_dump_traceback_later()
