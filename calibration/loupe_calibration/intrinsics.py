"""The pinhole camera with lens distortion, and how a point becomes a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import CalibrationError

Distortion = Literal["none", "brown_conrady", "inverse_brown_conrady"]
N_COEFFS = 5
MAX_ITERATIONS, CONVERGED = 100, 1e-12  # of `undistort`, in normalised coordinates


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A stream's camera matrix and lens distortion; pixel centres lie on integer coordinates.

    Attributes:
        distortion: librealsense's name. Both models bend when projecting: `brown_conrady` is
            OpenCV's; `inverse_brown_conrady` takes the tangential terms from the point that the
            radial terms have moved already. (The name is history: the SDK has long stopped
            bending when deprojecting.)
        coeffs: k1, k2, p1, p2, k3.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    distortion: Distortion = "none"
    coeffs: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.width_px <= 0 or self.height_px <= 0:
            raise CalibrationError(f"image size must be positive, got {self.size_wh}")
        numbers = (self.fx_px, self.fy_px, self.cx_px, self.cy_px, *self.coeffs)
        if not np.all(np.isfinite(numbers)):
            raise CalibrationError("intrinsics hold a number that is not finite")
        if self.fx_px <= 0 or self.fy_px <= 0:
            raise CalibrationError(
                f"focal lengths must be positive, got {self.fx_px}, {self.fy_px}"
            )
        if self.distortion not in get_args(Distortion):
            raise CalibrationError(
                f"distortion model {self.distortion!r} is not one of {get_args(Distortion)}"
            )
        if len(self.coeffs) != N_COEFFS:
            raise CalibrationError(f"expected 5 distortion coefficients, got {len(self.coeffs)}")

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width_px, self.height_px

    @property
    def is_distorted(self) -> bool:
        """Whether the lens bends anything; a named model with zero coefficients does not."""
        return self.distortion != "none" and any(self.coeffs)


def project(points_m: npt.NDArray[np.floating], intrinsics: Intrinsics) -> npt.NDArray[np.float64]:
    """Project points in the optical frame to pixels.

    Args:
        points_m: (..., 3) metres, x right, y down, z forward; z must be positive.
        intrinsics: Of the stream whose pixels are wanted.

    Returns:
        (..., 2) pixel coordinates u, v; NaN where z is not positive.
    """
    points = np.asarray(points_m, dtype=np.float64)
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    xy = points[..., :2] / z[..., None]
    if intrinsics.is_distorted:
        xy = distort(xy, intrinsics)
    focal = (intrinsics.fx_px, intrinsics.fy_px)
    return np.asarray(xy * focal + (intrinsics.cx_px, intrinsics.cy_px))


def rays(uv_px: npt.NDArray[np.floating], intrinsics: Intrinsics) -> npt.NDArray[np.float64]:
    """Give the direction each pixel looks in: the point at z = 1 that projects onto it.

    Args:
        uv_px: (..., 2) pixel coordinates.
        intrinsics: Of the stream the pixels belong to.

    Returns:
        (..., 2) x / z and y / z.
    """
    focal = (intrinsics.fx_px, intrinsics.fy_px)
    xy = (np.asarray(uv_px, dtype=np.float64) - (intrinsics.cx_px, intrinsics.cy_px)) / focal
    return undistort(xy, intrinsics) if intrinsics.is_distorted else np.asarray(xy)


def distort(xy: npt.NDArray[np.float64], intrinsics: Intrinsics) -> npt.NDArray[np.float64]:
    """Bend normalised image coordinates (..., 2) as the lens does."""
    radial, dx, dy = _bend(xy[..., 0], xy[..., 1], intrinsics)
    return np.stack([xy[..., 0] * radial + dx, xy[..., 1] * radial + dy], axis=-1)


def undistort(xy: npt.NDArray[np.float64], intrinsics: Intrinsics) -> npt.NDArray[np.float64]:
    """Invert `distort` by fixed-point iteration.

    Raises:
        CalibrationError: The coefficients fold the image over itself, so that there is no way
            back; no real lens does.
    """
    x, y = xy[..., 0], xy[..., 1]
    for _ in range(MAX_ITERATIONS):
        radial, dx, dy = _bend(x, y, intrinsics)
        before, (x, y) = (x, y), ((xy[..., 0] - dx) / radial, (xy[..., 1] - dy) / radial)
        if max(np.abs(x - before[0]).max(), np.abs(y - before[1]).max()) < CONVERGED:
            return np.stack([x, y], axis=-1)
    raise CalibrationError(
        f"distortion coefficients {intrinsics.coeffs} cannot be undone over the whole image: "
        f"read the intrinsics from the camera again"
    )


def _bend(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], intrinsics: Intrinsics
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give the radial factor and the two tangential shifts of an unbent point."""
    k1, k2, p1, p2, k3 = intrinsics.coeffs
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if intrinsics.distortion == "inverse_brown_conrady":
        x, y = x * radial, y * radial  # r2 stays that of the unbent point, as in the SDK
    dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    dy = 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
    return radial, dx, dy
