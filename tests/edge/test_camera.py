"""The one camera on real recordings: every exposure once, in order, whole, and where it belongs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loupe_calibration.intrinsics import Intrinsics, project
from loupe_calibration.transform import Transform
from loupe_edge import pipeline
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import CameraError, EndOfRecordingError, StationError
from loupe_edge.pipeline import Pipeline
from loupe_edge.player import Player
from loupe_edge.recorder import Recorder, Rig
from loupe_models.frame import Frame, Label, Rect

BOTH = ("rgb", "depth")
LENS = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)


@contextmanager
def opened(path: Path, streams: tuple[str, ...] = BOTH, **more: Any) -> Iterator[RealSenseCamera]:
    camera = RealSenseCamera(CameraSettings(recording=path, streams=streams, **more))
    camera.open()
    try:
        yield camera
    finally:
        camera.close()


def read_all(camera: RealSenseCamera, pause_s: float = 0.0) -> list[Frame]:
    frames = []
    while True:
        try:
            frames.append(camera.read())
        except EndOfRecordingError:
            return frames
        time.sleep(pause_s)


def open_files(path: Path) -> list[str]:
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(link.readlink()))
        except FileNotFoundError:  # the folder's own handle
            continue
    return [target for target in targets if target.startswith(str(path))]


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_lock_step_gives_each_recorded_frame_once_in_order_bit_equal(
    make_recording: Callable[..., Path], make_exposure: Callable[..., Any], pause_s: float
) -> None:
    before_ns = time.time_ns()
    with opened(make_recording("b" * 40)) as camera:
        frames = read_all(camera, pause_s)
        assert camera.counters.dropped_frames == 0
    assert [frame.frame_id for frame in frames] == list(range(1, 41))
    for frame in frames:
        rgb, depth = make_exposure(frame.frame_id)
        np.testing.assert_array_equal(frame.rgb, rgb)
        np.testing.assert_array_equal(frame.depth, depth)
        assert frame.intrinsics == LENS
        assert frame.depth_scale_m == pytest.approx(0.001, rel=1e-6)
        assert frame.sync is not None
        assert frame.sync.delta_us == 0
        assert frame.camera_time.domain == frame.sync.domain == "hardware"
        assert frame.camera_time.ns == pytest.approx(frame.frame_id * 1e9 / 30, abs=1000)
        assert before_ns < frame.captured_at_ns < time.time_ns()


def test_pixels_outlive_the_camera(
    make_recording: Callable[..., Path], make_exposure: Callable[..., Any]
) -> None:
    with opened(make_recording("b" * 30)) as camera:
        first = camera.read()
        read_all(camera)
    assert first.rgb is not None
    assert first.depth is not None
    assert first.rgb.flags.owndata
    assert first.depth.flags.owndata
    np.testing.assert_array_equal(first.rgb, make_exposure(1)[0])
    np.testing.assert_array_equal(first.depth, make_exposure(1)[1])


@pytest.mark.parametrize(
    ("rig", "told", "streams"),
    [
        (Rig(rgb=LENS), "c" * 12, ("rgb",)),
        (Rig(depth=LENS), "d" * 12, ("depth",)),
        (Rig(rgb=LENS, depth=LENS), "b" * 12, ("rgb",)),
        (Rig(rgb=LENS, depth=LENS), "b" * 12, ("depth",)),
    ],
)
def test_one_stream_is_an_ordinary_station(
    make_recording: Callable[..., Path],
    make_exposure: Callable[..., Any],
    rig: Rig,
    told: str,
    streams: tuple[str, ...],
) -> None:
    with opened(make_recording(told, rig=rig), streams) as camera:
        frames = read_all(camera)
    assert [frame.frame_id for frame in frames] == list(range(1, 13))
    for frame in frames:
        rgb, depth = make_exposure(frame.frame_id)
        assert (frame.rgb is not None, frame.depth is not None) == (
            "rgb" in streams,
            "depth" in streams,
        )
        given, wanted = (frame.rgb, rgb) if "rgb" in streams else (frame.depth, depth)
        np.testing.assert_array_equal(given, wanted)
        assert frame.sync is None
        assert frame.intrinsics == LENS


def test_a_colour_station_does_not_wait_for_depth_that_ends(
    make_recording: Callable[..., Path],
) -> None:
    with opened(make_recording("b" * 8 + "c" * 5), ("rgb",)) as camera:
        frames = read_all(camera)
    assert [frame.frame_id for frame in frames] == list(range(1, 14))


def test_real_time_plays_at_the_speed_of_the_recording(
    make_recording: Callable[..., Path],
) -> None:
    with opened(make_recording("b" * 45), real_time=True, read_timeout_s=10) as camera:
        began = time.monotonic()
        numbers = [frame.frame_id for frame in read_all(camera)]
        took_s = time.monotonic() - began
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 45 // 2
    assert took_s > 1.3  # 45 frames at 30 a second, however fast they were written


def test_labels_come_with_their_frames(make_recording: Callable[..., Path]) -> None:
    def label(n: int) -> Label:
        return Label(rect_px=Rect(1, 2, n + 3, 4), part_id=f"part-{n}", kind="good")

    with opened(make_recording("b" * 5, label=label)) as camera:
        frames = read_all(camera)
    assert [frame.label for frame in frames] == [label(n) for n in range(1, 6)]


def test_labels_of_another_recording_label_nothing(tmp_path: Path) -> None:
    for name, fps in (("a", 30), ("b", 15)):
        with Recorder(tmp_path / f"{name}.db3", Rig(rgb=LENS), fps) as recorder:
            for _ in range(3):
                recorder.write(np.zeros((48, 64, 3), np.uint8), label=Label(part_id="1"))
    (tmp_path / "b.labels.jsonl").replace(tmp_path / "a.labels.jsonl")
    with opened(tmp_path / "a.db3", ("rgb",)) as camera:
        assert [frame.label for frame in read_all(camera)] == [None] * 3


def test_a_missing_image_is_skipped_and_counted_never_paired(
    make_recording: Callable[..., Path], make_exposure: Callable[..., Any]
) -> None:
    told = "b" * 10 + "ccc" + "b" * 5 + "d" + "b" * 5 + "--" + "b" * 6
    with opened(make_recording(told)) as camera:
        frames = read_all(camera)
        counters = camera.counters
    whole = [n for n, letter in enumerate(told, 1) if letter == "b"]
    assert [frame.frame_id for frame in frames] == whole
    for frame in frames:
        np.testing.assert_array_equal(frame.depth, make_exposure(frame.frame_id)[1])
        np.testing.assert_array_equal(frame.rgb, make_exposure(frame.frame_id)[0])
    assert counters.dropped_frames == 3 + 2  # of depth; colour lacks 1 + 2
    assert counters.mixed_framesets > 0


@pytest.mark.parametrize("told", ["b", "bb", "c" * 4 + "b" * 8, "d" * 3 + "b" * 8, "b" * 8 + "c"])
def test_short_recordings_and_ragged_ends_are_whole(
    make_recording: Callable[..., Path], told: str
) -> None:
    with opened(make_recording(told)) as camera:
        frames = read_all(camera)
    assert [frame.frame_id for frame in frames] == [
        n for n, letter in enumerate(told, 1) if letter == "b"
    ]


# --- Registration ---------------------------------------------------------------------------------

RGB_LENS = Intrinsics(160, 120, 150.0, 151.0, 79.0, 60.5)
DEPTH_LENS = Intrinsics(160, 120, 140.0, 140.0, 80.5, 59.0)
ANGLE = 0.01
RGB_FROM_DEPTH = Transform(
    (
        (np.cos(ANGLE), 0.0, np.sin(ANGLE)),
        (0.0, 1.0, 0.0),
        (-np.sin(ANGLE), 0.0, np.cos(ANGLE)),
    ),
    (0.015, -0.002, 0.001),
)


@pytest.fixture
def two_viewpoints(tmp_path: Path) -> Path:
    """A wall with a box before it, seen by a depth camera 15 mm beside the colour camera."""
    depth = np.full((120, 160), 6000, np.uint16)
    depth[50:70, 60:100] = 5000
    depth[20:36, 20:36] = 0
    rig = Rig(RGB_LENS, DEPTH_LENS, depth_scale_m=0.0001, rgb_from_depth=RGB_FROM_DEPTH)
    with Recorder(tmp_path / "two.db3", rig) as recorder:
        for _ in range(3):
            recorder.write(rgb=np.zeros((120, 160, 3), np.uint8), depth=depth)
    return tmp_path / "two.db3"


def test_depth_is_registered_to_the_colour_grid(two_viewpoints: Path) -> None:
    with opened(two_viewpoints) as camera:
        frame = read_all(camera)[1]
    assert frame.depth is not None
    assert frame.intrinsics is not None
    for ours, recorded in zip(
        (frame.intrinsics.fx_px, frame.intrinsics.cy_px), (150.0, 60.5), strict=True
    ):
        assert ours == pytest.approx(recorded, rel=1e-6)
    # Reference: the box's corners through the depth lens, over to colour, and onto its pixels.
    u, v = np.array([60.0, 99.0]), np.array([50.0, 69.0])
    x, y = (u - 80.5) / 140.0 * 0.5, (v - 59.0) / 140.0 * 0.5
    corners = np.array([[x[0], y[0], 0.5], [x[1], y[1], 0.5]])
    moved = (RGB_FROM_DEPTH.matrix() @ np.column_stack([corners, [1, 1]]).T).T[:, :3]
    wanted = project(moved, RGB_LENS)
    rows, cols = np.nonzero((frame.depth > 0) & (frame.depth < 5500))
    found = np.array([[cols.min(), rows.min()], [cols.max(), rows.max()]])
    np.testing.assert_allclose(found, wanted, atol=1.5)
    inside = frame.depth[55:65, 80:90]
    assert np.all(np.abs(inside.astype(int) - 5010) < 15)  # 1 mm nearer or so: it was moved
    holes = frame.depth == 0
    assert np.count_nonzero(holes) == pytest.approx(16**2, rel=0.5)
    assert holes[25:33, 28:34].all()  # moved as the wall is, by 4 to 8 pixels


def test_a_depth_only_station_keeps_the_native_grid(two_viewpoints: Path) -> None:
    with opened(two_viewpoints, ("depth",)) as camera:
        frame = camera.read()
    assert frame.depth is not None
    assert frame.depth[50:70, 60:100].min() == frame.depth[50:70, 60:100].max() == 5000
    assert frame.intrinsics is not None
    assert frame.intrinsics.cx_px == pytest.approx(80.5)


def test_two_grids_that_may_not_be_aligned_are_refused(two_viewpoints: Path) -> None:
    with pytest.raises(StationError, match=r"camera\.align"), opened(two_viewpoints, align=False):
        pass
    assert not open_files(two_viewpoints)


# --- Opening and closing --------------------------------------------------------------------------


def test_opening_is_prompt_every_time_and_leaves_nothing_open(
    make_recording: Callable[..., Path],
) -> None:
    """The SDK's `resume` waits 10 s in one opening of three where nobody reads beside it."""
    path = make_recording("b" * 20)
    for n_frames in (0, 1, 5, 20) * 3:
        began = time.monotonic()
        with opened(path) as camera:
            opened_s = time.monotonic() - began
            for _ in range(n_frames):
                camera.read()
        assert opened_s < 5
        assert not open_files(path)
    assert time.monotonic() - began < 8


