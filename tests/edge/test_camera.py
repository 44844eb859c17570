"""The one camera: each exposure whole, in order, once; and it lets go of everything."""

import time
from pathlib import Path

import numpy as np
import pytest

from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import CameraError, EndOfRecordingError
from loupe_edge.recorder import Recorder, Rig

LENS = Intrinsics(64, 48, 60.0, 60.0, 32.0, 24.0)
N = 40


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "a.db3"
    with Recorder(path, Rig(LENS, LENS)) as recorder:
        for k in range(1, N + 1):
            recorder.write(np.full((48, 64, 3), k, np.uint8), np.full((48, 64), k, np.uint16))
    return path


def open_camera(recording: Path, **settings: object) -> RealSenseCamera:
    told = {"recording": recording, "streams": ("rgb", "depth"), **settings}
    camera = RealSenseCamera(CameraSettings.model_validate(told))
    camera.open()
    return camera


def ids(camera: RealSenseCamera, pause_s: float = 0.0) -> list[int]:
    seen = []
    try:
        while True:
            frame = camera.read()
            assert frame.rgb is not None
            assert frame.depth is not None
            assert frame.rgb[0, 0, 0] == frame.depth[0, 0] == frame.frame_id
            seen.append(frame.frame_id)
            time.sleep(pause_s)
    except EndOfRecordingError:
        return seen
    finally:
        camera.close()


@pytest.mark.parametrize("pause_s", [0.0, 0.01])
def test_lock_step_gives_every_frame_once_whatever_the_reader_does(
    recording: Path, pause_s: float
) -> None:
    for _ in range(5):
        camera = open_camera(recording)
        time.sleep(10 * pause_s)
        assert ids(camera, pause_s) == list(range(1, N + 1))
        assert camera.counters.dropped_frames == 0


def test_real_time_keeps_the_recording_s_pace(recording: Path) -> None:
    began = time.monotonic()
    seen = ids(open_camera(recording, real_time=True))
    assert time.monotonic() - began > 0.6 * N / 30
    assert seen == sorted(set(seen))
    assert len(seen) > N // 2


def test_stamps_are_the_camera_s_and_the_host_s(recording: Path) -> None:
    camera = open_camera(recording)
    before = time.time_ns()
    first, second = camera.read(), camera.read()
    camera.close()
    assert second.camera_time.ns - first.camera_time.ns == pytest.approx(1e9 / 30, abs=2000)
    assert first.camera_time.domain == "hardware"
    assert first.sync is not None
    assert first.sync.delta_us == 0
    assert before <= first.captured_at_ns <= second.captured_at_ns <= time.time_ns()


def test_the_end_is_told_again_and_closing_twice_is_harmless(recording: Path) -> None:
    camera = open_camera(recording)
    ids(camera)
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        camera.read()


def test_closing_at_once_is_quick(recording: Path) -> None:
    for _ in range(5):
        began = time.monotonic()
        open_camera(recording).close()
        assert time.monotonic() - began < 2


def test_frames_outlive_the_camera(recording: Path) -> None:
    camera = open_camera(recording)
    frame = camera.read()
    camera.close()
    assert frame.rgb is not None
    assert frame.rgb.flags.owndata
    assert (frame.rgb == 1).all()


def test_nothing_is_left_open(recording: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    ids(open_camera(recording))
    before = open_files()
    for _ in range(3):
        ids(open_camera(recording))
    assert open_files() <= before


@pytest.mark.parametrize("told", [{}, {"serial": "1", "recording": "a.db3"}])
def test_exactly_one_source_is_named(told: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either serial or recording"):
        CameraSettings.model_validate(told)
