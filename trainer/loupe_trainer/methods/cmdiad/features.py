"""What frozen networks say of every frame, computed once and kept on disk.

Memory-mapped, so that what training reads again and again stays in the page cache as far as memory
goes, and a thousand frames of 10 MB each cost disk and not memory. Tokens lie one after the other,
so that any run of frames is a matrix of candidates for a memory bank without a copy.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loupe_models.preprocess import Tensors
from loupe_trainer.errors import DataError
from loupe_trainer.progress import Progress

MB: Final = 1_000_000
Features = npt.NDArray[np.float32]


def tensors_of(sample: Tensors, names: Sequence[str], device: torch.device) -> tuple[Tensor, ...]:
    """Bring some of a sample's tensors to a network, in the order of `names`."""
    return tuple(torch.from_numpy(np.array(sample[name])).to(device) for name in names)


def tokens_of(features: Features, rows: npt.NDArray[np.intp] | slice) -> Tensor:
    """Give (B, C, h, w) of some frames of what `kept_features` gives."""
    return torch.from_numpy(np.array(features[rows])).permute(0, 3, 1, 2)


@torch.no_grad()
def kept_features(
    folder: Path, key: str, n_frames: int, describe: Callable[[int], Tensor], progress: Progress
) -> Features:
    """Describe all frames, or read back what an earlier visit left, unless it was damaged since.

    Args:
        folder: Of one kind of features, `features/rgb`; holds one file.
        key: Names everything that the features depend on, see `weights_sha256`.
        n_frames: At least one.
        describe: From a frame's number to (1, C, h, w).
        progress: Shown while it runs.

    Returns:
        (N, h, w, C) float32, memory-mapped.

    Raises:
        DataError: The disk has no room for them.
    """
    file = folder / f"{key}.npy"
    kept = _kept(file, n_frames)
    if kept is not None:
        return kept
    shutil.rmtree(folder, ignore_errors=True)  # of networks that are no more
    folder.mkdir(parents=True)
    making = Path(tempfile.mkdtemp(prefix=".features.", dir=folder)) / file.name
    try:
        _fill(making, n_frames, describe, progress)
        os.replace(making, file)  # noqa: PTH105
    finally:
        shutil.rmtree(making.parent, ignore_errors=True)
    features: Features = np.load(file, mmap_mode="r", allow_pickle=False)
    return features


def _kept(file: Path, n_frames: int) -> Features | None:
    """Map what is there; None where there is nothing whole."""
    try:
        kept = np.lib.format.open_memmap(file, mode="r")
    except (OSError, ValueError):  # as a full disk or a hand leaves it
        return None
    is_whole = kept.dtype == np.float32 and kept.ndim == 4 and len(kept) == n_frames
    return kept if is_whole else None


def _fill(file: Path, n_frames: int, describe: Callable[[int], Tensor], progress: Progress) -> None:
    first = describe(0)
    n_channels, height, width = first.shape[1:]
    features = _new_array(file, (n_frames, height, width, n_channels))
    what = f"features: {file.parent.parent.name.replace('_', ' ')}"
    for i in progress.track(range(n_frames), what):
        told = first if i == 0 else describe(i)
        features[i] = told[0].permute(1, 2, 0).float().cpu().numpy()


def _new_array(file: Path, shape: tuple[int, ...]) -> Features:
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(file.parent).free
    if n_bytes > free:
        raise DataError(
            f"the features of {shape[0]} frames take {n_bytes / MB:,.0f} MB, and {file.parent} has "
            f"room for {free / MB:,.0f} MB: give --out another disk, or fewer frames"
        )
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    with file.open("r+b") as stream:  # a mapped file with holes kills the process on a full disk
        os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return np.asarray(array)
