"""A recording while it is being written: how much of it has reached the file."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from loupe_calibration.errors import FaultError
from loupe_edge.recording_file import TIMEOUT_S, open_read_only, stream_of

MAX_IN_FLIGHT = 4  # the SDK's writer drops silently when more images than it queues are waiting
POLL_S = 0.001


class WatchedFile:
    """Counts the images that have reached the SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._n_expected = 0
        self._n_seen = 0
        self._last_id = 0

    def expect(self, n_images: int) -> None:
        """Note what was handed over, and wait until only the last few are still on their way."""
        self._n_expected += n_images
        began = time.monotonic()
        while self._n_expected - self._count() > MAX_IN_FLIGHT:
            if time.monotonic() - began > TIMEOUT_S:
                raise FaultError(
                    f"{self._path.name} stopped growing at {self._n_seen} of "
                    f"{self._n_expected} images: is the disk full?"
                )
            time.sleep(POLL_S)

    def check_complete(self) -> None:
        """Count once more, from the beginning.

        Raises:
            FaultError: An image is missing.
        """
        self._last_id = self._n_seen = 0
        if (n := self._count()) != self._n_expected:
            raise FaultError(
                f"{self._path.name} holds {n} of {self._n_expected} images: the recorder lost "
                f"some; record again on a quieter machine, or free some disk"
            )

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _count(self) -> int:
        if self._connection is None:
            self._connection = open_read_only(self._path)
        try:
            rows = self._connection.execute(
                "SELECT m.id, t.name FROM messages m JOIN topics t ON t.id = m.topic_id "
                "WHERE m.id > ? ORDER BY m.id",
                (self._last_id,),
            ).fetchall()
        except sqlite3.Error:  # the tables are not there yet, or a write is under way
            return self._n_seen
        for row_id, topic in rows:
            self._last_id = row_id
            self._n_seen += stream_of(topic) is not None
        return self._n_seen
