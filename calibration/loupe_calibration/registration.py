"""Depth seen from the colour camera: every depth pixel moved to where colour would see it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loupe_calibration.deproject import ray_table
from loupe_calibration.errors import CalibrationError
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform

NEAREST_M = 0.05  # no depth camera measures nearer
COARSER = 0.94  # of the middle grid: surfaces up to 60 degrees from frontal leave no cracks in it
UNKNOWN = np.iinfo(np.uint16).max


class Registration:
    """Depth on its own grid in, depth on the colour grid out.

    The samples are thrown onto a middle grid, a pinhole camera at colour's place a little coarser
    than depth's own grid, where the nearest wins; colour pixels then look up the cell that their
    ray meets, which takes care of colour's distortion. Only depth that colour can see is moved.

    The SDK's `align` moves the raw value unchanged and paints it over every colour pixel that the
    sample touches, nearest first; this gives the distance along colour's own axis.

    Not for two threads at once: the working memory is kept from frame to frame.
    """

    def __init__(
        self, depth: Intrinsics, rgb: Intrinsics, rgb_from_depth: Transform, depth_scale_m: float
    ) -> None:
        self._size_wh = depth.size_wh
        rgb_rays = ray_table(rgb)[..., :2].astype(np.float64)
        low, high = rgb_rays.min((0, 1)), rgb_rays.max((0, 1))
        focal_px = COARSER * min(depth.fx_px, depth.fy_px, rgb.fx_px, rgb.fy_px)
        # One cell all around takes what colour does not see; nobody looks there.
        self._width, self._height = (np.ceil((high - low) * focal_px) + 3).astype(int).tolist()
        origin = 1.5 - low * focal_px  # half a cell more, so that a cast rounds
        cells = np.floor(rgb_rays * focal_px + origin).astype(np.intp)
        self._cell_of_pixel = cells[..., 1] * self._width + cells[..., 0]
        self._middle = np.empty(self._height * self._width, np.uint16)

        # A point p = z * ray moves to z * rotation @ ray + t. With c = (rotation @ ray).z and q =
        # 1 / (z c + t.z), its place in the middle grid is linear in q: u = at_infinity + slope * q.
        turned = ray_table(depth).astype(np.float64) @ np.asarray(rgb_from_depth.rotation).T
        t = np.asarray(rgb_from_depth.translation_m) / depth_scale_m
        c = turned[..., 2]
        if c.min() <= 0:
            raise CalibrationError("colour and depth look in different directions")
        tangent = turned[..., :2] / c[..., None]
        at_infinity = tangent * focal_px + origin
        slope = (t[:2] - tangent * t[2]) * focal_px
        self._window = self._seen(at_infinity, slope * depth_scale_m / NEAREST_M)
        planes = (c, at_infinity[..., 0], slope[..., 0], at_infinity[..., 1], slope[..., 1])
        self._planes = tuple(np.ascontiguousarray(p[self._window], np.float32) for p in planes)
        self._forward = np.float32(t[2])
        self._nearest = np.float32(NEAREST_M / depth_scale_m)
        self._work = [np.empty(self._planes[0].shape, np.float32) for _ in range(3)]
        self._cell = np.empty(self._planes[0].shape, np.intp)

    def apply(self, depth: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        """Move one depth map.

        Args:
            depth: (H, W) on depth's own grid, device units; 0 means no measurement.

        Returns:
            On the colour grid, (H, W), the same units; 0 where no measurement is seen.

        Raises:
            CalibrationError: The depth size differs from its intrinsics.
        """
        if depth.shape[::-1] != self._size_wh:
            raise CalibrationError(
                f"depth is {depth.shape[1]}x{depth.shape[0]}, its intrinsics are for "
                f"{self._size_wh[0]}x{self._size_wh[1]}"
            )
        seen = depth[self._window]
        c, u_far, u_slope, v_far, v_slope = self._planes
        z, q, u = self._work
        np.multiply(seen, c, out=z)
        z += self._forward
        np.maximum(z, self._nearest, out=q)
        np.reciprocal(q, out=q)
        self._place(u_far, u_slope, q, self._width - 1, out=u)
        self._place(v_far, v_slope, q, self._height - 1, out=q)
        q *= np.float32(self._width)
        q += u
        np.copyto(self._cell, q, casting="unsafe")
        self._cell *= seen > 0  # a hole goes to the first cell, where nobody looks
        z += np.float32(0.5)
        np.clip(z, 0, UNKNOWN, out=z)
        self._middle.fill(UNKNOWN)
        np.minimum.at(self._middle, self._cell.ravel(), z.astype(np.uint16).ravel())
        self._middle[self._middle == UNKNOWN] = 0
        return np.asarray(self._middle.take(self._cell_of_pixel), np.uint16)

    @staticmethod
    def _place(
        far: npt.NDArray[np.float32], slope: npt.NDArray[np.float32], q: npt.NDArray[np.float32],
        last: int, out: npt.NDArray[np.float32],
    ) -> None:  # fmt: skip
        """Give whole cells along one axis, held inside the grid."""
        np.multiply(slope, q, out=out)
        np.add(out, far, out=out)
        np.clip(out, 0, last, out=out)
        np.floor(out, out=out)

    def _seen(
        self, at_infinity: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]
    ) -> tuple[slice, slice]:
        """Give the window of depth pixels that colour may see at some distance."""
        near, most = at_infinity + shift, np.array((self._width - 1, self._height - 1))
        inside = (np.maximum(near, at_infinity) >= 1) & (np.minimum(near, at_infinity) < most)
        rows, columns = np.nonzero(inside.all(-1))
        if not len(rows):
            raise CalibrationError("colour and depth never look at the same place")
        return (
            slice(int(rows.min()), int(rows.max()) + 1),
            slice(int(columns.min()), int(columns.max()) + 1),
        )
