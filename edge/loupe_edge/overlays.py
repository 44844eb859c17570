"""A verdict as a picture: the part, the anomaly map over it, and what was decided.

The map's colours are tied to the threshold, never to the picture: the same colour means the same
score in every overlay of a bundle, and a good part stays plain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from loupe_edge.inspector import ABOVE, Inspection
from loupe_edge.lettering import Picture, Rgb, text_width, write
from loupe_edge.verdict import WireRegion
from loupe_models.frame import Frame, Rect
from loupe_models.preprocess import PxMap

DECISION_RGB: Final[dict[str, Rgb]] = {
    "good": (31, 122, 77),
    "defect": (196, 43, 43),
    "unknown": (176, 112, 8),
}
PAPER: Final[Rgb] = (246, 247, 249)
INK: Final[Rgb] = (38, 46, 58)
FAINT_INK: Final[Rgb] = (110, 119, 132)
WHITE: Final[Rgb] = (255, 255, 255)
FRAME_EDGE: Final[Rgb] = (214, 219, 226)

PANEL_MIN_PX: Final = 420
PANEL_MAX_PX: Final = 960
GAP_PX: Final = 14
BANNER_PX: Final = 58
CAPTION_PX: Final = 26
SCALE_BAR_PX: Final = 12

RELIEF_SIGMA_PX: Final = 1.5
MAX_TAGS: Final = 5  # more would hide what they are about
MIN_REACH: Final = 1e-3  # half a scale of scores, at least

# Opacity and colour over the scale; the threshold stands at 0.5.
STOPS: Final = (0.0, 0.25, 0.4999, 0.5, 0.75, 1.0)
STOP_RGB: Final = (
    (255, 244, 170),
    (255, 236, 120),
    (255, 214, 70),
    (250, 120, 30),
    (222, 40, 40),
    (128, 0, 80),
)
STOP_ALPHA: Final = (0.0, 0.12, 0.45, 0.62, 0.72, 0.80)


@dataclass(frozen=True, slots=True)
class MapScale:
    """Which anomaly scores the colours stand for; the threshold is exactly in the middle."""

    low: float
    high: float

    @classmethod
    def around(cls, threshold: float, calibration_scores: Sequence[float]) -> MapScale:
        """Reach from what is ordinary to as far above the threshold.

        Ordinary is a map value of 0 (normalisation puts the bulk of good pixels below it), or
        the good parts' median score where that is lower still.
        """
        typical, high = np.quantile(np.asarray(calibration_scores, np.float64), (0.5, 0.95))
        reach = max(threshold - min(0.0, float(typical)), float(high - typical), MIN_REACH)
        return cls(threshold - reach, threshold + reach)

    def share(self, anomaly_map: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Place scores on the scale, 0 to 1."""
        share = np.interp(anomaly_map, (self.low, self.high), (0.0, 1.0))
        return np.asarray(share, np.float32)


def draw_overlay(frame: Frame, inspection: Inspection, scale: MapScale, title: str) -> Picture:
    """Draw one verdict: a banner, the frame with its findings, the anomaly map over the frame.

    Args:
        frame: What was inspected; depth is shown shaded where there is no colour.
        inspection: What was found.
        scale: From `MapScale.around`, the same for every picture of a run.
        title: A file name or frame number, for the banner.

    Returns:
        (H, W, 3) uint8 RGB, large enough to read.
    """
    zoom = _zoom(frame.size_wh)
    seen = _resized(base_picture(frame), zoom)
    heat = draw_heat(seen, inspection, scale, zoom)
    for panel in (seen, heat):
        _draw_region(panel, inspection, zoom)
    _draw_findings(seen, inspection.regions, zoom)
    is_wide = seen.shape[1] > 1.6 * seen.shape[0]
    panels = _arrange([("inspected", seen), ("anomaly map", heat)], is_stacked=is_wide)
    sheet = np.concatenate([_banner(inspection, title, panels.shape[1]), panels], axis=0)
    return np.concatenate([sheet, _legend(scale, inspection.threshold, sheet.shape[1])], axis=0)


