"""The belt as a coordinate frame: z is the height above it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import CalibrationError
from loupe_calibration.transform import Transform


def belt_from_camera(
    normal: npt.ArrayLike, point_m: npt.ArrayLike, travel: npt.ArrayLike = (1.0, 0.0, 0.0)
) -> Transform:
    """Build the belt frame from a plane seen by the camera.

    The belt frame is right-handed: x along the belt's travel, z up from the belt towards the
    camera, origin at `point_m`.

    Args:
        normal: (3,) plane normal in the optical frame, either sign.
        point_m: (3,) any point of the belt, metres, optical frame.
        travel: (3,) rough direction in which parts move, optical frame.

    Raises:
        CalibrationError: The normal is null, or the travel is parallel to it.
    """
    z = np.asarray(normal, dtype=np.float64)
    origin = np.asarray(point_m, dtype=np.float64)
    if np.linalg.norm(z) < 1e-9:
        raise CalibrationError("the belt's normal has no length")
    z = z / np.linalg.norm(z)
    if z @ origin > 0:  # the camera sits at the optical origin, above the belt
        z = -z
    x = np.asarray(travel, dtype=np.float64)
    x = x - (x @ z) * z
    if np.linalg.norm(x) < 1e-6:
        raise CalibrationError("the belt's travel is parallel to its normal")
    x = x / np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ origin
    return Transform.from_matrix(matrix)
