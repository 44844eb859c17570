"""What was said, kept: one JSON object a line, appended, never rewritten."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from loupe_edge.errors import JournalError, StationError
from loupe_edge.verdict import Verdict

MAX_OWED = 10_000  # lines kept in memory while the disk refuses them: minutes of a fast line
TAIL_BYTES = 1 << 16

log = logging.getLogger(__name__)


class JsonlJournal:
    """An append-only JSON Lines file that survives a kill at any moment and a full disk.

    Each line is one write of the whole line, so only a power cut or a full disk can tear it. A
    torn line is closed off with a newline and stays where it is; nothing is ever overwritten.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            JournalError: It cannot be opened.
            StationError: Another process writes it.
        """
        self.path = path
        self._owed: deque[bytes] = deque(maxlen=MAX_OWED)
        self._n_forgotten = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._torn = _ends_torn(path)
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise JournalError(f"journal {path}: {error.strerror}") from error
        _hold(self._file, path)

    def append(self, verdict: Verdict) -> None:
        """Keep one verdict, and whatever earlier ones the disk refused.

        Raises:
            JournalError: The disk refuses; the verdict is kept in memory and tried again with
                the next one.
        """
        self._n_forgotten += len(self._owed) == MAX_OWED  # the oldest makes room
        self._owed.append(verdict.model_dump_json(by_alias=True).encode() + b"\n")
        try:
            self._pay()
        except OSError as error:
            raise JournalError(
                f"journal {self.path}: {error.strerror}, {len(self._owed)} verdicts wait in "
                f"memory; free some space"
            ) from error

    @property
    def n_owed(self) -> int:
        """Verdicts that are not on the disk: still in memory, or forgotten for want of room."""
        return self._n_forgotten + len(self._owed)

    def close(self) -> None:
        """Write what is owed, flush to the disk and free the file; safe to call twice."""
        if self._file is None:
            return
        try:
            self._pay()
            os.fsync(self._file)
        except OSError as error:
            log.error(  # noqa: TRY400  (the disk's own words say all there is to say)
                "journal %s: %s; %d verdicts were never kept",
                self.path,
                error.strerror,
                self.n_owed,
            )
        os.close(self._file)
        self._file = None

    def _pay(self) -> None:
        while self._owed:
            self._write(self._owed[0])
            self._owed.popleft()

    def _write(self, line: bytes) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "the journal is closed")
        whole = b"\n" + line if self._torn else line
        written = os.write(self._file, whole)
        if written < len(whole):
            self._torn = True
            raise OSError(errno.ENOSPC, "no space left for a whole line")
        self._torn = False


def _hold(file: int, path: Path) -> None:
    """Keep other processes from writing it as long as it is open here."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise StationError(
            f"journal.path: {path} is being written by another station; is this one running "
            f"already? stop it, or choose another file"
        ) from error


def read_journal(path: Path) -> Iterator[Verdict]:
    """Yield the verdicts of a journal, passing over lines that a power cut or full disk tore."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield Verdict.model_validate_json(line)
            except ValidationError:
                continue


def last_epoch(path: Path) -> int:
    """Give the epoch of the journal's last whole verdict, 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        tail = stream.read(TAIL_BYTES).split(b"\n")
    for line in reversed(tail):
        try:
            return Verdict.model_validate_json(line).epoch
        except ValidationError:
            continue
    return 0


def _ends_torn(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"
