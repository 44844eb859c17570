"""Rigid transforms between coordinate frames, always named `dst_from_src`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import CalibrationError

ORTHONORMAL_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Transform:
    """A rotation followed by a translation: `dst = rotation @ src + translation_m`.

    Attributes:
        rotation: Three rows of a proper rotation matrix.
        translation_m: Where the source's origin lies in the destination frame.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rotation: tuple[
        tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]
    ]
    translation_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        rotation = np.asarray(self.rotation, dtype=np.float64)
        if rotation.shape != (3, 3) or not np.all(np.isfinite(rotation)):
            raise CalibrationError("a rotation must be a finite 3 x 3 matrix")
        error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
        if error > ORTHONORMAL_TOLERANCE or np.linalg.det(rotation) < 0:
            raise CalibrationError(
                f"not a rotation: R Rᵀ differs from the identity by {error:.2g}, "
                f"determinant {np.linalg.det(rotation):.3f}"
            )
        if len(self.translation_m) != 3 or not np.all(np.isfinite(self.translation_m)):
            raise CalibrationError("a translation must be three finite numbers in metres")

    @classmethod
    def from_matrix(cls, matrix: npt.NDArray[np.floating]) -> Transform:
        """Read the upper three rows of a homogeneous 4 x 4 (or 3 x 4) matrix."""
        if np.shape(matrix) not in ((3, 4), (4, 4)):
            raise CalibrationError(f"a transform is 4 x 4 or 3 x 4, got {np.shape(matrix)}")
        rows = np.asarray(matrix, dtype=np.float64)[:3].tolist()
        x, y, z = (tuple(row[:3]) for row in rows)
        return cls(rotation=(x, y, z), translation_m=(rows[0][3], rows[1][3], rows[2][3]))

    @classmethod
    def identity(cls) -> Transform:
        """Leave every point where it is."""
        return cls.from_matrix(np.eye(4))

    def matrix(self) -> npt.NDArray[np.float64]:
        """Give the homogeneous 4 x 4 form."""
        out = np.eye(4)
        out[:3, :3] = self.rotation
        out[:3, 3] = self.translation_m
        return out

    def apply(self, points_m: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Move points (..., 3) from the source frame to the destination frame; NaN stays NaN."""
        points = np.ascontiguousarray(points_m, dtype=np.float32)
        if points.size == 0:
            return points
        # OpenCV's loop over points is 25 times faster than numpy's product with a 3 x 3 matrix.
        moved = cv2.transform(points.reshape(-1, 1, 3), self.matrix()[:3])
        return np.asarray(moved, dtype=np.float32).reshape(points.shape)

    def inverse(self) -> Transform:
        """Give `src_from_dst`."""
        rotation = np.asarray(self.rotation)
        out = np.eye(4)
        out[:3, :3] = rotation.T
        out[:3, 3] = -rotation.T @ np.asarray(self.translation_m)
        return Transform.from_matrix(out)

    def __matmul__(self, other: Transform) -> Transform:
        """Chain right to left: `c_from_a = c_from_b @ b_from_a`."""
        return Transform.from_matrix(self.matrix() @ other.matrix())
