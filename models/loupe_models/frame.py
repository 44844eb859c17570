"""One exposure: colour, depth, or both on the same grid, with identity and time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, Strict

from loupe_calibration.intrinsics import Intrinsics
from loupe_models.errors import FrameError

TimeDomain = Literal["hardware", "global", "system"]


MAX_PX = 2**31 - 1  # OpenCV counts pixels in 32 bits

_Place = Annotated[int, Strict(), Field(ge=0, le=MAX_PX)]
_Extent = Annotated[int, Strict(), Field(ge=1, le=MAX_PX)]


class Rect(NamedTuple):
    """A rectangle of pixels: left, top, width, height; read from a file, it is never negative."""

    x_px: _Place
    y_px: _Place
    width_px: _Extent
    height_px: _Extent


@dataclass(frozen=True, slots=True)
class CameraTime:
    """The camera's own stamp of an exposure."""

    ns: int
    domain: TimeDomain


@dataclass(frozen=True, slots=True)
class Sync:
    """How far apart the two exposures of a frame were, by clocks of one domain."""

    delta_us: int
    domain: TimeDomain


@dataclass(frozen=True, slots=True)
class Label:
    """What a recording's labels file knows of a frame; a live camera has none.

    Attributes:
        rect_px: Where the part is, or None to let the gate find it.
        source: Where the pixels came from: a file name, or the simulator.
        part_id: The physical part, shared by every frame that shows it.
        kind: `good`, `defect`, or None where nobody knows.
        defect: The defect's name, for defects.
        visible_in: The streams in which the defect can be seen.
        mask: Path of the truth mask (PNG, the frame's size), relative to the labels file.
    """

    rect_px: Rect | None = None
    source: str = ""
    part_id: str | None = None
    kind: Literal["good", "defect"] | None = None
    defect: str | None = None
    visible_in: tuple[Literal["rgb", "depth"], ...] = ()
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One exposure of a station's camera. Arrays are made read-only.

    Attributes:
        frame_id: The camera's number for this exposure (of the colour stream where there is one).
        captured_at_ns: Host UNIX time at hand-over.
        rgb: (H, W, 3) uint8, red first; None on a depth-only station.
        depth: (H, W) uint16 in device units, 0 means no measurement; None on a colour-only
            station. Where both are present they share size and `intrinsics`.
        depth_scale_m: Metres per depth unit; required with depth.
        intrinsics: Of the grid both arrays live on; required with depth, None where unknown.
        sync: Present where a camera timed both streams.

    Raises:
        FrameError: Nothing to look at, or shapes, dtypes and intrinsics that do not fit.
    """

    frame_id: int
    captured_at_ns: int
    camera_time: CameraTime
    rgb: npt.NDArray[np.uint8] | None = None
    depth: npt.NDArray[np.uint16] | None = None
    depth_scale_m: float | None = None
    intrinsics: Intrinsics | None = None
    sync: Sync | None = None
    label: Label | None = None

    def __post_init__(self) -> None:
        if self.rgb is None and self.depth is None:
            raise FrameError("a frame needs colour, depth, or both")
        if self.rgb is not None:
            _check_array("rgb", self.rgb, np.dtype(np.uint8), (None, None, 3))
        if self.depth is not None:
            _check_array("depth", self.depth, np.dtype(np.uint16), (None, None))
            if self.depth_scale_m is None or not 0 < self.depth_scale_m < 1:
                raise FrameError(
                    f"depth needs its scale in metres per unit (0.001 for millimetres), "
                    f"got {self.depth_scale_m}"
                )
            if self.intrinsics is None:
                raise FrameError("depth needs the intrinsics of its grid")
        self._check_sizes()

    def _check_sizes(self) -> None:
        sizes = {f"{name} {a.shape[1]}x{a.shape[0]}" for name, a in self._arrays()}
        shapes = {a.shape[:2] for _, a in self._arrays()}
        if self.intrinsics is not None:
            sizes.add("intrinsics {}x{}".format(*self.intrinsics.size_wh))
            shapes.add(self.intrinsics.size_wh[::-1])
        if len(shapes) > 1:
            raise FrameError(f"sizes differ: {', '.join(sorted(sizes))}")

    def _arrays(self) -> list[tuple[str, npt.NDArray[np.generic]]]:
        named: list[tuple[str, npt.NDArray[np.generic] | None]] = [
            ("rgb", self.rgb),
            ("depth", self.depth),
        ]
        return [(name, array) for name, array in named if array is not None]

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        array = self._arrays()[0][1]
        return array.shape[1], array.shape[0]

    @property
    def part_id(self) -> str | None:
        """The physical part, where a label supplies it."""
        return self.label.part_id if self.label else None

    def with_label(self, label: Label | None) -> Frame:
        """Give the same frame with what a labels file says of it."""
        return replace(self, label=label)

    @classmethod
    def from_image(
        cls, rgb: npt.NDArray[np.uint8], *, frame_id: int = 0, label: Label | None = None
    ) -> Frame:
        """Wrap a picture that came from a file rather than a camera.

        Args:
            rgb: (H, W, 3) uint8, red first.
            frame_id: Number to carry in verdicts.
            label: What is known of the picture.
        """
        stamp = CameraTime(ns=0, domain="system")
        return cls(frame_id, captured_at_ns=0, camera_time=stamp, rgb=rgb, label=label)


def _check_array(
    name: str,
    array: npt.NDArray[np.generic],
    dtype: np.dtype[np.generic],
    shape: tuple[int | None, ...],
) -> None:
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype != dtype or 0 in array.shape:
        wanted = "x".join("N" if n is None else str(n) for n in shape)
        raise FrameError(f"{name} must be {wanted} {dtype}, got {array.shape} {array.dtype}")
    array.setflags(write=False)
