"""The one preprocessing: a frame and a region in, the graph's tensors out.

Trainer and edge both call `preprocess`; what it does is an ordered list of steps from a closed
registry, written in the bundle's manifest. Everything after it is inside the exported graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from loupe_calibration.deproject import cloud_along, ray_planes
from loupe_calibration.transform import Transform
from loupe_models.checked import Checked
from loupe_models.errors import FrameError
from loupe_models.frame import Frame, Rect
from loupe_models.groups import group_points
from loupe_models.points import Indices, grid_points, sample_farthest

Tensors = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class PxMap:
    """An axis-aligned map between pixel grids: `frame = scale * map + offset`, per axis.

    Pixel centres lie on integer coordinates.
    """

    scale_x: float
    scale_y: float
    offset_x_px: float
    offset_y_px: float

    def apply(self, uv_px: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Take pixel coordinates (..., 2) of the anomaly map to the frame."""
        offset = np.array((self.offset_x_px, self.offset_y_px))
        return np.asarray(uv_px * np.array((self.scale_x, self.scale_y)) + offset)

    def inverse(self) -> PxMap:
        """Give `map_px_from_frame_px`."""
        return PxMap(
            1 / self.scale_x,
            1 / self.scale_y,
            -self.offset_x_px / self.scale_x,
            -self.offset_y_px / self.scale_y,
        )

    def cropped(self, x_px: int, y_px: int) -> PxMap:
        """Give the map from what is left when the grid begins at a later pixel."""
        return replace(
            self,
            offset_x_px=self.offset_x_px + self.scale_x * x_px,
            offset_y_px=self.offset_y_px + self.scale_y * y_px,
        )

    def resized(self, scale_x: float, scale_y: float) -> PxMap:
        """Give the map from a grid on which a pixel is as large as `scale` pixels of this one."""
        return PxMap(
            self.scale_x * scale_x,
            self.scale_y * scale_y,
            self.offset_x_px + self.scale_x * (scale_x - 1) / 2,
            self.offset_y_px + self.scale_y * (scale_y - 1) / 2,
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes into the graph, and the way back from its map to the frame.

    Attributes:
        tensors: By the graph's input names; `rgb` uint8 (1, H, W, 3), `xyz` float32
            (1, H, W, 3) metres with invalid = 0, `valid` uint8 (1, H, W); of G groups of M
            points, `groups` float32 (1, G, M, 3) metres from the group's centre, nearest first,
            and `centres` float32 (1, G, 3) metres; for each pixel its three nearest centres,
            `nn_index` int32 and `nn_weight` float32 (1, H * W, 3), both 0 where not valid.
        frame_px_from_map_px: From the anomaly map's pixels to the frame's.
    """

    tensors: Tensors
    frame_px_from_map_px: PxMap


class Crop(Checked):
    """Keep the gate's region."""

    step: Literal["crop"] = "crop"


class Resize(Checked):
    """Resample to a fixed size, aspect not kept: colour by area or bilinear, depth by nearest."""

    step: Literal["resize"] = "resize"
    width_px: int = Field(ge=8, le=8192)
    height_px: int = Field(ge=8, le=8192)


class Cloud(Checked):
    """Turn depth into an organized cloud, in the belt frame where the station knows its belt."""

    step: Literal["cloud"] = "cloud"


class RemoveBelt(Checked):
    """Make every point that is not above the belt invalid.

    Attributes:
        min_share: Least share of the pixels that must be left where the graph takes them as they
            lie. The gate saw a part; where depth shows none, nothing can be said of its shape, and
            a bare belt has nothing odd about it.
    """

    step: Literal["remove_belt"] = "remove_belt"
    min_height_m: float = Field(default=0.002, gt=0)
    min_share: float = Field(default=0.01, ge=0, lt=1)


class SamplePoints(Checked):
    """Choose centres among the valid points by farthest-point sampling."""

    step: Literal["sample_points"] = "sample_points"
    n_points: int = Field(default=1024, ge=8, le=16384)


class Group(Checked):
    """Give each centre the valid points nearest to it, and each pixel its nearest centres."""

    step: Literal["group"] = "group"
    size: int = Field(default=128, ge=2, le=1024)


AnyStep = Crop | Resize | Cloud | RemoveBelt | SamplePoints | Group
Step = Annotated[AnyStep, Field(discriminator="step")]
TensorName = Literal["rgb", "xyz", "valid", "groups", "centres", "nn_index", "nn_weight"]
NO_BELT: Final = "step 'remove_belt' needs the station's belt plane"
GROUPED: Final = frozenset({"groups", "centres", "nn_index", "nn_weight"})


class PreprocessSpec(Checked):
    """The steps, in order, and the tensors that the graph takes."""

    steps: tuple[Step, ...]
    tensors: tuple[TensorName, ...] = Field(default=("rgb",), min_length=1)

    @model_validator(mode="after")
    def _steps_make_the_tensors(self) -> PreprocessSpec:
        names = [step.step for step in self.steps]
        if "crop" in names[1:]:
            raise ValueError("crop must come first, and once: the region is in frame pixels")
        if names.count("cloud") > 1:
            raise ValueError("cloud may come once")
        if "remove_belt" in names and "cloud" not in names[: names.index("remove_belt")]:
            raise ValueError("remove_belt must come after cloud")
        if self.needs_depth != ("cloud" in names):
            raise ValueError("xyz, valid and groups need the step cloud, which serves only them")
        self._check_groups(names)
        if len(set(self.tensors)) != len(self.tensors):
            raise ValueError("a tensor is named twice")
        return self

    def _check_groups(self, names: Sequence[str]) -> None:
        wanted = bool(GROUPED & set(self.tensors))
        if wanted != ("group" in names) or wanted != ("sample_points" in names):
            raise ValueError(
                f"{', '.join(sorted(GROUPED))} need the steps sample_points and group, which "
                f"serve only them"
            )
        once = names.count("sample_points") == names.count("group") == 1
        if wanted and not (once and names[-2:] == ["sample_points", "group"]):
            raise ValueError("sample_points and group must come last, once, and in this order")

    @property
    def needs_depth(self) -> bool:
        """Whether any tensor is made from depth."""
        return any(name != "rgb" for name in self.tensors)


@dataclass(frozen=True, slots=True)
class _Work:
    """What the steps hand to each other, all on one grid.

    Attributes:
        planes: (2, H, W) from `ray_planes`, cropped and sampled as `depth` is.
        xyz: (H, W, 3) metres, 0 where not `valid`.
        valid: (H, W) 0 or 1.
        sampled: Which of the valid pixels are centres.
    """

    region: Rect
    frame_px_from_map_px: PxMap
    rgb: npt.NDArray[np.uint8] | None
    depth: npt.NDArray[np.uint16] | None
    planes: npt.NDArray[np.float32] | None
    depth_scale_m: float
    belt_from_camera: Transform | None
    xyz: npt.NDArray[np.float32] | None = None
    valid: npt.NDArray[np.uint8] | None = None
    sampled: Indices | None = None
    grouped: Tensors = field(default_factory=dict)


def preprocess(
    frame: Frame, region: Rect, spec: PreprocessSpec, belt_from_camera: Transform | None = None
) -> Prepared:
    """Make the graph's tensors.

    Args:
        frame: The exposure.
        region: From `gate`.
        spec: From the bundle's manifest.
        belt_from_camera: The station's belt; clouds stay in the optical frame without it.

    Raises:
        FrameError: A stream or a setting that the steps need is missing, or there are fewer
            valid points than they take.
    """
    work = _begin(frame, region, spec, belt_from_camera)
    for step in spec.steps:
        work = _run(work, step)
    made: dict[str, npt.NDArray[np.generic] | None] = {
        "rgb": work.rgb,
        "xyz": work.xyz,
        "valid": work.valid,
        **work.grouped,
    }
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for name in spec.tensors:
        array = made.get(name)
        if array is None:  # `_begin` and the spec's own check leave no way here
            raise FrameError(f"no step makes tensor {name!r}")
        tensors[name] = np.ascontiguousarray(array)[None]
    refuse_bare(tensors, spec)
    return Prepared(tensors, work.frame_px_from_map_px)


def _begin(
    frame: Frame, region: Rect, spec: PreprocessSpec, belt_from_camera: Transform | None
) -> _Work:
    """Take only the streams the spec asks for, so that an unused one costs nothing."""
    check_streams(frame, spec)
    needs_depth = spec.needs_depth
    return _Work(
        region=region,
        frame_px_from_map_px=PxMap(1.0, 1.0, 0.0, 0.0),
        rgb=frame.rgb if "rgb" in spec.tensors else None,
        depth=frame.depth if needs_depth else None,
        planes=ray_planes(frame.intrinsics) if needs_depth and frame.intrinsics else None,
        depth_scale_m=frame.depth_scale_m or 0.0,
        belt_from_camera=belt_from_camera,
    )


def check_streams(frame: Frame, spec: PreprocessSpec) -> None:
    """Refuse a frame that lacks a stream the tensors are made from.

    Raises:
        FrameError: It does.
    """
    if "rgb" in spec.tensors and frame.rgb is None:
        raise FrameError("the bundle looks at colour, and the frame has none: add the stream")
    if spec.needs_depth and frame.depth is None:
        raise FrameError("the bundle looks at depth, and the frame has none: add the stream")


def refuse_bare(tensors: Tensors, spec: PreprocessSpec) -> None:
    """Refuse a region in which nothing stands on the belt.

    Raises:
        FrameError: Less than the step `remove_belt` asks for.
    """
    asked = max((s.min_share for s in spec.steps if isinstance(s, RemoveBelt)), default=0.0)
    if asked and "valid" in tensors:
        share = np.count_nonzero(tensors["valid"]) / tensors["valid"].size
        if share < asked:
            raise FrameError(
                f"{share:.1%} of the region stands above the belt, and {asked:.0%} must: depth "
                f"shows no part, or is wrong"
            )


def _run(work: _Work, step: AnyStep) -> _Work:
    if isinstance(step, Crop):
        return _crop(work)
    if isinstance(step, Resize):
        return _resize(work, step)
    if isinstance(step, Cloud):
        return _cloud(work)
    if isinstance(step, RemoveBelt):
        return _remove_belt(work, step)
    if isinstance(step, SamplePoints):
        return _sample_points(work, step)
    return _group(work, step)


def _crop(work: _Work) -> _Work:
    x, y, width, height = work.region
    window = (slice(y, y + height), slice(x, x + width))
    return replace(
        work,
        rgb=None if work.rgb is None else work.rgb[window],
        depth=None if work.depth is None else work.depth[window],
        planes=None if work.planes is None else work.planes[:, window[0], window[1]],
        xyz=None if work.xyz is None else work.xyz[window],
        valid=None if work.valid is None else work.valid[window],
        frame_px_from_map_px=work.frame_px_from_map_px.cropped(x, y),
    )


def _resize(work: _Work, step: Resize) -> _Work:
    arrays = (work.rgb, work.depth, work.xyz)
    height, width = next(a.shape[:2] for a in arrays if a is not None)
    to_wh = (step.width_px, step.height_px)
    rows, columns = nearest_px(height, step.height_px), nearest_px(width, step.width_px)
    return replace(
        work,
        rgb=None if work.rgb is None else _resample(work.rgb, to_wh),
        # `take` leaves rows whole in memory, which fancy indexing does not; later steps like that.
        depth=None if work.depth is None else work.depth.take(rows, 0).take(columns, 1),
        planes=None if work.planes is None else work.planes.take(rows, 1).take(columns, 2),
        xyz=None if work.xyz is None else work.xyz.take(rows, 0).take(columns, 1),
        valid=None if work.valid is None else work.valid.take(rows, 0).take(columns, 1),
        frame_px_from_map_px=work.frame_px_from_map_px.resized(
            width / step.width_px, height / step.height_px
        ),
    )


def nearest_px(n_from: int, n_to: int) -> Indices:
    """Give, for each of n_to pixels of a line, which of the n_from pixels lies under its middle."""
    return ((np.arange(n_to) + 0.5) * (n_from / n_to)).astype(np.intp)


def _resample(rgb: npt.NDArray[np.uint8], to_wh: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Shrink by area (no aliasing), grow bilinearly, each axis for itself where they disagree."""
    height, width = rgb.shape[:2]
    if (width, height) == to_wh:
        return rgb
    if to_wh[0] <= width and to_wh[1] <= height:
        # Through float: the values of OpenCV's own uint8 path, exact halves apart, in two thirds of
        # its time.
        mean = cv2.resize(rgb.astype(np.float32), to_wh, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.convertScaleAbs(mean), dtype=np.uint8)
    if to_wh[0] >= width and to_wh[1] >= height:
        return np.asarray(cv2.resize(rgb, to_wh, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return _resample(_resample(rgb, (to_wh[0], height)), to_wh)


def _cloud(work: _Work) -> _Work:
    if work.depth is None or work.planes is None:
        raise FrameError("step 'cloud' needs depth, and the frame has none")
    xyz = cloud_along(work.planes, work.depth, work.depth_scale_m)
    if work.belt_from_camera is not None:
        xyz = work.belt_from_camera.apply(xyz)
    valid = (work.depth > 0).view(np.uint8)
    return replace(work, xyz=_zero_unless(valid, xyz), valid=valid)


def _remove_belt(work: _Work, step: RemoveBelt) -> _Work:
    if work.xyz is None or work.valid is None:
        raise FrameError("step 'remove_belt' must come after 'cloud'")
    if work.belt_from_camera is None:
        raise FrameError(NO_BELT)
    valid = work.valid & (work.xyz[..., 2] >= step.min_height_m).view(np.uint8)
    return replace(work, xyz=_zero_unless(valid, work.xyz), valid=valid)


def _sample_points(work: _Work, step: SamplePoints) -> _Work:
    if work.xyz is None or work.valid is None:
        raise FrameError("step 'sample_points' must come after 'cloud'")
    return replace(work, sampled=sample_farthest(grid_points(work.xyz, work.valid), step.n_points))


def _group(work: _Work, step: Group) -> _Work:
    if work.xyz is None or work.valid is None or work.sampled is None:
        raise FrameError("step 'group' must come after 'sample_points'")
    return replace(work, grouped=group_points(work.xyz, work.valid, work.sampled, step.size))


def _zero_unless(
    valid: npt.NDArray[np.uint8], xyz: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Put 0 where a point is not valid (NaN there would poison the whole graph)."""
    return np.asarray(cv2.copyTo(xyz, valid), dtype=np.float32)
