"""Preprocessed tensors, made once: the training loop reads pixels, not picture files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from loupe_calibration.transform import Transform
from loupe_models.atomic import write_text
from loupe_models.frame import Frame
from loupe_models.gate import GateSpec, gate
from loupe_models.preprocess import PreprocessSpec, Tensors, preprocess
from loupe_models.strict_json import loads
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.errors import DataError
from loupe_trainer.progress import Progress
from loupe_trainer.tracked import tracked

MAX_CACHE_BYTES = 50_000_000_000
KEYS = "keys.json"


class View(BaseModel):
    """How a frame is looked at: the same three things at the station.

    Attributes:
        belt_from_camera: None where neither gate nor preprocessing needs the belt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: GateSpec
    preprocess: PreprocessSpec
    belt_from_camera: Transform | None = None

    def tensors(self, frame: Frame) -> Tensors | None:
        """Gate and preprocess; None where the gate sees no whole part."""
        region = gate(frame, self.gate, self.belt_from_camera)
        if region is None:
            return None
        return preprocess(frame, region, self.preprocess, self.belt_from_camera).tensors


@dataclass(frozen=True, slots=True)
class Samples(Sequence[Mapping[str, npt.NDArray[np.generic]]]):
    """Tensors of frames, exactly as `preprocess` returns them, read from disk as needed.

    Attributes:
        items: One a sample, in the same order.
        arrays: By tensor name, (n_cached, ...), memory-mapped.
        rows: Where each sample lies in the arrays.
    """

    items: tuple[Item, ...]
    arrays: Mapping[str, npt.NDArray[np.generic]]
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, npt.NDArray[np.generic]]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Mapping[str, npt.NDArray[np.generic]]:  # type: ignore[override]
        row = self.rows[i]
        return {name: np.array(array[row : row + 1]) for name, array in self.arrays.items()}

    def of(self, items: Sequence[Item]) -> Samples:
        """Give the samples of some items, less those in which the gate saw no part."""
        row_of = {item.key: row for item, row in zip(self.items, self.rows, strict=True)}
        kept = tuple(item for item in items if item.key in row_of)
        return Samples(kept, self.arrays, tuple(row_of[item.key] for item in kept))


def cache_tensors(
    folder: Path, data: DataSet, items: Sequence[Item], view: View, data_sha256: str,
    progress: Progress,
) -> Samples:  # fmt: skip
    """Read the tensors of some items from the cache, making it first where it is not there.

    Args:
        folder: Holds one cache; another view or other data replace it.
        data: Where the items come from.
        items: To be cached, in any order.
        view: How frames are looked at.
        data_sha256: From the index.
        progress: Shown while frames are read.

    Raises:
        DataError: No room, or the gate saw no part in any frame.
    """
    place = folder / _key(items, view, data_sha256)
    if not (place / KEYS).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(place, data, items, view, progress)
    keys = loads((place / KEYS).read_bytes())
    if not isinstance(keys, list):
        raise DataError(f"{place / KEYS}: not a list; delete {folder}")
    by_key = {item.key: item for item in items}
    arrays = {
        file.stem: np.load(file, mmap_mode="r", allow_pickle=False)
        for file in sorted(place.glob("*.npy"))
    }
    return Samples(tuple(by_key[str(key)] for key in keys), arrays, tuple(range(len(keys))))


def _key(items: Sequence[Item], view: View, data_sha256: str) -> str:
    """Name a cache after all that it depends on."""
    keys = json.dumps(sorted(item.key for item in items))
    depends = (view.model_dump_json(), data_sha256, keys, metadata.version("loupe"))
    return hashlib.sha256("\n".join(depends).encode()).hexdigest()[:16]


def _make(
    place: Path, data: DataSet, items: Sequence[Item], view: View, progress: Progress
) -> None:
    making = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    keys: list[str] = []
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    frames = tracked(progress, data.frames(items), "reading and preprocessing", len(items))
    for item, frame in frames:
        tensors = view.tensors(frame)
        if tensors is None:
            continue
        if not arrays:
            arrays = _allocate(making, tensors, len(items))
        for name, array in arrays.items():
            array[len(keys)] = tensors[name][0]
        keys.append(item.key)
    if not keys:
        raise DataError(
            f"the gate saw no whole part in any of {len(items)} frames: "
            f"mend [gate] (region, belt colour or height) in the recipe"
        )
    del arrays
    write_text(making / KEYS, json.dumps(keys))
    os.replace(making, place)  # noqa: PTH105


def _allocate(folder: Path, tensors: Tensors, n: int) -> dict[str, npt.NDArray[np.generic]]:
    n_bytes = n * sum(array.nbytes for array in tensors.values())
    free = shutil.disk_usage(folder).free
    if n_bytes > min(free, MAX_CACHE_BYTES):
        raise DataError(
            f"{n} frames take {n_bytes / 1e9:.1f} GB of cache, and {folder.parent} has room for "
            f"{min(free, MAX_CACHE_BYTES) / 1e9:.1f} GB: give --out another disk, fewer frames, "
            f"or a smaller size in [preprocess]"
        )
    return {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(n, *array.shape[1:])
        )
        for name, array in tensors.items()
    }
