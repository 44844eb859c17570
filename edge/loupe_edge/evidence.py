"""Pictures of whatever was not good, in a folder that never outgrows its limits.

`FOLDER/<epoch>-<seq>/` holds `verdict.json`, `overlay.png`, and the region as the camera saw it:
`rgb.png`, and `depth.png` (16 bit, device units) where there is depth. The oldest go first.
Whatever else lies in the folder is not ours: neither counted nor touched.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loupe_edge.aggregate import Look
from loupe_edge.errors import EvidenceError
from loupe_edge.overlays import MapScale, draw_overlay
from loupe_edge.verdict import Verdict
from loupe_models.making import hold, remove_if_left
from loupe_models.png import FASTEST, png_bytes

MAKING: Final = ".making-"
ENTRY: Final = re.compile(r"\d{20}-\d{8,}", re.ASCII)


class EvidenceFolder:
    """Keeps the newest evidence within a count and a size; each entry appears whole or not."""

    def __init__(
        self, folder: Path, scales: Mapping[str, MapScale], max_count: int, max_mb: int
    ) -> None:
        """Open the folder and clear what an interrupted run left half-written.

        Args:
            folder: Of this station alone.
            scales: By mode, for the overlays.
            max_count: Entries kept.
            max_mb: Megabytes kept.

        Raises:
            EvidenceError: The folder cannot be made or read.
        """
        self.folder = folder
        self._scales = scales
        self._max_count = max_count
        self._max_bytes = max_mb * 1_000_000
        try:
            folder.mkdir(parents=True, exist_ok=True)
            own = [entry for entry in folder.iterdir() if _is_own(entry)]
            for leftover in own:
                if leftover.name.startswith(MAKING):
                    remove_if_left(leftover)  # another station may be at work in here
            kept = sorted(entry for entry in own if not entry.name.startswith(MAKING))
            self._kept = deque((entry.name, _size(entry)) for entry in kept)
        except OSError as error:
            raise EvidenceError(f"record.folder {folder}: {error.strerror}") from error

    def record(self, look: Look, verdict: Verdict) -> None:
        """Keep the evidence of one verdict; good ones need none.

        Raises:
            EvidenceError: The disk does not take it.
        """
        if verdict.decision == "good":
            return
        name = f"{verdict.epoch:020d}-{verdict.seq:08d}"
        files = self._files(look, verdict)
        size = sum(len(content) for content in files.values())
        self._make_room(size)
        try:
            try:
                self._write(name, files)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._kept:
                    raise
                self._drop(size)  # the disk is full below our limit: the newest matters most
                self._write(name, files)
        except OSError as error:
            raise EvidenceError(
                f"record.folder {self.folder}: {error.strerror or error}; free some space"
            ) from error
        self._kept.append((name, size))

    def _files(self, look: Look, verdict: Verdict) -> Mapping[str, bytes]:
        frame, found = look.frame, look.inspection
        x, y, width, height = found.region
        window = (slice(y, y + height), slice(x, x + width))
        title = f"{verdict.station} #{verdict.seq}"
        overlay = draw_overlay(frame, found, self._scales[found.mode], title)
        files = {"overlay.png": png_bytes(overlay[..., ::-1], FASTEST)}
        if frame.rgb is not None:
            files["rgb.png"] = png_bytes(frame.rgb[window][..., ::-1], FASTEST)
        if frame.depth is not None:
            files["depth.png"] = png_bytes(frame.depth[window], FASTEST)
        text = verdict.model_dump_json(by_alias=True, indent=1) + "\n"
        return files | {"verdict.json": text.encode("utf-8")}

    def _write(self, name: str, files: Mapping[str, bytes]) -> None:
        making = self.folder / f"{MAKING}{name}"
        handle = hold(making)
        try:
            for file, content in files.items():
                (making / file).write_bytes(content)
            making.rename(self.folder / name)
        finally:
            shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place
            os.close(handle)

    def _make_room(self, size: int) -> None:
        total = sum(kept for _, kept in self._kept) + size
        over = total - self._max_bytes
        if over > 0:
            self._drop(over)
        while len(self._kept) >= self._max_count:
            self._drop(1)

    def _drop(self, size: int) -> None:
        """Remove the oldest entries, as many as hold that many bytes."""
        while self._kept and size > 0:
            name, freed = self._kept.popleft()
            shutil.rmtree(self.folder / name, ignore_errors=True)
            size -= freed


def _is_own(entry: Path) -> bool:
    has_own_name = ENTRY.fullmatch(entry.name.removeprefix(MAKING)) is not None
    return has_own_name and entry.is_dir() and not entry.is_symlink()


def _size(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.iterdir())
