"""The run folder: everything one training run leaves behind, and what lets it continue.

run.json           recipe as understood, data hash, code and library versions, seed
split/             fit, quantiles, threshold, test and final as JSON Lines
cache/             preprocessed tensors, by hash
checkpoints/       the method's resumable state, never shipped
metrics.jsonl      one line a log event, appended
looks/             held-out good parts as the networks see them while they learn
export/            each mode's graph, its calibration scores, parity
bundle/            what is shipped
evaluation/        metrics.json, decisions.jsonl, report.html
.loupe.lock        held by whoever is at work here; the kernel lets go of it when that one dies
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from loupe_calibration.errors import BadInputError
from loupe_models.atomic import BEFORE, write_text
from loupe_models.strict_json import loads
from loupe_trainer.errors import RunError
from loupe_trainer.places import require_folder

LOCK = ".loupe.lock"
HALF_MADE = (".run.json.*", ".export.*", ".bundle.*", ".evaluation.*")  # what a kill leaves behind
ABSENT, SEVERAL = "absent", 3  # how a missing key reads, and how many a message names
LIBRARIES = ("numpy", "opencv-python-headless", "torch", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where one run keeps its things.

    Attributes:
        path: The folder; made on first use.
    """

    path: Path

    @property
    def split(self) -> Path:
        """Which part serves what."""
        return self.path / "split"

    @property
    def cache(self) -> Path:
        """Preprocessed tensors; safe to delete."""
        return self.path / "cache"

    @property
    def checkpoints(self) -> Path:
        """The method's own, made on demand."""
        folder = self.path / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def looks(self) -> Path:
        """One sheet an early look."""
        return self.path / "looks"

    @property
    def export(self) -> Path:
        """The graph and what was measured on it."""
        return self.path / "export"

    @property
    def bundle(self) -> Path:
        """What is shipped to a device."""
        return self.path / "bundle"

    @property
    def evaluation(self) -> Path:
        """Metrics, decisions and the report."""
        return self.path / "evaluation"

    def log(self, values: Mapping[str, float | int | str]) -> None:
        """Append one event to `metrics.jsonl`."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(values)) + "\n")

    def rewind(self, step: int) -> None:
        """Take back what was logged after a step, before a loop goes on from there.

        A line that a kill or a power cut left unfinished goes, too.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return
        text = file.read_text(encoding="utf-8")
        kept = "".join(f"{line}\n" for line in text.splitlines() if _is_logged_by(line, step))
        if kept != text:
            write_text(file, kept)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one at work in the folder, which is made where it is missing.

        What a killed run left half made is cleared away. The lock leaves no trace where no run
        was begun.

        Raises:
            RunError: Somebody else is at work here, or the folder cannot be written.
        """
        require_folder(self.path)
        made = [self.path, *(p for p in self.path.parents if not p.exists())]
        self.path.mkdir(parents=True, exist_ok=True)
        handle = self._take_lock()
        try:
            for pattern in HALF_MADE:
                for left in self.path.glob(pattern):
                    if left.suffix != BEFORE:
                        _remove(left)
            yield
        finally:
            if not (self.path / "run.json").exists():
                (self.path / LOCK).unlink(missing_ok=True)
                with suppress(OSError):  # it holds other things
                    for folder in made:
                        folder.rmdir()
            os.close(handle)

    def _take_lock(self) -> int:
        file = self.path / LOCK
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(handle).st_nlink:  # whoever held it took it away
                raise BlockingIOError
        except OSError as error:
            os.close(handle)
            if not isinstance(error, BlockingIOError):
                raise RunError(f"{file}: cannot be locked ({error.strerror}); give --out a disk "
                               f"that can, such as a local one") from error  # fmt: skip
            raise RunError(
                f"{self.path}: somebody else is at work in this run; wait for that to end, or "
                f"give --out another folder"
            ) from error
        return handle

    def claim(
        self, config: Mapping[str, object], recipe_file: Path, place: Path, data_sha256: str
    ) -> None:
        """Take the folder for this recipe and data, or make sure that it already is theirs.

        Args:
            config: The recipe as understood, as JSON would hold it.
            recipe_file: Where it came from, kept so that `export` finds relative paths again.
            place: Where the data lies, kept likewise; it may move between two visits.
            data_sha256: Of everything the run learns from.

        Raises:
            RunError: The folder holds another run.
        """
        file = self.path / "run.json"
        if file.exists():
            self._same_run(config, data_sha256)
            return
        if self.path.exists() and {f.name for f in self.path.iterdir()} - {LOCK}:
            raise RunError(f"{self.path} holds other things; give --out a new or empty folder")
        document = {
            "config": dict(config),
            "recipe_file": str(recipe_file.resolve()),
            "place": str(place.resolve()),
            "data_sha256": data_sha256,
            "code_version": code_version(),
            "versions": versions(),
        }
        write_text(file, json.dumps(document, indent=1) + "\n")

    @contextmanager
    def released_if_refused(self) -> Iterator[None]:
        """Give the folder up again where bad input ends a run before it has learnt anything.

        A mended recipe is another recipe: it could not have the folder otherwise.
        """
        was_claimed = (self.path / "run.json").exists()
        try:
            yield
        except BadInputError:
            kept = self.path.glob("checkpoints/**/*")
            has_learnt = any(file.is_file() for file in kept) or self.export.exists()
            if not was_claimed and not has_learnt:
                for name in ("run.json", "split", "cache", "checkpoints"):
                    _remove_if_there(self.path / name)
            raise

    def read(self) -> dict[str, object]:
        """Give what `claim` wrote.

        Raises:
            RunError: This is not a run folder.
        """
        try:
            document = loads((self.path / "run.json").read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.path}: no readable run.json; give the --out folder of a training run"
            ) from error
        if not isinstance(document, dict):
            raise RunError(f"{self.path / 'run.json'}: not a JSON object")
        return document

    def recall(self) -> tuple[dict[str, object], Path, Path]:
        """Give the recipe as understood, its file, and where the data lay.

        Raises:
            RunError: This is not a run folder.
        """
        document = self.read()
        config = document.get("config")
        recipe_file, place = document.get("recipe_file"), document.get("place")
        if not (
            isinstance(config, dict) and isinstance(recipe_file, str) and isinstance(place, str)
        ):
            raise RunError(f"{self.path / 'run.json'}: damaged; train again with a new --out")
        return config, Path(recipe_file), Path(place)

    def _same_run(self, config: Mapping[str, object], data_sha256: str) -> None:
        before = self.read()
        known = before.get("config")
        if known != dict(config):
            keys = _differing(known if isinstance(known, dict) else {}, config)
            raise RunError(
                f"{self.path} holds a run of another recipe ({keys}); "
                f"give --out a new folder, or delete this one"
            )
        if before.get("data_sha256") != data_sha256:
            raise RunError(
                f"{self.path}: the data changed since this run began, or a file that the recipe "
                f"names did; bring that back, or train a new run"
            )


def _remove(left: Path) -> None:
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left)
    else:
        left.unlink()


def _remove_if_there(left: Path) -> None:
    if left.exists():
        _remove(left)


def _is_logged_by(line: str, step: int) -> bool:
    try:
        event = loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("step", 0) <= step


def code_version() -> str:
    """Give the version, and the commit where the code runs from a checkout."""
    version = metadata.version("loupe")
    here = Path(__file__).resolve().parent
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"],
            capture_output=True, text=True, check=False, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return version
    commit = told.stdout.strip()
    return f"{version}+g{commit}" if told.returncode == 0 and commit else version


def versions() -> dict[str, str]:
    """Give the versions that shape the numbers."""
    return {"python": platform.python_version()} | {n: metadata.version(n) for n in LIBRARIES}


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Name the keys that differ, as a recipe writes them, each with its values before and now."""
    flat_before, flat_now = _flat(before), _flat(now)
    keys = sorted({*flat_before, *flat_now})
    differ = [k for k in keys if flat_before.get(k, ABSENT) != flat_now.get(k, ABSENT)]
    told = [f"{k} was {flat_before.get(k, ABSENT)}, is {flat_now.get(k, ABSENT)}" for k in differ]
    more = f"; and {len(told) - SEVERAL} more" if len(told) > SEVERAL else ""
    return "; ".join(told[:SEVERAL]) + more


def _flat(config: Mapping[str, object], within: str = "") -> dict[str, str]:
    told: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            told |= _flat(value, f"{within}{key}.")
        else:
            told[f"{within}{key}"] = json.dumps(value, ensure_ascii=False)
    return told
