"""Everything becomes a recording first: pictures, RGB-D frames in files, a live camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from loupe_calibration.errors import BadInputError
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.claim import Claim
from loupe_edge.errors import RecordingError
from loupe_edge.pairing import CameraCounters
from loupe_edge.pictures import Picture, list_pictures, read_index, read_mask, read_rgb
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.rgbd_folder import is_rgbd_folder, read_rgbd_folder
from loupe_models.frame import Label, Rect

Pixel = TypeVar("Pixel", np.uint8, np.bool_)
Told = Callable[[int, int], None]  # frames written, frames in all


def record_from(
    source: Path, out: Path, intrinsics: Path | None = None, tell: Told | None = None
) -> int:
    """Record files; give the number of frames.

    Args:
        source: A folder of pictures, a JSON Lines index of pictures, or a folder of RGB-D frames
            (colour pictures, and depth files with `depth` in their names).
        out: The `.db3` to write.
        intrinsics: For RGB-D frames, of the depth's grid; found in the folder where None.
        tell: Called after each frame.

    Raises:
        BadInputError: Nothing to record, or a file that is not what it should be.
    """
    if source.is_dir() and is_rgbd_folder(source):
        return _record_rgbd(source, out, intrinsics, tell)
    if intrinsics is not None:
        raise BadInputError(f"{source}: no depth files here, so intrinsics mean nothing")
    pictures = read_index(source) if source.suffix == ".jsonl" else _unlabelled(source)
    if not pictures:
        raise BadInputError(f"{source}: lists no picture")
    return _record_pictures(pictures, out, tell)


def record_live(settings: CameraSettings, out: Path, seconds: float) -> tuple[int, CameraCounters]:
    """Record what a live camera sends; give the whole exposures seen, and what was counted.

    Raises:
        CameraError: No camera, or it fell silent; what was recorded until then is not kept.
        RecordingError: Anything of such a recording is there already, or the name does not end in
            `.db3`.
    """
    if settings.recording is not None:
        raise RecordingError("a live recording needs a camera's serial number")
    n_frames = 0
    claim = Claim(out)
    try:
        camera = RealSenseCamera(settings, record_to=claim.making)
        camera.open()
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                camera.read()
                n_frames += 1
        finally:
            counters = camera.counters
            camera.close()
        claim.put_in_place()
    finally:
        claim.give_up()
    return n_frames, counters


def _unlabelled(folder: Path) -> list[Picture]:
    """A plain folder says nothing of what its pictures show."""
    return [Picture(f, None, "", "", None, f.name) for f in list_pictures(folder)]


def _record_pictures(pictures: Sequence[Picture], out: Path, tell: Told | None) -> int:
    sizes = [read_rgb(picture.file).shape[:2] for picture in pictures]
    height = max(size[0] for size in sizes)
    width = max(size[1] for size in sizes)
    # Pictures know nothing of their lens; a recording must say something, and depth is not in it.
    lens = Intrinsics(width, height, float(width), float(width), width / 2, height / 2)
    with Recorder(out, Rig(rgb=lens)) as recorder:
        for picture in pictures:
            rgb = read_rgb(picture.file)
            mask = _mask(picture, rgb.shape[:2])
            recorder.write(
                rgb=_on_canvas(rgb, (height, width)),
                label=_label(picture, rgb),
                mask=None if mask is None else _on_canvas(mask, (height, width)),
            )
            if tell is not None:
                tell(recorder.n_frames, len(pictures))
    return len(pictures)


def _label(picture: Picture, rgb: npt.NDArray[np.uint8]) -> Label:
    is_defect = picture.kind == "defect"
    return Label(
        rect_px=Rect(0, 0, rgb.shape[1], rgb.shape[0]),
        source=str(picture.file),
        part_id=picture.part,
        kind=picture.kind,
        defect=picture.label_name if is_defect else None,
        visible_in=("rgb",) if is_defect else (),
    )


def _on_canvas(pixels: npt.NDArray[Pixel], shape: tuple[int, int]) -> npt.NDArray[Pixel]:
    canvas = np.zeros((*shape, *pixels.shape[2:]), dtype=pixels.dtype)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas


def _mask(picture: Picture, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    if picture.mask is None:
        return None
    mask = read_mask(picture.mask, picture.mask_cut)
    if mask.shape != shape:
        raise BadInputError(f"{picture.mask}: the mask is {mask.shape}, its picture is {shape}")
    return mask


def _record_rgbd(source: Path, out: Path, intrinsics: Path | None, tell: Told | None) -> int:
    rig, shots = read_rgbd_folder(source, intrinsics)
    with Recorder(out, rig) as recorder:
        for shot in shots:
            label = Label(source=str(shot.depth_file), part_id=shot.name)
            rgb, depth = shot.load(rig)
            recorder.write(rgb=rgb, depth=depth, label=replace(label, kind=None))
            if tell is not None:
                tell(recorder.n_frames, len(shots))
    return len(shots)
