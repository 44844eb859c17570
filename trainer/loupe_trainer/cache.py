"""Preprocessed tensors, made once: the training loop reads pixels, not picture files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from loupe_calibration.errors import FaultError
from loupe_models.atomic import write_text
from loupe_models.checked import Checked
from loupe_models.frame import Frame
from loupe_models.manifest import Mode
from loupe_models.preprocess import Tensors
from loupe_models.strict_json import loads
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.errors import DataError
from loupe_trainer.progress import Progress
from loupe_trainer.tracked import tracked
from loupe_trainer.views import Views, learnable

Array = npt.NDArray[np.generic]
MAX_CACHE_BYTES = 50_000_000_000
KEYS = "keys.json"
N_COMPARED = 3  # frames on which each mode's own preprocessing is held against the widest's
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Samples(Sequence[Mapping[str, Array]]):
    """Tensors of frames, exactly as `preprocess` returns them, read from disk as needed.

    Attributes:
        items: One a sample, in the same order.
        arrays: By tensor name, (n_cached, ...), memory-mapped.
        rows: Where each sample lies in the arrays.
        seen_by: For each sample the modes whose gate sees its part.
        modes: All that are learnt.
    """

    items: tuple[Item, ...]
    arrays: Mapping[str, Array]
    rows: tuple[int, ...]
    seen_by: tuple[tuple[Mode, ...], ...]
    modes: tuple[Mode, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Mapping[str, Array]:  # type: ignore[override]
        row = self.rows[i]
        return {name: np.array(array[row : row + 1]) for name, array in self.arrays.items()}

    def alike(self) -> str | None:
        """Name the stream in which several samples are all the same; looks no further than needed.

        A camera that stands still in one stream is not seen in the other.
        """
        if len(self) < 2:
            return None
        of_depth = [name for name in self.arrays if name != "rgb"]
        for stream, names in {"colour": ["rgb"], "depth": of_depth}.items():
            arrays = [self.arrays[name] for name in names if name in self.arrays]
            first = self.rows[0]
            if arrays and all(
                np.array_equal(a[row], a[first]) for row in self.rows[1:] for a in arrays
            ):
                return stream
        return None

    def of(self, items: Sequence[Item]) -> Samples:
        """Give the samples of some items, less those in which some mode's gate saw no part."""
        return self._kept(items, self.modes, self.arrays)

    def of_mode(self, items: Sequence[Item], mode: Mode, tensors: Sequence[str]) -> Samples:
        """Give the samples of some items as one mode sees them.

        Args:
            items: Those in which the mode's own gate saw no part are left out.
            mode: One of those that are learnt.
            tensors: What its graph takes, in that order.
        """
        return self._kept(items, (mode,), {name: self.arrays[name] for name in tensors})

    def _kept(
        self, items: Sequence[Item], modes: Sequence[Mode], arrays: Mapping[str, Array]
    ) -> Samples:
        at = {item.key: i for i, item in enumerate(self.items)}
        places = [at[item.key] for item in items if item.key in at]
        kept = [i for i in places if set(modes) <= set(self.seen_by[i])]
        return Samples(
            tuple(self.items[i] for i in kept), arrays, tuple(self.rows[i] for i in kept),
            tuple(self.seen_by[i] for i in kept), self.modes,
        )  # fmt: skip


def cache_tensors(
    folder: Path, data: DataSet, items: Sequence[Item], views: Views, data_sha256: str,
    progress: Progress,
) -> Samples:  # fmt: skip
    """Read the tensors of some items from the cache, making it first where it is not there.

    Args:
        folder: Holds one cache; other views or other data replace it, and so does damage.
        data: Where the items come from.
        items: To be cached, in any order.
        views: How frames are looked at.
        data_sha256: From the index.
        progress: Shown while frames are read.

    Raises:
        DataError: No room, the gate saw no part in any frame, or a frame cannot be preprocessed.
        FaultError: The disk filled up meanwhile.
    """
    place = folder / _key(items, views, data_sha256)
    what = "reading and preprocessing"
    if place.exists():
        try:
            return _open(place, items, views)
        except (OSError, EOFError, ValueError, LookupError):  # as a kill or a full disk leaves it
            what = f"{place.name} in the cache is damaged: {what} again"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    n = len(items)
    with (
        closing(data.frames(items)) as frames,
        closing(tracked(progress, frames, what, n)) as shown,
    ):
        _make(place, shown, n, views)
    return _open(place, items, views)


class _Told(Checked):
    """What `keys.json` says: the items, in the order of the rows, who saw each, and the arrays."""

    keys: tuple[str, ...] = Field(min_length=1)
    tensors: tuple[str, ...] = Field(min_length=1)
    seen_by: tuple[tuple[Mode, ...], ...] = Field(min_length=1)


def _open(place: Path, items: Sequence[Item], views: Views) -> Samples:
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
    n = len(told.keys)
    if any(len(array) < n for array in arrays.values()) or len(told.seen_by) != n:
        raise LookupError(KEYS)
    by_key = {item.key: item for item in items}
    kept = tuple(by_key[key] for key in told.keys)
    return Samples(kept, arrays, tuple(range(n)), told.seen_by, tuple(views.modes))


def _key(items: Sequence[Item], views: Views, data_sha256: str) -> str:
    """Name a cache after all that it depends on."""
    keys = json.dumps(sorted(item.key for item in items))
    depends = (views.model_dump_json(), data_sha256, keys, metadata.version("loupe"))
    return hashlib.sha256("\n".join(depends).encode()).hexdigest()[:16]


def _make(place: Path, frames: Iterable[tuple[Item, Frame]], n: int, views: Views) -> None:
    making = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        told = _fill(making, frames, n, views)
        write_text(making / KEYS, told.model_dump_json())
        os.replace(making, place)  # noqa: PTH105
    finally:
        shutil.rmtree(making, ignore_errors=True)  # nothing, once it is in place


def _fill(making: Path, frames: Iterable[tuple[Item, Frame]], n: int, views: Views) -> _Told:
    keys: list[str] = []
    seen_by: list[tuple[Mode, ...]] = []
    arrays: dict[str, Array] = {}
    for item, frame in frames:
        seen = learnable(views, frame, item.key, item.source)
        if seen is None:
            continue
        if len(keys) < N_COMPARED and not views.are_one:
            views.require_equal(frame, seen)
        if not arrays:
            arrays = _allocate(making, seen.tensors, n)
        for name, array in arrays.items():
            array[len(keys)] = seen.tensors[name][0]
        keys.append(item.key)
        seen_by.append(seen.modes)
    if not keys:
        raise DataError(
            f"the gate saw no whole part in any of {n} frames: "
            f"mend [gate] (region, belt colour or height) in the recipe"
        )
    return _Told(keys=tuple(keys), tensors=tuple(arrays), seen_by=tuple(seen_by))


def _allocate(folder: Path, tensors: Tensors, n: int) -> dict[str, Array]:
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


def _new_array(file: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Map a new file that has its room on the disk.

    A mapped file with holes kills the process, without a word, at the write that finds no room.
    """
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    with file.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return np.asarray(array)
