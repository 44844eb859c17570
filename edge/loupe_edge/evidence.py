"""Pictures of whatever was not good, in a folder that never outgrows its limits.

`FOLDER/<epoch>-<seq>/` holds `verdict.json`, `overlay.png`, and the region as the camera saw it:
`rgb.png`, and `depth.png` (16 bit, device units) where there is depth. The oldest go first.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from loupe_edge.aggregate import Look
from loupe_edge.errors import EvidenceError
from loupe_edge.overlays import MapScale, draw_overlay
from loupe_edge.verdict import Verdict

FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
MAKING = ".making-"


class EvidenceFolder:
    """Keeps the newest evidence within a count and a size; each entry appears whole or not."""

    def __init__(self, folder: Path, scale: MapScale, max_count: int, max_mb: int) -> None:
        """Open the folder and clear what an interrupted run left half-written.

        Raises:
            EvidenceError: The folder cannot be made or read.
        """
        self.folder = folder
        self._scale = scale
        self._max_count = max_count
        self._max_bytes = max_mb * 1_000_000
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"{MAKING}*"):
                shutil.rmtree(leftover)
            names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
            self._kept = deque((name, _size(folder / name)) for name in names)
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
        try:
            making = Path(tempfile.mkdtemp(prefix=MAKING, dir=self.folder))
            try:
                self._write(making, look, verdict)
                size = _size(making)
                self._make_room(size)
                making.chmod(0o755)
                making.rename(self.folder / name)
            finally:
                shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place
        except OSError as error:
            raise EvidenceError(
                f"record.folder {self.folder}: {error.strerror or error}; free some space"
            ) from error
        self._kept.append((name, size))

    def _write(self, making: Path, look: Look, verdict: Verdict) -> None:
        frame, found = look.frame, look.inspection
        x, y, width, height = found.region
        window = (slice(y, y + height), slice(x, x + width))
        title = f"{verdict.station} #{verdict.seq}"
        overlay = draw_overlay(frame, found, self._scale, title)
        _write_png(making / "overlay.png", overlay[..., ::-1])
        if frame.rgb is not None:
            _write_png(making / "rgb.png", frame.rgb[window][..., ::-1])
        if frame.depth is not None:
            _write_png(making / "depth.png", frame.depth[window])
        text = verdict.model_dump_json(by_alias=True, indent=1) + "\n"
        (making / "verdict.json").write_text(text, encoding="utf-8")

    def _make_room(self, size: int) -> None:
        total = sum(kept for _, kept in self._kept) + size
        while self._kept and (len(self._kept) >= self._max_count or total > self._max_bytes):
            name, freed = self._kept.popleft()
            shutil.rmtree(self.folder / name, ignore_errors=True)
            total -= freed


def _write_png(path: Path, picture: npt.NDArray[np.generic]) -> None:
    """Encode in memory and write: unlike `cv2.imwrite`, a full disk is an error here."""
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(picture), FAST_PNG)
    if not done:
        raise OSError(f"{path.name} cannot be encoded")
    path.write_bytes(encoded.tobytes())


def _size(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.iterdir())
