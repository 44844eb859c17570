"""Arrays by name in an npz, as frameworks other than PyTorch are brought over."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from loupe_trainer.errors import WeightsError

MAX_BYTES: Final = 1_000_000_000  # unpacked; backbones take a hundredth of it
# What NumPy was seen to raise on files that were cut short, overwritten or something else.
DAMAGED: Final = (
    ValueError, TypeError, LookupError, OverflowError, MemoryError, RuntimeError, EOFError, OSError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def read_arrays(file: Path, what: str) -> dict[str, npt.NDArray[np.float32]]:
    """Read every array as float32.

    Args:
        file: An npz.
        what: Whose weights it should hold, for the message.

    Raises:
        WeightsError: Missing, damaged, or not of finite real numbers alone; names the array.
    """
    foreign = f"{file}: not {what}'s weights"
    try:
        with zipfile.ZipFile(file) as members:
            n_bytes = sum(member.file_size for member in members.infolist())
        arrays = np.load(file, allow_pickle=False)  # reads names alone
    except DAMAGED as error:
        raise WeightsError(f"{foreign}: no readable npz ({_reason(error)})") from error
    with arrays:
        if n_bytes > MAX_BYTES:
            raise WeightsError(f"{foreign}: it holds {n_bytes / 1e6:,.0f} MB, far too many")
        return {name: _floats(arrays, name, foreign) for name in arrays.files}


def _floats(arrays: np.lib.npyio.NpzFile, name: str, foreign: str) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(arrays[name])
    except DAMAGED as error:
        raise WeightsError(
            f"{foreign}: {name} is not a whole array of numbers; fetch it again"
        ) from error
    if array.dtype.kind != "f":
        raise WeightsError(f"{foreign}: {name} holds {array.dtype}, not floating-point numbers")
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if not np.isfinite(floats).all():
        raise WeightsError(f"{foreign}: {name} has values that are not finite; fetch it again")
    return floats


def _reason(error: BaseException) -> str:
    """Give the system's words; NumPy's own may advise to trust the file."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or "damaged; fetch it again"
