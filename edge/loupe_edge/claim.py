"""The name of a recording, taken by one process, until the recording stands there whole."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from loupe_edge.errors import RecordingError
from loupe_edge.labels import belt_path, labels_path, masks_path
from loupe_models.bundle import refuse_inside_bundle
from loupe_models.making import hold


class Claim:
    """A hidden folder beside a recording's place, in which the recording is made.

    What a killed process left under the same name is cleared.

    Attributes:
        making: Where to write the recording; labels, masks and belt go beside it.

    Raises:
        RecordingError: The name does not end in `.db3`, anything of a recording stands there, or
            another process is at work on it.
        BundleError: The recording would lie in a bundle.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".db3":
            raise RecordingError(f"{path}: a recording's name ends in .db3 (.bag is no more)")
        refuse_inside_bundle(path)
        self.path = path
        self._folder = path.parent / f".{path.name}.making"
        self.making = self._folder / path.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle: int | None = hold(self._folder)
        except BlockingIOError as error:
            raise RecordingError(
                f"{path}: another process is writing it; choose another name, or wait for its end"
            ) from error
        except OSError as error:
            raise RecordingError(f"{path}: cannot be written there: {error.strerror}") from error
        try:
            self._refuse_taken()
        except RecordingError:
            self.give_up()
            raise

    def put_in_place(self) -> None:
        """Move the recording last: where it stands, what is beside it stands too.

        Raises:
            RecordingError: Something has come to stand there meanwhile; it is left alone.
        """
        self._refuse_taken()
        with ExitStack() as undo:
            for target in _places(self.path)[::-1]:
                source = self._folder / target.name
                if source.exists():
                    source.rename(target)
                    undo.callback(target.rename, source)
            undo.pop_all()

    def give_up(self) -> None:
        """Let go of the name and remove what is not in place; safe to call twice."""
        if self._handle is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._handle)
        self._handle = None

    def _refuse_taken(self) -> None:
        taken = [place.name for place in _places(self.path) if os.path.lexists(place)]
        if taken:
            raise RecordingError(
                f"{self.path}: {', '.join(taken)} exists there; choose another name, or remove "
                f"it first"
            )


def _places(recording: Path) -> list[Path]:
    beside = [labels_path(recording), masks_path(recording), belt_path(recording)]
    return [recording, *beside]
