"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from loupe_models import atomic
from loupe_models.atomic import put_folder, write_bytes, write_text


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.json"
    write_text(target, "ä")
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError, match="taken"):
        write_bytes(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def _folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / content).touch()
    return path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "RENAME_EXCHANGE", 1 << 20)  # refused by every kernel
    place = tmp_path / "place"
    put_folder(_folder(tmp_path / "a", "first"), place)
    put_folder(_folder(tmp_path / "b", "second"), place)
    assert [f.name for f in place.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [place]

    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    put_folder(_folder(tmp_path / "c", "third"), place)
    assert [f.name for f in place.iterdir()] == ["third"]
    assert not place.is_symlink()
    assert [f.name for f in (tmp_path / "elsewhere").iterdir()] == ["second"]


def test_a_failed_write_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as told:
        write_bytes(tmp_path / "file" / "a.json", b"new")
    target = tmp_path / ("n" * 255)  # too long once a temporary name is made of it
    with pytest.raises(OSError, match="too long") as told:
        write_bytes(target, b"new")
    assert told.value.filename == str(target)
