"""Preprocessed tensors, made once: the training loop reads pixels, not picture files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from loupe_calibration.errors import FaultError
from loupe_calibration.transform import Transform
from loupe_models.atomic import write_text
from loupe_models.errors import FrameError
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
MB = 1_000_000


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

    def are_alike(self) -> bool:
        """Whether there are several samples, all the same; looks no further than needed."""
        first = self[0]
        return len(self) > 1 and all(
            np.array_equal(array[row], first[name][0])
            for row in self.rows[1:]
            for name, array in self.arrays.items()
        )

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
        folder: Holds one cache; another view or other data replace it, and so does damage.
        data: Where the items come from.
        items: To be cached, in any order.
        view: How frames are looked at.
        data_sha256: From the index.
        progress: Shown while frames are read.

    Raises:
        DataError: No room, or the gate saw no part in any frame.
        FrameError: A frame cannot be preprocessed, such as for want of valid points.
        FaultError: The disk filled up meanwhile.
    """
    place = folder / _key(items, view, data_sha256)
    what = "reading and preprocessing"
    if place.exists():
        try:
            return _open(place, items)
        except (OSError, ValueError, LookupError):  # as a kill or a full disk leaves it
            what = f"{place.name} in the cache is damaged: {what} again"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    frames = tracked(progress, data.frames(items), what, len(items))
    _make(place, frames, len(items), view)
    return _open(place, items)


class _Told(BaseModel):
    """What `keys.json` says: the items, in the order of the rows, and the arrays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[str, ...] = Field(min_length=1)
    tensors: tuple[str, ...] = Field(min_length=1)


def _open(place: Path, items: Sequence[Item]) -> Samples:
    """Map what `_make` wrote.

    Raises:
        OSError: A file is missing.
        ValueError: A file is cut off.
        LookupError: The files do not belong together.
    """
    told = _Told.model_validate(loads((place / KEYS).read_bytes()))
    arrays = {
        name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in told.tensors
    }
    if any(len(array) < len(told.keys) for array in arrays.values()):
        raise LookupError(KEYS)
    by_key = {item.key: item for item in items}
    return Samples(tuple(by_key[k] for k in told.keys), arrays, tuple(range(len(told.keys))))


def _key(items: Sequence[Item], view: View, data_sha256: str) -> str:
    """Name a cache after all that it depends on."""
    keys = json.dumps(sorted(item.key for item in items))
    depends = (view.model_dump_json(), data_sha256, keys, metadata.version("loupe"))
    return hashlib.sha256("\n".join(depends).encode()).hexdigest()[:16]


def _make(place: Path, frames: Iterable[tuple[Item, Frame]], n: int, view: View) -> None:
    making = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        told = _fill(making, frames, n, view)
        write_text(making / KEYS, told.model_dump_json())
        os.replace(making, place)  # noqa: PTH105
    finally:
        shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place


def _fill(making: Path, frames: Iterable[tuple[Item, Frame]], n: int, view: View) -> _Told:
    keys: list[str] = []
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for item, frame in frames:
        try:
            tensors = view.tensors(frame)
        except FrameError as error:
            raise FrameError(f"{item.key}: {error}; leave the frame out") from error
        if tensors is None:
            continue
        if not arrays:
            arrays = _allocate(making, tensors, n)
        for name, array in arrays.items():
            array[len(keys)] = tensors[name][0]
        keys.append(item.key)
    if not keys:
        raise DataError(
            f"the gate saw no whole part in any of {n} frames: "
            f"mend [gate] (region, belt colour or height) in the recipe"
        )
    return _Told(keys=tuple(keys), tensors=tuple(sorted(arrays)))


def _allocate(folder: Path, tensors: Tensors, n: int) -> dict[str, npt.NDArray[np.generic]]:
    n_bytes = n * sum(array.nbytes for array in tensors.values())
    free = shutil.disk_usage(folder).free
    if n_bytes > min(free, MAX_CACHE_BYTES):
        raise DataError(
            f"{n} frames take {n_bytes / MB:,.1f} MB of cache, and {folder.parent} has room for "
            f"{min(free, MAX_CACHE_BYTES) / MB:,.1f} MB: give --out another disk, fewer frames, "
            f"or a smaller size in [preprocess]"
        )
    try:
        return {
            name: _new_array(folder / f"{name}.npy", (n, *array.shape[1:]), array.dtype)
            for name, array in tensors.items()
        }
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise FaultError(
            f"{folder.parent}: the disk is full: the cache of {n} frames takes "
            f"{n_bytes / MB:,.1f} MB; make room and type the same command again"
        ) from error


def _new_array(
    file: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    """Map a new file that has its room on the disk.

    A mapped file with holes kills the process, without a word, at the write that finds no room.
    """
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    with file.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return np.asarray(array)
