"""MVTec 3D-AD as published methods see it: the part alone, on a padded square.

An offline step for data without a calibrated station. It writes another folder of the same layout,
which the reader of MVTec 3D-AD takes, and leaves the one it reads alone. Every file is written
whole; an exposure's colour picture is its last, so that an interrupted run goes on after it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from loupe_models.atomic import write_bytes, write_text
from loupe_models.checked import Checked
from loupe_trainer.data.layout import categories
from loupe_trainer.data.mvtec_3d import MARK, open_mvtec_3d
from loupe_trainer.data.organized_cloud import read_cloud
from loupe_trainer.errors import DataError
from loupe_trainer.part_alone import pad_to_square, part_mask
from loupe_trainer.places import require_folder
from loupe_trainer.progress import Progress


class Mark(Checked):
    """What a prepared folder says of itself."""

    source: str
    steps: str = "plane 5 mm, square of 100 px, DBSCAN 6 mm 30 points"


def prepare_mvtec_3d(source: Path, out: Path, progress: Progress) -> int:
    """Prepare one category, or all of a folder.

    Args:
        source: As downloaded; only read.
        out: Another folder; one that an interrupted run left is completed.
        progress: Shown while exposures are prepared.

    Returns:
        How many exposures `out` holds.

    Raises:
        DataError: Not such data, damaged, or an exposure without a part.
        RunError: `out` cannot be written.
    """
    _refuse_in_place(source, out)
    is_one = (source / "train" / "good" / "rgb").is_dir()
    roots = [source] if is_one else list(categories(source).values())
    pictures = [i.source for r in roots for i in open_mvtec_3d(r, ("rgb", "depth")).items]
    _mark(source, out)
    todo = [file for file in pictures if not (out / file.relative_to(source)).is_file()]
    with progress.task("preparing", len(pictures), len(pictures) - len(todo)) as task:
        for file in todo:
            _prepare(file, out / file.relative_to(source))
            task.advance()
    return len(pictures)


def _refuse_in_place(source: Path, out: Path) -> None:
    require_folder(out)
    here, there = source.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise DataError(f"{out}: is, holds or lies in {source}; data are never changed in place")


def _mark(source: Path, out: Path) -> None:
    """Claim a folder, or recognise the one that was claimed before."""
    mark, file = Mark(source=str(source.resolve())), out / MARK
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise DataError(f"{out}: holds something else; give --out an empty or a new folder")
        write_text(file, mark.model_dump_json() + "\n")
        return
    try:
        before = Mark.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(f"{file}: damaged; remove {out}, or give --out another folder") from error
    if before != mark:
        raise DataError(f"{out}: was prepared from {before.source}; give --out another folder")


def _prepare(picture: Path, to: Path) -> None:
    """Prepare one exposure, the colour picture last."""
    cloud, truth = (
        folder / f"{picture.stem}{suffix}"
        for folder, suffix in (
            (picture.parent.parent / "xyz", ".tiff"), (picture.parent.parent / "gt", ".png"),
        )
    )  # fmt: skip
    xyz_m = read_cloud(cloud)
    colour = _read(picture, cv2.IMREAD_COLOR)
    if colour.shape[:2] != xyz_m.shape[:2]:
        raise DataError(f"{cloud}: of another size than its picture; extract the data again")
    try:
        kept = part_mask(xyz_m)
    except DataError as error:
        raise DataError(f"{cloud}: {error}; leave the exposure out") from error
    # OpenCV turns the order of three channels in writing, as in reading.
    alone = np.where(kept[..., None], xyz_m, np.float32(0))[..., ::-1]
    _write(to.parent.parent / "xyz" / cloud.name, alone)
    if truth.is_file():
        _write(to.parent.parent / "gt" / truth.name, _read(truth, cv2.IMREAD_UNCHANGED))
    _write(to, np.where(kept[..., None], colour, np.uint8(0)))


def _read(file: Path, flags: int) -> npt.NDArray[np.generic]:
    pixels = cv2.imread(str(file), flags)
    if pixels is None:
        raise DataError(f"{file}: not a picture that can be read; extract the data again")
    return np.asarray(pixels)


def _write(file: Path, pixels: npt.NDArray[np.generic]) -> None:
    padded = np.ascontiguousarray(pad_to_square(pixels))
    _, encoded = cv2.imencode(file.suffix, padded)
    write_bytes(file, encoded.tobytes())
