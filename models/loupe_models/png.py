"""Pictures as PNG files. `cv2.imwrite` can say yes on a full disk and leave an empty file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from loupe_models.atomic import write_bytes
from loupe_models.errors import FrameError

FASTEST, USUAL = 1, 3  # of zlib's levels; the pixels are the same


def png_bytes(picture: npt.NDArray[np.generic], level: int = USUAL) -> bytes:
    """Encode a picture.

    Args:
        picture: (H, W) or (H, W, 3) uint8 or uint16, blue first where it has colours.
        level: Of zlib, 0 to 9.

    Raises:
        FrameError: PNG cannot hold it.
    """
    try:
        done, encoded = cv2.imencode(
            ".png", np.ascontiguousarray(picture), (cv2.IMWRITE_PNG_COMPRESSION, level)
        )
    except cv2.error:
        done = False
    if not done:
        raise FrameError(f"a picture of shape {picture.shape} {picture.dtype} is no PNG")
    return encoded.tobytes()


def write_png(path: Path, picture: npt.NDArray[np.generic]) -> None:
    """Write a picture, whole or not at all.

    Args:
        path: Its folder is made where it is missing.
        picture: As for `png_bytes`.

    Raises:
        FrameError: PNG cannot hold it.
        OSError: The disk does not take it.
    """
    write_bytes(path, png_bytes(picture))
