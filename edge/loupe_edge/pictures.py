"""Picture files: colour, depth, and the JSON Lines index that says what they show."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Literal
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, ValidationError

from loupe_calibration.errors import BadInputError
from loupe_calibration.units import doubt_units
from loupe_models.checked import Checked
from loupe_models.strict_json import loads

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
KEYS = "filename, label, label_name, clsname, maskname, mask_cut, part"
MASK_CUT = 127  # masks saved as JPEG, or resampled, are not strictly 0 and 255
DEPTH_UNIT_M = 0.001  # of pictures and arrays in metres, once recorded; a RealSense's own default


@dataclass(frozen=True, slots=True)
class Picture:
    """One line of an index.

    Attributes:
        file: The colour picture.
        kind: From the line's `label`: 0 is good, 1 a defect; None where nobody knows.
        label_name: The defect's name, or `good`.
        clsname: The product's name.
        mask: Truth, where there is any: a picture, or a folder of pictures.
        part: The physical part; the file's name where the line does not say.
        mask_cut: A pixel of the mask above this is part of a defect.
        line: Its number in the index, from 1; None where there is no index.
    """

    file: Path
    kind: Literal["good", "defect"] | None
    label_name: str
    clsname: str
    mask: Path | None
    part: str
    mask_cut: int = MASK_CUT
    line: int | None = None


def _as_a_file_system_takes_it(text: str) -> str:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{text!r} holds what no name can hold; mend the line")
    return text


_Name = Annotated[str, AfterValidator(_as_a_file_system_takes_it)]


class _Line(Checked):
    """A key that is mistyped must not pass for one that is left out: a defect would be unlabelled.

    The last three keys are the trainer's, of a split's files.
    """

    filename: _Name
    label: Literal[0, 1] | None = None
    label_name: _Name | None = None
    clsname: _Name = ""
    maskname: _Name | None = None
    mask_cut: int = Field(default=MASK_CUT, ge=0, le=254)
    part: _Name | None = None
    sha256: str | None = None
    frame: int | None = None
    camera_ns: int | None = None


def list_pictures(folder: Path) -> list[Path]:
    """List a folder's pictures by name, not looking into its folders.

    Raises:
        BadInputError: Not a folder, no picture in it, or a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: no such folder")
    found = sorted(f for f in folder.iterdir() if _is_picture(f))
    if not found:
        raise BadInputError(
            f"{folder}: no picture in it ({', '.join(sorted(PICTURE_SUFFIXES))} are read)"
        )
    for picture in found:
        require_utf8(picture)
    return found


def require_utf8(path: Path) -> None:
    """Refuse a name that no text file, and so no label or verdict, can hold.

    Raises:
        BadInputError: It is not UTF-8.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadInputError(f"{str(path)!r}: the name is not UTF-8; rename it") from error


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """Read a colour or grey picture as (H, W, 3) uint8, red first, as stored: never rotated.

    Raises:
        BadInputError: Missing, or not a picture.
    """
    bgr = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_mask(path: Path, cut: int = MASK_CUT) -> npt.NDArray[np.bool_]:
    """Read a truth mask as (H, W), True on the defect.

    Args:
        path: A picture; or a folder of pictures of one size, one a defect, which are united.
        cut: A grey value above it is part of a defect; 0 where values are names of defects.

    Raises:
        BadInputError: Missing, not a picture, an empty folder, or sizes that differ in it.
    """
    files = list_pictures(path) if path.is_dir() else [path]
    masks = [_decode(f, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION) for f in files]
    if len({mask.shape for mask in masks}) > 1:
        raise BadInputError(f"{path}: its masks are not all of one size; copy the data again")
    return np.asarray(np.any([mask > cut for mask in masks], axis=0), dtype=np.bool_)


def read_depth(path: Path) -> tuple[npt.NDArray[np.uint16], float]:
    """Read depth: a 16-bit picture in millimetres, or a floating-point array in metres.

    Args:
        path: A 16-bit PNG or TIFF (millimetres), or a `.npy` or `.npz` of one 2-D array
            (metres; NaN and 0 mean no measurement).

    Returns:
        (H, W) uint16 depth with 0 for no measurement, and its scale in metres per unit.

    Raises:
        BadInputError: Missing, not depth, or not in the units said above.
    """
    if path.suffix in {".npy", ".npz"}:
        return _to_units(path, _load_array(path)), DEPTH_UNIT_M / 10
    depth = _decode(path, cv2.IMREAD_UNCHANGED)
    if depth.dtype != np.uint16 or depth.ndim != 2:
        raise BadInputError(
            f"{path}: depth must be a 16-bit picture of one channel in millimetres, "
            f"this is {depth.dtype} {depth.shape}"
        )
    _refuse_units(path, depth * DEPTH_UNIT_M)
    return np.asarray(depth, dtype=np.uint16), DEPTH_UNIT_M


def read_index(path: Path) -> list[Picture]:
    """Read a JSON Lines index: filename, label 0/1, label_name, clsname, maskname, mask_cut, part.

    Args:
        path: File names in it are absolute or relative to its folder; the keys `sha256`, `frame`
            and `camera_ns` that a run's split has are passed over.

    Raises:
        BadInputError: Not readable, or a line that is no such object or has another key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: not a readable index: {error}") from error
    pictures = []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate(loads(text))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the line"
            is_unknown = first["type"] == "extra_forbidden"
            reason = f"unknown key; {KEYS} are read" if is_unknown else first["msg"]
            raise BadInputError(f"{path}:{number}: {key}: {reason}") from error
        except ValueError as error:
            raise BadInputError(f"{path}:{number}: not a JSON object: {error}") from error
        pictures.append(_picture(path.parent, line, number))
    return pictures


