"""Arrays by name in an npz, as frameworks other than PyTorch are brought over."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loupe_trainer.errors import WeightsError


def read_arrays(file: Path, what: str) -> dict[str, npt.NDArray[np.float32]]:
    """Read every array as float32.

    Args:
        file: An npz.
        what: Whose weights it should hold, for the message.

    Raises:
        WeightsError: Missing, damaged, or of objects.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name].astype(np.float32) for name in arrays.files}
    except (ValueError, RuntimeError, zipfile.BadZipFile, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{file}: not {what}'s weights ({reason})") from error
