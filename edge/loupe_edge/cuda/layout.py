"""What a specification asks of one region, worked out before any pixel is touched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from loupe_edge.cuda.tables import Table
from loupe_edge.errors import StationError
from loupe_models.frame import Rect
from loupe_models.preprocess import (
    Cloud,
    Crop,
    Group,
    PreprocessSpec,
    PxMap,
    RemoveBelt,
    Resize,
    SamplePoints,
    nearest_px,
)

Size = tuple[int, int]

KNOWN: Final = (Crop, Resize, Cloud, RemoveBelt, SamplePoints, Group)
N_LAYOUTS: Final = 32  # a labelled recording has a region a frame, a station has one


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The steps of a specification, for a frame's size and a region.

    Attributes:
        window: What is taken of the frame.
        sizes_wh: Of the colour picture, before and after each pass of resampling.
        rows: (height,) int32, which row of the window each row of the cloud is.
        columns: (width,) int32, likewise.
        min_height_m: Where belt is removed; minus infinity where it is not.
        n_centres: 0 where points are not grouped, as `group_size`.
    """

    window: Rect
    sizes_wh: tuple[Size, ...]
    rows: Table
    columns: Table
    min_height_m: float
    n_centres: int
    group_size: int
    frame_px_from_map_px: PxMap

    @property
    def size_wh(self) -> Size:
        """Of every organized tensor."""
        return len(self.columns), len(self.rows)

    @property
    def removes_belt(self) -> bool:
        """Whether the station's belt is needed."""
        return math.isfinite(self.min_height_m)


def refuse_unknown(spec: PreprocessSpec) -> None:
    """Refuse a specification with a step that no kernel does: its tensors would be others.

    Raises:
        StationError: Names the step.
    """
    for step in spec.steps:
        if not isinstance(step, KNOWN):
            raise StationError(
                f"the GPU front does not know the bundle's preprocessing step {step.step!r}: "
                f'choose front = "cpu"'
            )


@lru_cache(maxsize=N_LAYOUTS)
def make_layout(frame_wh: Size, region: Rect, spec: PreprocessSpec) -> Layout:
    """Follow the steps. Picking pixels and moving points commute, so the cloud comes once, last.

    Raises:
        StationError: A step is unknown.
    """
    refuse_unknown(spec)
    is_cropped = any(isinstance(step, Crop) for step in spec.steps)
    window = region if is_cropped else Rect(0, 0, *frame_wh)
    to_frame = PxMap(1.0, 1.0, 0.0, 0.0).cropped(window.x_px, window.y_px)
    sizes = [(window.width_px, window.height_px)]
    rows, columns = np.arange(window.height_px), np.arange(window.width_px)
    min_height_m, n_centres, group_size = -math.inf, 0, 0
    for step in spec.steps:
        if isinstance(step, Resize):
            (width, height), to_wh = sizes[-1], (step.width_px, step.height_px)
            sizes += _passes((width, height), to_wh)
            rows = rows[nearest_px(height, step.height_px)]
            columns = columns[nearest_px(width, step.width_px)]
            to_frame = to_frame.resized(width / step.width_px, height / step.height_px)
        elif isinstance(step, RemoveBelt):
            min_height_m = max(min_height_m, step.min_height_m)
        elif isinstance(step, SamplePoints):
            n_centres = step.n_points
        elif isinstance(step, Group):
            group_size = step.size
    return Layout(
        window,
        tuple(sizes),
        rows.astype(np.int32),
        columns.astype(np.int32),
        min_height_m,
        n_centres,
        group_size,
        to_frame,
    )


def _passes(from_wh: Size, to_wh: Size) -> list[Size]:
    """Give the sizes on the way: an axis that grows and one that shrinks take a pass each."""
    if from_wh == to_wh:
        return []
    grows = [to > before for before, to in zip(from_wh, to_wh, strict=True)]
    shrinks = [to < before for before, to in zip(from_wh, to_wh, strict=True)]
    if any(grows) and any(shrinks):
        return [(to_wh[0], from_wh[1]), to_wh]
    return [to_wh]
