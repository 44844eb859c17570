"""A camera of which one stream may be missing: every exposure once, with whatever came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.registration import Registration
from loupe_calibration.transform import Transform
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.errors import CameraError, EndOfRecordingError, RecordingError
from loupe_edge.exposures import Images
from loupe_edge.recorder import Recorder, Rig
from loupe_models.frame import Frame

RGB_LENS = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
DEPTH_LENS = Intrinsics(64, 48, 50.0, 50.0, 30.0, 24.0)
LETTERS = {(True, True): "b", (True, False): "c", (False, True): "d"}


def read_all(
    path: Path, required: tuple[Stream, ...] = (), **more: Any
) -> tuple[list[Frame], list[str]]:
    settings = CameraSettings(recording=path, streams=("rgb", "depth"), **more)
    camera = RealSenseCamera(settings, required=required)
    frames: list[Frame] = []
    errors: list[str] = []
    camera.open()
    try:
        while True:
            try:
                frames.append(camera.read())
            except CameraError as error:
                errors.append(str(error))
    except EndOfRecordingError:
        return frames, errors
    finally:
        camera.close()


def told_by(frames: list[Frame]) -> dict[int, str]:
    return {f.frame_id: LETTERS[f.rgb is not None, f.depth is not None] for f in frames}


@pytest.mark.parametrize(
    "told",
    [
        "b" * 12,
        "b" * 8 + "c" * 20 + "b" * 8,
        "b" * 8 + "d" * 20 + "b" * 8,
        "c" * 12 + "b" * 8,
        "d" * 12 + "b" * 8,
        "b" * 8 + "c" * 30,
        "b" * 8 + "d" * 30,
        "c" * 12,
        "b" * 5 + "c" * 10 + "d" * 10 + "b" * 5,
        "bcbdbcbbdb",
        "c",
        "b",
    ],
)
def test_every_exposure_comes_once_in_order_with_what_there_is_of_it(
    make_recording: Callable[..., Path], make_exposure: Callable[..., Any], told: str
) -> None:
    frames, errors = read_all(make_recording(told))
    assert not errors
    # Depth comes before colour in the file: nobody waits for a colour that has been dead so long.
    expected = told.replace("dddb", "dddd")
    assert told_by(frames) == dict(enumerate(expected, 1))
    assert [frame.frame_id for frame in frames] == list(range(1, len(told) + 1))
    for frame in frames:
        rgb, depth = make_exposure(frame.frame_id)
        assert frame.rgb is None or np.array_equal(frame.rgb, rgb)
        assert frame.depth is None or np.array_equal(frame.depth, depth)
        assert (frame.sync is None) == (frame.rgb is None or frame.depth is None)


def test_a_required_stream_is_still_required(make_recording: Callable[..., Path]) -> None:
    frames, errors = read_all(make_recording("b" * 5 + "d" * 40 + "b" * 5 + "c" * 5), ("rgb",))
    assert "".join(told_by(frames).values()) == "b" * 10 + "c" * 5
    assert errors == ["no rgb for 0.5 s: stream dead"] * 2


def test_real_time_gives_a_single_stream_as_it_comes(make_recording: Callable[..., Path]) -> None:
    told = "b" * 15 + "c" * 15 + "b" * 15
    began = time.monotonic()
    frames, _ = read_all(make_recording(told), real_time=True, read_timeout_s=10)
    assert time.monotonic() - began > 1.3
    found = told_by(frames)
    assert sorted(found) == list(found)
    assert len(found) > 30
    wrong = [n for n, letter in found.items() if letter not in (told[n - 1], "c")]
    assert not wrong
    assert sum(letter == "b" for letter in found.values()) > 20


def test_a_slow_reader_finds_whole_exposures(make_recording: Callable[..., Path]) -> None:
    path = make_recording("b" * 60)
    settings = CameraSettings(recording=path, streams=("rgb", "depth"), real_time=True)
    images = Images(settings, frozenset())
    images.start()
    images.expect(30, 0)
    images.play()
    n_images: list[int] = []
    while (found := images.poll(500)) is not None:
        n_images.extend(len(shot) for shot in found)
        time.sleep(0.04)  # 25 images a second, of 60
    n_dropped = images.counters.dropped_frames
    images.stop()
    assert n_dropped > 10
    assert n_images.count(2) >= 0.7 * len(n_images) > 7


def test_depth_lies_on_colours_grid_where_colour_is_missing(tmp_path: Path) -> None:
    shift = Transform(((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0.02, 0.0, 0.0))
    depth = np.full((48, 64), 5000, np.uint16)
    depth[20:30, 20:30] = 4000
    with Recorder(tmp_path / "a.db3", Rig(RGB_LENS, DEPTH_LENS, 0.0001, shift)) as recorder:
        for n in range(12):
            recorder.write(np.zeros((48, 64, 3), np.uint8) if n in (0, 1) else None, depth)
    frames, _ = read_all(tmp_path / "a.db3")
    assert "".join(told_by(frames).values()) == "bb" + "d" * 10
    moved = Registration(DEPTH_LENS, RGB_LENS, shift, 0.0001).apply(depth)
    for frame in frames:
        assert frame.depth is not None
        assert np.mean(frame.depth != moved) < 0.01
        assert frame.intrinsics is not None
        assert frame.intrinsics.fx_px == pytest.approx(60.0)


def test_depth_whose_place_in_colour_nobody_knows_is_refused(
    make_recording: Callable[..., Path],
) -> None:
    path = make_recording("d" * 5, rig=Rig(depth=DEPTH_LENS))
    with pytest.raises(RecordingError, match="holds no rgb at all"):
        read_all(path)


def test_colour_alone_is_enough(make_recording: Callable[..., Path]) -> None:
    frames, errors = read_all(make_recording("c" * 5, rig=Rig(rgb=RGB_LENS)))
    assert "".join(told_by(frames).values()) == "c" * 5
    assert not errors


def test_a_camera_opens_and_closes_at_any_moment(make_recording: Callable[..., Path]) -> None:
    path = make_recording("b" * 10 + "c" * 10)
    camera = RealSenseCamera(CameraSettings(recording=path, streams=("rgb", "depth")), required=())
    for n_frames in (0, 1, 4, 12, 20) * 3:
        camera.open()
        assert [camera.read().frame_id for _ in range(n_frames)] == list(range(1, n_frames + 1))
        camera.close()
        camera.close()
