"""A folder is one maker's at a time, and a killed maker's is taken over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loupe_models.making import hold, remove_if_left

KILLED = """
import os, signal, sys
from pathlib import Path
from loupe_models.making import hold
folder = Path(sys.argv[1])
hold(folder)
(folder / "inner").mkdir()
(folder / "inner" / "half").write_text("half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_held_folder_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "making"
    handle = hold(folder)
    (folder / "file").write_text("")
    with pytest.raises(BlockingIOError):
        hold(folder)
    remove_if_left(folder)
    assert (folder / "file").exists()
    os.close(handle)
    remove_if_left(folder)
    assert not list(tmp_path.iterdir())


def test_a_killed_makers_folder_is_taken_over_empty(tmp_path: Path) -> None:
    folder = tmp_path / "making"
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=60)
    assert (folder / "inner" / "half").exists()
    handle = hold(folder)
    assert not list(folder.iterdir())
    os.close(handle)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("")
    (tmp_path / "making").symlink_to(tmp_path / "photos")
    with pytest.raises(OSError, match="making"):
        hold(tmp_path / "making")
    assert (tmp_path / "photos" / "a.png").exists()
