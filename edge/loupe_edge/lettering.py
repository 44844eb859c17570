"""Smooth lettering for pictures: OpenCV's strokes, drawn large and shrunk by area."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]

FONT: Final = cv2.FONT_HERSHEY_DUPLEX
OVERSAMPLING: Final = 4
CAP_HEIGHT_PX: Final = 22  # of the font at scale 1
MARGIN_PX: Final = 2


def text_width(text: str, height_px: float) -> int:
    """Give how wide `write` will make the text."""
    return int(_mask(text, height_px, is_bold=False).shape[1])


def write(
    picture: Picture,
    text: str,
    at_px: tuple[int, int],
    height_px: float,
    ink: Rgb,
    *,
    is_bold: bool = False,
) -> None:
    """Letter into a picture in place; what falls outside is cut off.

    Args:
        picture: (H, W, 3) uint8 RGB, writeable.
        text: One line; what is not ASCII is shown as `?`.
        at_px: Left end of the text and the middle of its capitals, x and y.
        height_px: Of the capitals.
        ink: Colour.
        is_bold: Thicker strokes.
    """
    mask = _mask(text, height_px, is_bold=is_bold)
    left, top = at_px[0], at_px[1] - mask.shape[0] // 2
    x0, y0 = max(left, 0), max(top, 0)
    x1 = min(left + mask.shape[1], picture.shape[1])
    y1 = min(top + mask.shape[0], picture.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    share = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    under = picture[y0:y1, x0:x1]
    under[...] = np.rint(under + share * (np.asarray(ink, np.float32) - under)).astype(np.uint8)


def _mask(text: str, height_px: float, *, is_bold: bool) -> npt.NDArray[np.float32]:
    """Draw the text alone, (h, w) from 0 to 1, its capitals in the middle of its height."""
    shown = text.encode("ascii", errors="replace").decode("ascii")
    scale = OVERSAMPLING * height_px / CAP_HEIGHT_PX
    thickness = max(1, round(scale * (2.2 if is_bold else 0.9)))
    (width, cap_height), baseline = cv2.getTextSize(shown, FONT, scale, thickness)
    pad = MARGIN_PX * OVERSAMPLING + baseline
    columns = _round_up(width + 2 * MARGIN_PX * OVERSAMPLING)
    rows = _round_up(cap_height + 2 * pad)
    drawn = np.zeros((rows, columns), np.uint8)
    start = (MARGIN_PX * OVERSAMPLING, pad + cap_height)
    cv2.putText(drawn, shown, start, FONT, scale, 255, thickness, cv2.LINE_AA)
    small = cv2.resize(
        drawn, (columns // OVERSAMPLING, rows // OVERSAMPLING), interpolation=cv2.INTER_AREA
    )
    return np.asarray(small / np.float32(255), np.float32)


def _round_up(length_px: int) -> int:
    return -(-length_px // OVERSAMPLING) * OVERSAMPLING
