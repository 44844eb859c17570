"""Pictures for the page: a frame, the truth outlined on it, its anomaly map in colours."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt

from loupe_models.frame import Frame, Rect

BOX_WH = (440, 320)  # twice what the page shows, so that paper shows it too
OUTLINE_RGB = (240, 228, 66)
CUT_RGB = (255, 255, 255)
EDGE_RGB = (0, 0, 0)

Rgb = npt.NDArray[np.uint8]


def view(frame: Frame, region: Rect | None) -> Rgb | None:
    """Cut what was looked at out of a frame; depth stands in, in greys, where no colour is."""
    whole = frame.rgb if frame.rgb is not None else _greys(frame.depth)
    if whole is None:
        return None
    x, y, width, height = region or Rect(0, 0, *frame.size_wh)
    return _fitted(whole[y : y + height, x : x + width])


def outlined(picture: Rgb, mask: npt.NDArray[np.bool_]) -> Rgb:
    """Draw the outline of a truth mask on a picture of the same view."""
    return _outline(picture, mask.astype(np.uint8), OUTLINE_RGB)


def coloured(anomaly_map: npt.NDArray[np.float32], threshold: float) -> Rgb:
    """Colour a map so that the threshold is the middle of the scale, outlined in white."""
    low = min(float(anomaly_map.min()), threshold - 1e-6)
    scale = np.clip((anomaly_map - low) / (2 * (threshold - low)), 0, 1)
    bgr = cv2.applyColorMap((scale * 255).astype(np.uint8), cv2.COLORMAP_CIVIDIS)
    picture = _fitted(np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8))
    return _outline(picture, (anomaly_map > threshold).astype(np.uint8), CUT_RGB)


def scale_bar() -> str:
    """Show the colours of the map from its lowest value, on the left, through the threshold."""
    ramp = np.tile(np.linspace(0, 2, 160, dtype=np.float32), (12, 1))
    bgr = cv2.applyColorMap((ramp * 127.5).astype(np.uint8), cv2.COLORMAP_CIVIDIS)
    return img(np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8), "colours of the anomaly map")


def img(picture: Rgb, words: str) -> str:
    """Put a picture into the page itself."""
    _, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    content = base64.b64encode(encoded.tobytes()).decode()
    return f'<img alt="{words}" src="data:image/jpeg;base64,{content}">'


def _outline(picture: Rgb, mask: npt.NDArray[np.uint8], rgb: tuple[int, int, int]) -> Rgb:
    """Draw outlines, dark below bright, so that they show on any ground."""
    size_wh = picture.shape[1], picture.shape[0]
    grown = cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(grown, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = picture.copy()
    cv2.drawContours(drawn, contours, -1, EDGE_RGB, 5)
    cv2.drawContours(drawn, contours, -1, rgb, 2)
    return np.asarray(drawn, dtype=np.uint8)


def _fitted(picture: Rgb) -> Rgb:
    scale = min(BOX_WH[0] / picture.shape[1], BOX_WH[1] / picture.shape[0])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size_wh = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size_wh, interpolation=how), dtype=np.uint8)


def _greys(depth: npt.NDArray[np.uint16] | None) -> Rgb | None:
    """Show depth from near, bright, to far, dark; what has no depth is black."""
    if depth is None:
        return None
    known = depth[depth > 0]
    near, far = np.quantile(known, (0.02, 0.98)) if known.size else (0.0, 1.0)
    bright = 255 - 200 * np.clip((depth - near) / max(far - near, 1.0), 0, 1)
    grey = np.where(depth > 0, bright, 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