def _picture(folder: Path, line: _Line, number: int) -> Picture:
    kinds: dict[int | None, Literal["good", "defect"] | None] = {None: None, 0: "good", 1: "defect"}
    kind = kinds[line.label]
    return Picture(
        file=folder / line.filename,
        kind=kind,
        label_name=line.label_name or kind or "",
        clsname=line.clsname,
        mask=None if line.maskname is None else folder / line.maskname,
        part=line.part if line.part is not None else line.filename,
        mask_cut=line.mask_cut,
        line=number,
    )


def _is_picture(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    return path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and not is_hidden


def _decode(path: Path, flags: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    raw = np.frombuffer(_read(path), dtype=np.uint8)
    try:
        picture = cv2.imdecode(raw, flags) if raw.size else None
    except cv2.error as error:  # it claims to be larger than anything that OpenCV reads
        raise BadInputError(
            f"{path}: not a picture that can be read ({error.err}); replace it or remove it"
        ) from error
    if picture is None:
        raise BadInputError(f"{path}: not a picture that can be read; replace it or remove it")
    return picture  # type: ignore[return-value]


def _load_array(path: Path) -> npt.NDArray[np.generic]:
    try:
        loaded = np.load(BytesIO(_read(path)), allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            if len(loaded.files) != 1:
                raise BadInputError(f"{path}: holds {len(loaded.files)} arrays, expected one")
            return np.asarray(loaded[loaded.files[0]])
    except (ValueError, EOFError, BadZipFile) as error:
        raise BadInputError(f"{path}: not a plain array: {error}") from error
    return np.asarray(loaded)


def _to_units(path: Path, metres: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
    array = np.squeeze(metres)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise BadInputError(
            f"{path}: depth must be one 2-D floating-point array in metres, "
            f"this is {array.dtype} {array.shape}"
        )
    known = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    unit_m = DEPTH_UNIT_M / 10
    _refuse_units(path, known)
    if known.max(initial=0) > np.iinfo(np.uint16).max * unit_m or known.min(initial=0) < 0:
        raise BadInputError(
            f"{path}: depth from {known.min():.3g} to {known.max():.3g} is not metres within "
            f"{np.iinfo(np.uint16).max * unit_m:.1f} m: is it in millimetres?"
        )
    return np.asarray(np.round(known / unit_m), dtype=np.uint16)


def _refuse_units(path: Path, depth_m: npt.NDArray[np.floating]) -> None:
    doubt = doubt_units(depth_m)
    if doubt:
        raise BadInputError(
            f"{path}: {doubt} A picture of depth is in millimetres, an array in metres"
        )


def _read(path: Path) -> bytes:
    require_utf8(path)
    try:
        if path.exists() and not path.is_file():  # reading a pipe or device may never end
            raise BadInputError(f"{path}: not a regular file; give a picture's file")
        return path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror or 'cannot be read'}") from error
