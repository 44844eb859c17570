"""What the system refuses is told with its file and what to do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from loupe_calibration.errors import BadInputError, FaultError
from loupe_calibration.os_errors import explained


def test_places_that_cannot_be_are_bad_input_and_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    attempts: dict[str, Callable[[], object]] = {
        "file/a: a file stands where": lambda: (tmp_path / "file" / "a").write_text(""),
        "file: exists already": lambda: (tmp_path / "file").mkdir(),
        "a folder stands where": lambda: tmp_path.write_text(""),
        "too long": lambda: (tmp_path / ("x" * 300)).write_text(""),
        "absent: no such file": lambda: (tmp_path / "absent").read_text(),
    }
    for says, attempt in attempts.items():
        with pytest.raises(OSError, match="Errno") as caught:
            attempt()
        told = explained(caught.value)
        assert isinstance(told, BadInputError)
        assert says in str(told)
        assert "Errno" not in str(told)


def test_a_full_disk_and_the_rest_are_faults() -> None:
    full = explained(OSError(errno.ENOSPC, "No space left on device", "/data/a.db3"))
    assert isinstance(full, FaultError)
    assert str(full).startswith("/data/a.db3: the disk is full; free some space")
    copy = OSError(errno.ENOSPC, "No space left on device", "/here/a", None, "/there/a")
    assert str(explained(copy)).startswith("/there/a: the disk is full")
    assert isinstance(explained(OSError(errno.EACCES, "Permission denied")), FaultError)
    torn = explained(OSError(errno.EIO, "Input/output error", "/data/a.db3"))
    assert isinstance(torn, FaultError)
    assert str(torn) == "/data/a.db3: Input/output error"
