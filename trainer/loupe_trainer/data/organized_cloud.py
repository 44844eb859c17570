"""An organized point cloud in a TIFF becomes depth, and the lens it was seen through is recovered.

The files hold x, y and z in metres for each pixel of the colour picture, 0 where nothing was
measured. A frame holds z and a lens; x and y follow from them. So the lens is fitted to
the cloud itself, and a cloud that no lens explains is refused rather than bent.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import CalibrationError
from loupe_calibration.intrinsics import Intrinsics, project
from loupe_calibration.units import doubt_units
from loupe_trainer.data.depth_beside import Scan
from loupe_trainer.errors import DataError

DEPTH_UNIT_M = 0.00005  # rounding by 25 um is below what structured light resolves; 3.3 m at most
MIN_POINTS = 200
MAX_POINTS = 20_000  # fitted to; the lens has five numbers
MAX_OFF_PX = 1.0  # 95 of 100 points project at most so far from their own pixel
CHANNELS = 3


def read_scan(path: Path) -> Scan:
    """Read a cloud as depth and lens.

    Args:
        path: A TIFF of three 32-bit floating-point channels.

    Raises:
        DataError: Not such a file, not in metres, or not what one camera can see.
    """
    xyz_m = read_cloud(path).astype(np.float64)
    z_m = np.where(np.isfinite(xyz_m).all(axis=-1), xyz_m[..., 2], 0.0)
    farthest_m = np.iinfo(np.uint16).max * DEPTH_UNIT_M
    if z_m.max() > farthest_m or z_m.min() < 0:
        raise DataError(
            f"{path}: z from {z_m.min():.3g} to {z_m.max():.3g} is not metres in front of a "
            f"camera, at most {farthest_m:.1f}: is it in millimetres?"
        )
    depth = np.round(z_m / DEPTH_UNIT_M).astype(np.uint16)
    return Scan(depth, DEPTH_UNIT_M, _fit_lens(path, xyz_m, depth > 0))


def read_cloud(path: Path) -> npt.NDArray[np.float32]:
    """Read a cloud as it is, (H, W, 3) x, y and z in metres.

    Raises:
        DataError: Not a TIFF of three 32-bit floating-point channels, or not in metres.
    """
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise DataError(f"{path}: missing, or not a TIFF that can be read; extract it again")
    if stored.ndim != CHANNELS or stored.shape[2] != CHANNELS or stored.dtype != np.float32:
        raise DataError(
            f"{path}: a cloud has three channels of 32-bit floating point, this is "
            f"{stored.dtype} {stored.shape}"
        )
    xyz_m = stored[..., ::-1].astype(np.float32)  # OpenCV turns the order of any three channels
    doubt = doubt_units(np.where(np.isfinite(xyz_m).all(axis=-1), xyz_m[..., 2], 0.0))
    if doubt:
        raise DataError(f"{path}: {doubt} A cloud is in metres")
    return xyz_m


def _fit_lens(
    path: Path, xyz_m: npt.NDArray[np.float64], is_valid: npt.NDArray[np.bool_]
) -> Intrinsics:
    """Find focal lengths, centre and first radial term by linear least squares.

    A point projects to u = f x + c + f k x r^2 with x and y over z, and likewise v: linear in
    f, c and f k, if the last is taken to be one number for both axes.
    """
    v_px, u_px = np.nonzero(is_valid)
    if len(v_px) < MIN_POINTS:
        raise DataError(f"{path}: only {len(v_px)} pixels were measured; remove the exposure")
    some = slice(None, None, max(1, len(v_px) // MAX_POINTS))
    v_px, u_px = v_px[some], u_px[some]
    points_m = xyz_m[v_px, u_px]
    x, y = points_m[:, 0] / points_m[:, 2], points_m[:, 1] / points_m[:, 2]
    r2, one, none = x * x + y * y, np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([
        np.stack([x, one, none, none, x * r2], axis=1),
        np.stack([none, none, y, one, y * r2], axis=1),
    ])  # fmt: skip
    pixels = np.concatenate([u_px, v_px]).astype(np.float64)
    (fx, cx, fy, cy, fk), *_ = np.linalg.lstsq(rows, pixels, rcond=None)
    height, width = is_valid.shape
    coeffs = (2 * float(fk) / float(fx + fy), 0.0, 0.0, 0.0, 0.0)
    try:
        lens = Intrinsics(
            width, height, float(fx), float(fy), float(cx), float(cy), "brown_conrady", coeffs
        )
    except CalibrationError as error:
        raise DataError(f"{path}: no lens explains its points ({error})") from error
    _refuse_misfit(path, project(points_m, lens) - np.stack([u_px, v_px], axis=1))
    return lens


def _refuse_misfit(path: Path, off_px: npt.NDArray[np.float64]) -> None:
    off = float(np.quantile(np.hypot(off_px[:, 0], off_px[:, 1]), 0.95))
    if not off <= MAX_OFF_PX:
        raise DataError(
            f"{path}: its points lie up to {off:.1f} px from their own pixels under the lens "
            f"that fits best, so it is not an organized cloud of one camera: give the published "
            f"xyz files, neither resized nor cropped by hand"
        )
