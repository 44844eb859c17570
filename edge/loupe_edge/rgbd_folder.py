"""A folder of RGB-D frames in files: which belong together, and through which lens."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import BadInputError, CalibrationError
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.pictures import PICTURE_SUFFIXES, read_depth, read_rgb
from loupe_edge.recorder import Rig
from loupe_models.strict_json import loads

DEPTH_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".npy", ".npz"})
LENS_SUFFIXES = frozenset({".json", ".intr"})
NOT_COLOUR = ("depth", "mask", "label")


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame in files.

    Attributes:
        colour_file: None in a folder of depth alone.
    """

    name: str
    depth_file: Path
    colour_file: Path | None

    def load(self, rig: Rig) -> tuple[npt.NDArray[np.uint8] | None, npt.NDArray[np.uint16]]:
        """Read colour and depth.

        Raises:
            BadInputError: A file that is not what it should be, or in another unit than the rig.
        """
        depth, scale_m = read_depth(self.depth_file)
        if scale_m != rig.depth_scale_m:
            raise BadInputError(f"{self.depth_file}: other units than the folder's first depth")
        return None if self.colour_file is None else read_rgb(self.colour_file), depth


def is_rgbd_folder(folder: Path) -> bool:
    """Whether any file here calls itself depth."""
    return bool(_depth_files(folder))


def read_rgbd_folder(folder: Path, lens: Path | None = None) -> tuple[Rig, list[Shot]]:
    """Pair colour with depth by the number in their names, and find the lens.

    Args:
        folder: Depth files have `depth` in their names; every other picture whose name holds
            none of `depth`, `mask`, `label` is colour.
        lens: Intrinsics of the depth's grid; the folder's one `.json` or `.intr` where None.

    Raises:
        BadInputError: Files that do not pair, no intrinsics, or ones for another size.
    """
    depth_files = _depth_files(folder)
    colour_files = _by_number(
        f
        for f in sorted(folder.iterdir())
        if f.suffix.lower() in PICTURE_SUFFIXES and not any(w in f.stem for w in NOT_COLOUR)
    )
    by_number = _by_number(depth_files)
    if colour_files and set(colour_files) != set(by_number):
        odd = sorted(set(colour_files) ^ set(by_number))
        raise BadInputError(f"{folder}: colour and depth do not pair for {', '.join(odd)}")
    shots = [
        Shot(f"{folder.name}-{number}" if number else folder.name, depth, colour_files.get(number))
        for number, depth in by_number.items()
    ]
    return _rig(folder, shots[0], read_intrinsics(lens or _find_lens(folder))), shots


def read_intrinsics(path: Path) -> Intrinsics:
    """Read intrinsics: our own field names, Open3D's `intrinsic_matrix`, or a `.intr` file.

    Raises:
        BadInputError: Not readable, or none of these.
    """
    try:
        return _parse_intrinsics(loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, CalibrationError) as error:
        raise BadInputError(
            f"{path}: not intrinsics ({error}); give width_px, height_px, fx_px, fy_px, cx_px "
            f"and cy_px as JSON"
        ) from error


def _parse_intrinsics(told: object) -> Intrinsics:
    if not isinstance(told, dict):
        raise TypeError("not a JSON object")
    if "intrinsic_matrix" in told:  # column by column
        fx, _, _, _, fy, _, cx, cy, _ = (float(v) for v in told["intrinsic_matrix"])
        return Intrinsics(int(told["width"]), int(told["height"]), fx, fy, cx, cy)
    if "_fx" in told:
        fx, fy, cx, cy = (float(told[key]) for key in ("_fx", "_fy", "_cx", "_cy"))
        return Intrinsics(int(told["_width"]), int(told["_height"]), fx, fy, cx, cy)
    return Intrinsics(**told)


def _rig(folder: Path, first: Shot, lens: Intrinsics) -> Rig:
    depth, scale_m = read_depth(first.depth_file)
    if depth.shape != lens.size_wh[::-1]:
        raise BadInputError(
            f"{folder}: depth is {depth.shape[1]}x{depth.shape[0]}, the intrinsics are for "
            f"{lens.width_px}x{lens.height_px}"
        )
    rig = Rig(depth=lens, depth_scale_m=scale_m)
    if first.colour_file is None:
        return rig
    height, width = read_rgb(first.colour_file).shape[:2]
    return replace(rig, rgb=_scaled(lens, width, height))


def _scaled(lens: Intrinsics, width: int, height: int) -> Intrinsics:
    """The same view on another grid; pixel centres lie on integers."""
    sx, sy = width / lens.width_px, height / lens.height_px
    return replace(
        lens,
        width_px=width,
        height_px=height,
        fx_px=lens.fx_px * sx,
        fy_px=lens.fy_px * sy,
        cx_px=(lens.cx_px + 0.5) * sx - 0.5,
        cy_px=(lens.cy_px + 0.5) * sy - 0.5,
    )


def _find_lens(folder: Path) -> Path:
    found = sorted(f for f in folder.iterdir() if f.suffix in LENS_SUFFIXES)
    if len(found) != 1:
        raise BadInputError(
            f"{folder}: {len(found)} files of intrinsics (.json, .intr); give one with "
            f"--intrinsics: depth means nothing without them"
        )
    return found[0]


def _depth_files(folder: Path) -> list[Path]:
    return sorted(
        f
        for f in folder.iterdir()
        if "depth" in f.stem.lower() and f.suffix.lower() in DEPTH_SUFFIXES
    )


def _by_number(files: Iterable[Path]) -> dict[str, Path]:
    """Key files by the last number in their names, in the order of the files."""
    keyed: dict[str, Path] = {}
    for file in files:
        number = (re.findall(r"\d+", file.stem) or [""])[-1]
        if number in keyed:
            raise BadInputError(f"{file} and {keyed[number].name} carry the same number")
        keyed[number] = file
    return keyed
