"""The preprocessing steps as launches of kernels, on memory that lasts."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from loupe_calibration.deproject import ray_planes
from loupe_calibration.transform import Transform
from loupe_edge.cuda.device import Argument
from loupe_edge.cuda.layout import Layout, Size
from loupe_edge.cuda.memory import Memory
from loupe_edge.cuda.shared import AnyArray, DeviceArray
from loupe_edge.cuda.tables import neighbours, shares, whole_step
from loupe_models.errors import FrameError
from loupe_models.frame import Frame
from loupe_models.points import refuse_few, refuse_wide

BLOCK_XY: Final = (32, 8)
BLOCK: Final = 256
MAX_SAMPLING_THREADS: Final = 1024  # one block's limit
POINTS_A_THREAD: Final = 16
INT_LIMIT: Final = 2**31 - 1
N_FOUND: Final = 7  # of points.cu: least x, y, z, greatest x, y, z, and how many

Made = dict[str, DeviceArray]
Arguments = tuple[Argument, ...]


def resize_colour(memory: Memory, frame: Frame, layout: Layout) -> DeviceArray:
    """Bring the window of a colour frame to the graph's size, (1, H, W, 3) uint8."""
    if frame.rgb is None:
        raise FrameError("the frame has no colour")
    made = memory.frame("rgb 0", _window(frame.rgb, layout))
    for number, (from_wh, to_wh) in enumerate(pairwise(layout.sizes_wh)):
        out = memory.array(f"rgb {number + 1}", (*to_wh[::-1], 3), np.uint8)
        _resample(memory, number, (made, out), from_wh, to_wh)
        made = out
    return replace(made, shape=(1, *made.shape))


def make_cloud(
    memory: Memory, frame: Frame, layout: Layout, belt_from_camera: Transform | None
) -> Made:
    """Make `xyz` (1, H, W, 3) float32 metres and `valid` (1, H, W) uint8."""
    if frame.depth is None or frame.intrinsics is None:
        raise FrameError("the frame has no depth")
    width, height = layout.size_wh
    xyz = memory.array("xyz", (1, height, width, 3), np.float32)
    valid = memory.array("valid", (1, height, width), np.uint8)
    memory.device.launch(
        "make_cloud",
        _blocks_xy(layout.size_wh),
        BLOCK_XY,
        memory.frame("depth", _window(frame.depth, layout)),
        memory.constant("planes", ray_planes(frame.intrinsics)),
        memory.constant("rows", layout.rows),
        memory.constant("columns", layout.columns),
        memory.constant("belt", _rows_of(belt_from_camera or Transform.identity())),
        np.int32(belt_from_camera is not None),
        np.float32(layout.min_height_m),
        np.float32(frame.depth_scale_m),
        *_ints(layout.window.x_px, layout.window.y_px, layout.window.width_px),
        *_ints(*frame.size_wh, width, height),
        xyz,
        valid,
    )
    return {"xyz": xyz, "valid": valid}


def group_around_centres(memory: Memory, cloud: Made, layout: Layout) -> Made:
    """Sample centres, and make `groups`, `centres`, `nn_index` and `nn_weight`.

    Raises:
        FrameError: Fewer valid points than the steps take, or too far apart.
    """
    n_px = layout.size_wh[0] * layout.size_wh[1]
    points, n_points, spans = _gather(memory, cloud, n_px)
    refuse_few(n_points, layout.n_centres, "sample_points")
    refuse_wide(spans, n_points.bit_length())
    refuse_few(n_points, layout.group_size, "a group")
    chosen = memory.array("chosen", (layout.n_centres,), np.int32)
    farness = memory.array("farness", (n_px,), np.uint64)
    counts = (np.int32(n_px), np.int32(n_points))
    sampled: Arguments = (points, *counts, np.int32(layout.n_centres), farness, chosen)
    memory.device.launch("sample_farthest", (1, 1), (_sampling_threads(n_points), 1), *sampled)
    made = {
        "groups": memory.array("groups", (1, layout.n_centres, layout.group_size, 3), np.float32),
        "centres": memory.array("centres", (1, layout.n_centres, 3), np.float32),
        "nn_index": memory.array("nn_index", (1, n_px, 3), np.int32),
        "nn_weight": memory.array("nn_weight", (1, n_px, 3), np.float32),
    }
    key_bits = sum(span * span for span in spans).bit_length() + n_points.bit_length()
    n_sorted = 2 << (layout.group_size - 1).bit_length()
    sizes = _ints(layout.group_size, key_bits, n_sorted)
    grouped: Arguments = (points, *counts, chosen, *sizes, made["groups"], made["centres"])
    memory.device.launch("group_nearest", (layout.n_centres, 1), (BLOCK, 1), *grouped)
    spread: Arguments = (
        *(cloud["xyz"], cloud["valid"], np.int32(n_px), points, np.int32(n_px), chosen),
        *(np.int32(layout.n_centres), made["nn_index"], made["nn_weight"]),
    )
    memory.device.launch("nearest_centres", (_blocks(n_px), 1), (BLOCK, 1), *spread)
    return made