def base_picture(frame: Frame) -> Picture:
    """Give the frame as a picture: its colour, or its depth as a relief, black where unknown."""
    if frame.rgb is not None:
        return frame.rgb
    depth = np.asarray(frame.depth, np.float32)
    known = depth > 0
    if not known.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    level = np.where(known, depth, np.median(depth[known])).astype(np.float32)
    near, far = np.quantile(level[known], (0.02, 0.98))
    height = 1 - np.clip((level - near) / max(float(far - near), 1.0), 0, 1)
    smooth = cv2.GaussianBlur(level, (0, 0), RELIEF_SIGMA_PX)
    slope = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) + cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    steep = max(float(np.quantile(np.abs(slope[known]), 0.96)), 1e-3)
    lit = np.clip(0.5 - 0.25 * slope / steep, 0, 1)  # from the upper left
    grey = np.where(known, 30 + 90 * height + 120 * lit, 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def draw_heat(base: Picture, inspection: Inspection, scale: MapScale, zoom: float = 1.0) -> Picture:
    """Lay the anomaly map over a greyed picture, the threshold's contour in white.

    Args:
        base: (H, W, 3) uint8 RGB, the frame's size times `zoom`.
        inspection: Without a map the greyed picture is given back.
        scale: Ties colours to scores.
        zoom: Pixels of the picture per pixel of the frame.
    """
    grey = cv2.cvtColor(base, cv2.COLOR_RGB2GRAY).astype(np.float32) * 0.85 + 24
    drawn = np.repeat(grey[..., None], 3, axis=-1)
    if inspection.anomaly_map is None or inspection.frame_px_from_map_px is None:
        return drawn.astype(np.uint8)
    x, y, width, height = (round(v * zoom) for v in inspection.region)
    window = drawn[y : y + height, x : x + width]
    region = Rect(x, y, window.shape[1], window.shape[0])
    scores = map_on_region(
        inspection.anomaly_map, _zoomed(inspection.frame_px_from_map_px, zoom), region
    )
    rgb, alpha = _colours(scale.share(scores))
    window += alpha[..., None] * (rgb - window)
    picture = np.rint(drawn).astype(np.uint8)
    above = (scores > np.float64(inspection.threshold)).astype(np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    cv2.drawContours(picture, contours, -1, WHITE, 1, cv2.LINE_AA)
    return picture


def map_on_region(
    anomaly_map: npt.NDArray[np.float32], px_from_map_px: PxMap, region: Rect
) -> npt.NDArray[np.float32]:
    """Resample an anomaly map bilinearly onto the pixels of a region, (height, width)."""
    back = px_from_map_px.inverse()
    columns = (np.arange(region.width_px) + region.x_px) * back.scale_x + back.offset_x_px
    rows = (np.arange(region.height_px) + region.y_px) * back.scale_y + back.offset_y_px
    map_x, map_y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    on_region = cv2.remap(
        anomaly_map, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(on_region, np.float32)


def _zoomed(px_map: PxMap, zoom: float) -> PxMap:
    """Chain a map with a zoom that, like `cv2.resize`, keeps the corners of pixels in place."""
    shift_px = (zoom - 1) / 2
    return PxMap(
        px_map.scale_x * zoom,
        px_map.scale_y * zoom,
        px_map.offset_x_px * zoom + shift_px,
        px_map.offset_y_px * zoom + shift_px,
    )


def _colours(
    share: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    table = np.asarray(STOP_RGB, np.float32)
    rgb = np.stack([np.interp(share, STOPS, table[:, c]) for c in range(3)], axis=-1)
    return rgb.astype(np.float32), np.interp(share, STOPS, STOP_ALPHA).astype(np.float32)


def _zoom(size_wh: tuple[int, int]) -> float:
    """Small pictures grow by whole numbers, so that pixels stay square; large ones shrink."""
    longest = max(size_wh)
    if longest > PANEL_MAX_PX:
        return PANEL_MAX_PX / longest
    return float(max(1, -(-PANEL_MIN_PX // longest)))


def _resized(picture: Picture, zoom: float) -> Picture:
    if zoom == 1:
        return np.array(picture)
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    height, width = picture.shape[:2]
    size_wh = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    return np.asarray(cv2.resize(picture, size_wh, interpolation=how), np.uint8)


def _draw_region(panel: Picture, inspection: Inspection, zoom: float) -> None:
    """Outline where the gate looked, unless it looked everywhere."""
    whole_wh = (round(panel.shape[1] / zoom), round(panel.shape[0] / zoom))
    if inspection.region == (0, 0, *whole_wh):
        return
    _rectangle(panel, inspection.region, zoom, DECISION_RGB[inspection.decision], 2)


def _draw_findings(panel: Picture, regions: Sequence[WireRegion], zoom: float) -> None:
    """Box every finding, and tag the strongest with rank and peak score."""
    boxes = [Rect(x - 2, y - 2, w + 4, h + 4) for x, y, w, h in (r.bbox_px for r in regions)]
    for thickness, colour in ((4, WHITE), (2, DECISION_RGB["defect"])):
        for box in boxes:
            _rectangle(panel, box, zoom, colour, thickness)
    tagged = list(zip(regions, boxes, strict=True))[:MAX_TAGS]
    for rank, (region, box) in reversed(list(enumerate(tagged, start=1))):
        _tag(panel, f"{rank}  {region.peak:.2f}", box, zoom)


def _rectangle(panel: Picture, rect: Rect, zoom: float, colour: Rgb, thickness: int) -> None:
    x, y, width, height = (round(v * zoom) for v in rect)
    cv2.rectangle(panel, (x, y), (x + width - 1, y + height - 1), colour, thickness, cv2.LINE_AA)


def _tag(panel: Picture, text: str, rect: Rect, zoom: float) -> None:
    """Letter a tag on top of a box, or below where there is no room."""
    width, height = text_width(text, 10) + 8, 18
    top = round(rect.y_px * zoom) - height
    if top < 0:
        top = min(round((rect.y_px + rect.height_px) * zoom), panel.shape[0] - height)
    left = min(max(round(rect.x_px * zoom) - 1, 0), max(panel.shape[1] - width, 0))
    cv2.rectangle(
        panel, (left, top), (left + width, top + height), DECISION_RGB["defect"], cv2.FILLED
    )
    write(panel, text, (left + 4, top + height // 2), 10, WHITE)


def _arrange(captioned: Sequence[tuple[str, Picture]], *, is_stacked: bool) -> Picture:
    framed = [_captioned(caption, picture) for caption, picture in captioned]
    axis = 0 if is_stacked else 1
    size = list(framed[0].shape)
    size[axis] = GAP_PX
    spacer = np.full(size, PAPER, np.uint8)
    joined = np.concatenate([framed[0], spacer, framed[1]], axis=axis)
    height, width = joined.shape[:2]
    sheet = np.full((height + GAP_PX, width + 2 * GAP_PX, 3), PAPER, np.uint8)
    sheet[GAP_PX:, GAP_PX : GAP_PX + width] = joined
    return sheet


def _captioned(caption: str, picture: Picture) -> Picture:
    picture[[0, -1]], picture[:, [0, -1]] = FRAME_EDGE, FRAME_EDGE
    strip = np.full((CAPTION_PX, picture.shape[1], 3), PAPER, np.uint8)
    write(strip, caption, (0, CAPTION_PX // 2 + 1), 10, FAINT_INK)
    return np.concatenate([picture, strip], axis=0)


def _banner(inspection: Inspection, title: str, width_px: int) -> Picture:
    banner = np.full((BANNER_PX, width_px, 3), DECISION_RGB[inspection.decision], np.uint8)
    word = inspection.decision.upper()
    write(banner, word, (GAP_PX, BANNER_PX // 2), 22, WHITE, is_bold=True)
    left = GAP_PX + text_width(word, 22) + 34
    room_px = width_px - left - GAP_PX
    write(banner, _fit(_finding(inspection), 12, room_px), (left, 20), 12, WHITE)
    write(banner, _fit(title, 10, room_px), (left, 41), 10, WHITE)
    return banner


def _finding(inspection: Inspection) -> str:
    if inspection.score is None:
        return inspection.reason
    said = [f"score {inspection.score:.3f}", f"threshold {inspection.threshold:.3f}"]
    if inspection.p_value is not None:
        said.append(f"p {inspection.p_value:.3f}")
    if inspection.regions:
        said.append(f"{len(inspection.regions)} region{'s' if len(inspection.regions) > 1 else ''}")
    why = inspection.reason.removeprefix(ABOVE).removeprefix("; ")  # the word and the score say it
    if why:
        said.append(why)
    return "   ".join(said)


def _fit(text: str, height_px: float, room_px: int) -> str:
    """Cut a text to the room there is."""
    if text_width(text, height_px) <= room_px:
        return text
    kept = text
    while kept and text_width(kept + "...", height_px) > room_px:
        kept = kept[:-1]
    return kept + "..."


def _legend(scale: MapScale, threshold: float, width_px: int) -> Picture:
    """Draw the colour scale with its three numbers; the threshold is in the middle."""
    legend = np.full((SCALE_BAR_PX + 34, width_px, 3), PAPER, np.uint8)
    bar_px = min(width_px - 2 * GAP_PX, PANEL_MIN_PX)
    left = width_px - GAP_PX - bar_px
    rgb, alpha = _colours(np.linspace(0, 1, bar_px, dtype=np.float32))
    shown = 150 + alpha[:, None] * (rgb - 150)
    legend[2 : 2 + SCALE_BAR_PX, left : left + bar_px] = np.rint(shown).astype(np.uint8)
    middle = left + bar_px // 2
    legend[: 4 + SCALE_BAR_PX, middle - 1 : middle + 1] = INK
    row = SCALE_BAR_PX + 17
    low, high = f"{scale.low:.2f}", f"{scale.high:.2f}"
    at_threshold = f"threshold {threshold:.3f}"
    write(legend, low, (left, row), 9, FAINT_INK)
    write(legend, at_threshold, (middle - text_width(at_threshold, 9) // 2, row), 9, INK)
    write(legend, high, (left + bar_px - text_width(high, 9), row), 9, FAINT_INK)
    return legend
