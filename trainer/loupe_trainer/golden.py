"""Golden frames: raw exposures with known answers, clear of the threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.transform import Transform
from loupe_models.frame import Frame, Rect
from loupe_models.manifest import Golden
from loupe_models.png import write_png
from loupe_trainer.errors import TrainingError
from loupe_trainer.scorer import Scorer
from loupe_trainer.views import View

N_EACH = 2
MARGIN_TOLERANCES = 5
MAX_TRIED = 60  # frames looked at for either answer
STRENGTHS = (0.15, 0.25, 0.4, 0.6, 1.0)
N_CELLS = 8
MAX_STEP_M = 0.03
SHARES = (8, 3, 1)  # of the region's shorter side: from a spot to all of it

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class GoldenFrame:
    """A raw frame, where the gate looked, and the reference engine's answer."""

    frame: Frame
    region: Rect
    score: float
    decision: Literal["good", "defect"]


@dataclass(frozen=True, slots=True)
class GoldenRule:
    """What makes a frame golden.

    Attributes:
        margin: Least distance between its score and the threshold.
    """

    view: View
    scorer: Scorer
    threshold: float
    margin: float

    def judge(self, frame: Frame) -> GoldenFrame | None:
        """Answer for a frame; None where the gate sees no part or the score is too close.

        What is given back holds only the streams that the mode looks at.
        """
        region = self.view.region(frame)
        return None if region is None else self.judge_in(region, self.less_unused(frame))

    def judge_in(self, region: Rect, frame: Frame) -> GoldenFrame | None:
        """Answer for a region of a frame, which need not have what the gate looks at."""
        score = self.scorer.answer(self.view.prepared(frame, region)).score
        if abs(score - self.threshold) < self.margin:
            return None
        decision: Literal["good", "defect"] = "defect" if score > self.threshold else "good"
        return GoldenFrame(frame, region, score, decision)

    def less_unused(self, frame: Frame) -> Frame:
        """Keep only what the mode looks at: the proof runs where the other camera is dead."""
        takes_depth = self.view.preprocess.needs_depth
        return replace(
            frame,
            rgb=frame.rgb if "rgb" in self.view.preprocess.tensors else None,
            depth=frame.depth if takes_depth else None,
            depth_scale_m=frame.depth_scale_m if takes_depth else None,
        )


def choose_golden(
    good: Iterable[Frame], defects: Iterable[Frame], rule: GoldenRule
) -> tuple[GoldenFrame, ...]:
    """Choose two frames that pass and two that do not.

    Where no real defect serves, good frames are spoiled: the least change that clears the
    threshold by the margin is taken, so that its score stays in the range that matters.

    Args:
        good: Calibration frames of good parts.
        defects: Frames of defective parts; may be empty.
        rule: What makes a frame golden.

    Raises:
        TrainingError: No frame passes, or nothing makes the network object.
    """
    tried = _first(good, MAX_TRIED)
    passing = _take((rule.judge(frame) for frame in tried), "good")
    failing = _take((rule.judge(frame) for frame in _first(defects, MAX_TRIED)), "defect")
    if not failing:
        # The gate is not asked again: it may look at the stream that the mode does not keep.
        spoiled = (
            rule.judge_in(found.region, frame)
            for found in passing
            for frame in spoil(found.frame, found.region)
        )
        failing = _take(spoiled, "defect")
    if not passing:
        raise TrainingError(
            "no calibration frame passes the threshold clearly: raise the steps in [fit]"
        )
    if not failing:
        raise TrainingError(
            "neither a defect nor a spoiled part makes the network object: it has not learnt "
            "enough; raise its steps in [fit] and give --out a new folder"
        )
    return (*passing, *failing)


def write_golden(folder: Path, name: str, golden: GoldenFrame, belt: Transform | None) -> Golden:
    """Write a golden frame's pictures into a bundle and describe it.

    Args:
        folder: The bundle being made.
        name: Begins the files' names; unique in the bundle.
        golden: To be written.
        belt: The belt it was seen over, where one was used.
    """
    frame = golden.frame
    rgb = depth = None
    if frame.rgb is not None:
        rgb = _write(folder, f"golden/{name}-rgb.png", frame.rgb[..., ::-1])
    if frame.depth is not None:
        depth = _write(folder, f"golden/{name}-depth.png", frame.depth)
    return Golden(
        rgb=rgb,
        depth=depth,
        depth_scale_m=frame.depth_scale_m,
        intrinsics=frame.intrinsics,
        belt_from_camera=belt,
        rect_px=golden.region,
        image_score=golden.score,
        decision=golden.decision,
    )


def spoil(frame: Frame, region: Rect) -> Iterator[Frame]:
    """Lay a patchwork on a part, ever more visible, then ever larger: full colours, and steps.

    Its cells outlast a reduction to the network's size, where finer noise would blur to grey.

    Args:
        frame: A good part's, less the streams that the mode does not look at.
        region: Where the part is.
    """
    x, y, width, height = region
    random = np.random.default_rng(0)
    for share in SHARES:
        side = max(4, min(width, height) // share)
        left, top = x + (width - side) // 2, y + (height - side) // 2
        window = (slice(top, top + side), slice(left, left + side))
        cells = random.integers(0, 2, (N_CELLS, N_CELLS, 3)).astype(np.float32)
        grown = cv2.resize(cells, (side, side), interpolation=cv2.INTER_NEAREST)
        noise = np.asarray(grown, np.float32)
        for strength in STRENGTHS:
            yield replace(
                frame,
                rgb=_coloured(frame, window, noise, strength),
                depth=_raised(frame, window, noise, strength),
            )


def _coloured(
    frame: Frame, window: Window, noise: npt.NDArray[np.float32], strength: float
) -> npt.NDArray[np.uint8] | None:
    if frame.rgb is None:
        return None
    rgb = frame.rgb.copy()
    patch = frame.rgb[window].astype(np.float32)
    rgb[window] = ((1 - strength) * patch + strength * (255 * noise)).astype(np.uint8)
    return np.asarray(rgb, np.uint8)


def _raised(
    frame: Frame, window: Window, noise: npt.NDArray[np.float32], strength: float
) -> npt.NDArray[np.uint16] | None:
    """Bring cells nearer to the camera; what is not measured stays so."""
    if frame.depth is None or frame.depth_scale_m is None:
        return None
    depth = frame.depth.copy()
    patch = frame.depth[window].astype(np.float32)
    nearer = patch - noise[..., 0] * strength * MAX_STEP_M / frame.depth_scale_m
    depth[window] = np.where(patch > 0, np.maximum(nearer, 1), 0).astype(np.uint16)
    return np.asarray(depth, np.uint16)


def _first(frames: Iterable[Frame], n: int) -> list[Frame]:
    return [frame for frame, _ in zip(frames, range(n), strict=False)]


def _take(judged: Iterable[GoldenFrame | None], decision: str) -> list[GoldenFrame]:
    found: list[GoldenFrame] = []
    for golden in judged:
        if golden is not None and golden.decision == decision:
            found.append(golden)
        if len(found) == N_EACH:
            break
    return found


def _write(folder: Path, name: str, picture: npt.NDArray[np.generic]) -> str:
    write_png(folder / name, picture)
    return name
