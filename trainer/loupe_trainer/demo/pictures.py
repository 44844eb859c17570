"""The demo's pictures: each inspected part as colour, height, anomaly map and truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.deproject import deproject
from loupe_calibration.transform import Transform
from loupe_edge.inspector import Inspection
from loupe_models.frame import Frame, Rect

Picture = npt.NDArray[np.uint8]

HEIGHT_RANGE_M = (-0.002, 0.018)
TRUTH_RGB = (255, 64, 160)
BOX_RGB = (255, 176, 0)
NO_MEASUREMENT_RGB = (24, 24, 24)


@dataclass(frozen=True, slots=True)
class Views:
    """Four views of one inspected region, all the region's size, RGB uint8."""

    colour: Picture
    height: Picture
    anomaly: Picture
    truth: Picture


def draw_views(
    frame: Frame,
    inspection: Inspection,
    mask: npt.NDArray[np.bool_] | None,
    belt_from_camera: Transform,
) -> Views:
    """Draw one part.

    Args:
        frame: With colour and depth.
        inspection: What the edge made of it.
        mask: Truth, (H, W) of the frame, for defects.
        belt_from_camera: Makes height of depth.
    """
    window = _window(inspection.region)
    colour = np.ascontiguousarray(_rgb(frame)[window])
    truth = colour.copy()
    if mask is not None:
        outlines, _ = cv2.findContours(
            mask[window].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(truth, outlines, -1, TRUTH_RGB, 2)
    return Views(
        colour, draw_height(frame, belt_from_camera)[window], draw_map(colour, inspection), truth
    )


def draw_map(colour: Picture, inspection: Inspection) -> Picture:
    """Lay the anomaly map over the part: clear at the typical score, opaque at the threshold."""
    if inspection.anomaly_map is None:
        return np.full_like(colour, NO_MEASUREMENT_RGB)
    size_wh = (colour.shape[1], colour.shape[0])
    anomaly = cv2.resize(inspection.anomaly_map, size_wh, interpolation=cv2.INTER_LINEAR)
    share = np.clip(anomaly / max(inspection.threshold, 1e-6), 0, 1.5) / 1.5
    heat = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = cv2.cvtColor(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    drawn = np.asarray(cv2.addWeighted(grey, 0.35, np.ascontiguousarray(heat), 0.65, 0), np.uint8)
    for region in inspection.regions:
        x, y, width, height = region.bbox_px
        corner = (x - inspection.region.x_px, y - inspection.region.y_px)
        cv2.rectangle(drawn, corner, (corner[0] + width, corner[1] + height), BOX_RGB, 2)
    return drawn


def draw_height(frame: Frame, belt_from_camera: Transform) -> Picture:
    """Draw height above the belt, up to 18 mm, dark where there is no measurement."""
    if frame.depth is None or frame.intrinsics is None or frame.depth_scale_m is None:
        return np.full((*frame.size_wh[::-1], 3), NO_MEASUREMENT_RGB, np.uint8)
    points = deproject(frame.depth, frame.intrinsics, frame.depth_scale_m)
    height_m = belt_from_camera.apply(points)[..., 2]
    low, high = HEIGHT_RANGE_M
    share = np.clip((np.nan_to_num(height_m) - low) / (high - low), 0, 1)
    picture = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    picture = np.ascontiguousarray(picture, dtype=np.uint8)
    picture[frame.depth == 0] = NO_MEASUREMENT_RGB
    return picture


def draw_line(frame: Frame, inspection: Inspection, belt_from_camera: Transform) -> Picture:
    """Draw what the station sees, whole: colour with region and findings, height beside it."""
    seen = _rgb(frame).copy()
    x, y, width, height = inspection.region
    colour = {"good": (64, 200, 96), "defect": (235, 64, 52)}.get(inspection.decision, BOX_RGB)
    cv2.rectangle(seen, (x, y), (x + width - 1, y + height - 1), colour, 2)
    seen[_window(inspection.region)] = _banner(seen[_window(inspection.region)], inspection, colour)
    for region in inspection.regions:
        left, top, box_width, box_height = region.bbox_px
        corners = (left - 3, top - 3), (left + box_width + 2, top + box_height + 2)
        cv2.rectangle(seen, corners[0], corners[1], BOX_RGB, 2)
    overlaid = _rgb(frame).copy()
    overlaid[_window(inspection.region)] = draw_map(
        np.ascontiguousarray(overlaid[_window(inspection.region)]), inspection
    )
    views = (seen, draw_height(frame, belt_from_camera), overlaid)
    return np.concatenate(list(_framed(views)), axis=1)


def _banner(picture: Picture, inspection: Inspection, colour: tuple[int, int, int]) -> Picture:
    drawn = np.ascontiguousarray(picture)
    text = inspection.decision.upper()
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 0.6, 1)
    cv2.rectangle(drawn, (0, 0), (width + 16, height + 14), colour, cv2.FILLED)
    cv2.putText(
        drawn, text, (8, height + 7), cv2.FONT_HERSHEY_DUPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA
    )
    return drawn


def _framed(views: tuple[Picture, ...]) -> Iterator[Picture]:
    for i, view in enumerate(views):
        yield view
        if i + 1 < len(views):
            yield np.full((view.shape[0], 6, 3), 255, np.uint8)


def _rgb(frame: Frame) -> Picture:
    return np.zeros((*frame.size_wh[::-1], 3), np.uint8) if frame.rgb is None else frame.rgb


def _window(region: Rect) -> tuple[slice, slice]:
    x, y, width, height = region
    return slice(y, y + height), slice(x, x + width)
