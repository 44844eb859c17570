"""One at a time in a run folder, and what a kill leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loupe_trainer import train as training
from loupe_trainer.errors import RunError, TrainingError
from loupe_trainer.places import require_file, require_folder
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import LOCK, RunFolder
from loupe_trainer.train import export_run, train

QUIET = SilentProgress()
HOLDS = """
import sys
from pathlib import Path
from loupe_trainer.run import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_at_once_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    words = [sys.executable, "-c", HOLDS, str(out)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="somebody else is at work"), RunFolder(out).lock():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=20)
    assert (out / LOCK).exists()
    with RunFolder(out).lock():
        assert (out / LOCK).exists()
    assert not out.exists()  # nothing was begun in it
    with RunFolder(tmp_path / "a" / "b").lock():
        assert (tmp_path / "a" / "b" / LOCK).exists()
    assert [f.name for f in tmp_path.iterdir()] == ["runs"]


@pytest.mark.usefixtures("spots")
def test_a_folder_of_other_things_is_left_as_it_is(
    recipe_file: Path, plain_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "letters"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="holds other things"):
        train(recipe_file, out, QUIET, plain_folder)
    assert [f.name for f in out.iterdir()] == ["letter.txt"]


@pytest.mark.usefixtures("spots")
def test_what_a_kill_left_half_made_is_cleared_away(
    recipe_file: Path, plain_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".run.json.ab12cd").write_text("{")
    (out / ".export.xy").mkdir()
    (out / ".export.xy" / "graph.onnx").touch()
    run = train(recipe_file, out, QUIET, plain_folder)
    assert run.bundle.is_dir()
    assert not [f for f in out.iterdir() if f.name.startswith(".") and f.name != LOCK]


@pytest.mark.usefixtures("spots")
def test_a_new_bundle_that_cannot_be_made_leaves_the_old_one(
    recipe_file: Path, plain_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = train(recipe_file, tmp_path / "run", QUIET, plain_folder)
    before = {f.name: f.read_bytes() for f in run.bundle.iterdir() if f.is_file()}

    def fails(*_: object) -> None:
        raise TrainingError("no golden frame")

    with monkeypatch.context() as patch:
        patch.setattr(training, "_golden", fails)
        with pytest.raises(TrainingError):
            export_run(run, None, QUIET)
    assert {f.name: f.read_bytes() for f in run.bundle.iterdir() if f.is_file()} == before
    assert not list(run.path.glob(".bundle.*"))

    renamed = (run.bundle / "manifest.json").stat().st_ino
    assert export_run(run, None, QUIET).path == run.bundle
    assert (run.bundle / "manifest.json").stat().st_ino != renamed
    assert not list(run.path.glob(".bundle.*"))


def test_places_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "a" / "b"):
        require_folder(folder)
        require_file(folder / "t.safetensors")
    require_file(tmp_path / "file")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    long = "n" * 250
    for folder, says in (
        (tmp_path / "file", "is not a folder"),
        (tmp_path / "file" / "run", "file is a file, not a folder"),
        (tmp_path / "link", "is not a folder"),
        (tmp_path / long, "too long"),
        (tmp_path / "a" / long, "too long"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(RunError, match=says):
            require_folder(folder)
    for file, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "t", "file is a file, not a folder"),
        (tmp_path / long, "too long"),
    ):
        with pytest.raises(RunError, match=says):
            require_file(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_is_somebody_elses(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(RunError, match="may not"):
            require_folder(tmp_path / "run")
    finally:
        tmp_path.chmod(0o755)