def _gather(memory: Memory, cloud: Made, n_px: int) -> tuple[DeviceArray, int, list[int]]:
    """Give the valid points, how many they are, and their extent by axis in grid steps.

    The one place where the host waits: what it may have to refuse is only known there.
    """
    points = memory.array("points", (3, n_px), np.int32)
    in_block = memory.array("in block", (_blocks(n_px),), np.int32)
    found = memory.array("found", (N_FOUND,), np.int32)
    grid, block, n = (_blocks(n_px), 1), (BLOCK, 1), np.int32(n_px)
    memory.device.launch("count_valid", grid, block, cloud["valid"], n, in_block, found)
    gathered: Arguments = (cloud["xyz"], cloud["valid"], n, in_block, n, points, found)
    memory.device.launch("gather_points", grid, block, *gathered)
    (numbers,) = memory.device.read([found])
    *extents, n_points = (int(number) for number in numbers.tolist())
    if n_points and (max(extents) >= INT_LIMIT or min(extents) <= -INT_LIMIT):
        return points, n_points, [INT_LIMIT] * 3  # 21 km from the origin: nothing is that far
    spans = [high - low for low, high in zip(extents[:3], extents[3:], strict=True)]
    return points, n_points, spans


def _resample(
    memory: Memory, number: int, arrays: tuple[DeviceArray, DeviceArray], from_wh: Size, to_wh: Size
) -> None:
    """Resize once; both axes shrink, or both grow, where they change at all."""
    source, out = arrays
    (width, height), (to_width, to_height) = from_wh, to_wh
    to_size = _ints(*to_wh)
    if to_width > width or to_height > height:
        columns = memory.constant(f"columns {number}", neighbours(width, to_width, is_row=True))
        rows = memory.constant(f"rows {number}", neighbours(height, to_height, is_row=False))
        arguments: Arguments = (source, np.int32(width), columns, rows, *to_size, out)
        memory.device.launch("grow", _blocks_xy(to_wh), BLOCK_XY, *arguments)
        return
    step_x, step_y = whole_step(width, to_width), whole_step(height, to_height)
    if step_x is not None and step_y is not None:
        share = np.float32(1 / (step_x * step_y))
        arguments = (source, *_ints(step_x, step_y), share, *to_size, out)
        memory.device.launch("shrink_whole", _blocks_xy(to_wh), BLOCK_XY, *arguments)
        return
    tables: list[DeviceArray] = []
    for axis, one in (("columns", shares(width, to_width)), ("rows", shares(height, to_height))):
        for kind, table in (("begin", one.begin), ("source", one.source), ("share", one.share)):
            tables.append(memory.constant(f"{axis} {kind} {number}", table))
    arguments = (source, np.int32(width), *tables, *to_size, out)
    memory.device.launch("shrink", _blocks_xy(to_wh), BLOCK_XY, *arguments)


def _window(array: AnyArray, layout: Layout) -> AnyArray:
    x, y, width, height = layout.window
    return array[y : y + height, x : x + width]


@lru_cache(maxsize=8)
def _rows_of(belt_from_camera: Transform) -> npt.NDArray[np.float32]:
    return belt_from_camera.matrix()[:3].astype(np.float32)


def _sampling_threads(n_points: int) -> int:
    """Give a power of two: more threads than have work only wait for each other."""
    wanted = 1 << (n_points // POINTS_A_THREAD).bit_length()
    return max(32, min(MAX_SAMPLING_THREADS, wanted))


def _blocks(n: int) -> int:
    return -(-n // BLOCK)


def _blocks_xy(size_wh: Size) -> tuple[int, int]:
    return -(-size_wh[0] // BLOCK_XY[0]), -(-size_wh[1] // BLOCK_XY[1])


def _ints(*numbers: int) -> tuple[np.int32, ...]:
    return tuple(np.int32(number) for number in numbers)