def test_a_camera_opens_again_from_the_beginning(make_recording: Callable[..., Path]) -> None:
    camera = RealSenseCamera(CameraSettings(recording=make_recording("b" * 6), streams=BOTH))
    for _ in range(2):
        camera.open()
        assert [frame.frame_id for frame in read_all(camera)] == [1, 2, 3, 4, 5, 6]
        with pytest.raises(EndOfRecordingError):
            camera.read()
        with pytest.raises(CameraError, match="open already"):
            camera.open()
        camera.close()
        camera.close()
    with pytest.raises(CameraError, match="not open"):
        camera.read()


def test_what_was_dropped_before_a_camera_was_opened_again_stays_counted(
    make_recording: Callable[..., Path],
) -> None:
    camera = RealSenseCamera(CameraSettings(recording=make_recording("bb--bb"), streams=BOTH))
    n_dropped = []
    for _ in range(2):
        camera.open()
        n_dropped.append(camera.counters.dropped_frames)
        read_all(camera)
        n_dropped.append(camera.counters.dropped_frames)
        camera.close()
    assert n_dropped == [0, 2, 2, 4]
    assert camera.counters.dropped_frames == 4


def test_a_start_that_comes_too_late_is_stopped(
    make_recording: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_recording("b" * 6)
    hold = Pipeline._hold_recording

    def slowly(pipeline: Pipeline, config: object) -> None:
        time.sleep(0.5)
        hold(pipeline, config)

    monkeypatch.setattr(Pipeline, "_hold_recording", slowly)
    camera = RealSenseCamera(CameraSettings(recording=path, start_timeout_s=0.1))
    with pytest.raises(CameraError, match=r"line\.db3 did not start within 0\.1 s"):
        camera.open()
    time.sleep(0.7)
    deadline = time.monotonic() + 10
    while open_files(path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not open_files(path)


class Hesitant:
    """A player that takes its time to begin, as it does where the machine is busy."""

    def __init__(self, player: Any) -> None:
        self._player = player

    def resume(self) -> None:
        time.sleep(0.1)
        self._player.resume()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._player, name)


def test_a_recording_is_stopped_that_has_hardly_begun(
    make_recording: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_recording("b" * 20)

    def hesitant(device: object, *, real_time: bool) -> Player:
        return Player(Hesitant(device), real_time=real_time)

    monkeypatch.setattr(pipeline, "Player", hesitant)
    for _ in range(20):
        with opened(path):
            pass
        assert not open_files(path)


@pytest.mark.parametrize(
    "given", [{}, {"serial": "1", "recording": "a.db3"}, {"serial": "1", "fsp": 3}]
)
def test_settings_name_one_source_and_no_unknown_key(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"either serial or recording|Extra inputs"):
        CameraSettings.model_validate(given)
