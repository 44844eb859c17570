"""What a camera may do wrong: each is a named error in bounded time, never a wrong pair."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.errors import LoupeError
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge import in_time as in_time_module
from loupe_edge.assembly import open_service
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.capture import Ladder
from loupe_edge.errors import CameraError, EndOfRecordingError, RecordingError
from loupe_edge.pipeline import Pipeline
from loupe_edge.publisher import ListPublisher
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.recording_file import read_contents
from loupe_edge.station import Station
from loupe_edge.tap import Tap
from loupe_models.frame import Frame

BOTH = ("rgb", "depth")
LENS = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)


def replay(
    path: Path, streams: tuple[str, ...] = BOTH, **more: Any
) -> tuple[list[Frame], list[LoupeError]]:
    """Every frame and every error of a recording, to its end or to its refusal."""
    frames: list[Frame] = []
    errors: list[LoupeError] = []
    camera = RealSenseCamera(CameraSettings(recording=path, streams=streams, **more))
    try:
        camera.open()
        while True:
            try:
                frames.append(camera.read())
            except CameraError as error:
                errors.append(error)
    except RecordingError as error:
        errors.append(error)
    except EndOfRecordingError:
        pass
    finally:
        camera.close()
    return frames, errors


# --- Missing --------------------------------------------------------------------------------------


def test_no_camera_at_all_is_unknown_and_then_a_fault(make_station: Callable[..., Station]) -> None:
    publisher = ListPublisher()
    station = make_station(camera={"serial": "000000000000", "start_timeout_s": 1.0})
    start = time.monotonic()
    with open_service(station, publisher=publisher) as service:
        service.ladder = Ladder(reads=1, reopens=1, first_wait_s=0.01)
        with pytest.raises(CameraError, match="000000000000"):
            service.run()
    assert time.monotonic() - start < 12
    assert [v.decision for v in publisher.verdicts] == ["unknown", "unknown"]


def test_an_absent_recording_is_bad_input(make_station: Callable[..., Station]) -> None:
    publisher = ListPublisher()
    with (
        pytest.raises(RecordingError, match=r"absent\.db3") as caught,
        open_service(make_station(), lock_step=True, publisher=publisher) as service,
    ):
        service.run()
    assert caught.value.exit_status == 2
    assert publisher.verdicts == []


def test_a_missing_camera_is_named_at_once() -> None:
    camera = RealSenseCamera(CameraSettings(serial="000000000000"))
    began = time.monotonic()
    with pytest.raises(CameraError, match=r"000000000000 is not connected.*check cable"):
        camera.open()
    assert time.monotonic() - began < 5  # the SDK alone would wait 15 s
    camera.close()


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    camera = RealSenseCamera(CameraSettings(recording=tmp_path / "none.db3"))
    with pytest.raises(RecordingError, match=r"none\.db3: no such recording"):
        camera.open()


@pytest.mark.parametrize(
    ("told", "streams", "named"),
    [
        ("c" * 6, BOTH, "holds rgb, but depth is required"),
        ("d" * 6, BOTH, "holds depth, but rgb is required"),
        ("c" * 6, ("depth",), "holds rgb, but depth is required"),
    ],
)
def test_a_required_stream_that_was_never_recorded_is_named(
    make_recording: Callable[..., Path], told: str, streams: tuple[str, ...], named: str
) -> None:
    # Both streams are announced in the file; one never had an image.
    frames, errors = replay(make_recording(told), streams)
    assert not frames
    assert [type(error) for error in errors] == [RecordingError]
    assert named in str(errors[0])


# --- Damaged --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_recording_that_was_cut_off_is_refused(
    make_recording: Callable[..., Path], share: float
) -> None:
    path = make_recording("b" * 20)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    frames, errors = replay(path)
    assert not frames
    assert [type(error) for error in errors] == [RecordingError]
    assert "line.db3: not a whole recording" in str(errors[0])


@pytest.mark.parametrize(
    "content", [b"not a recording\n" * 500, b"\x89PNG\r\n\x1a\n" + bytes(9000)]
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.db3"
    path.write_bytes(content)
    frames, errors = replay(path)
    assert not frames
    assert [type(error) for error in errors] == [RecordingError]
    assert "not a whole recording, or none at all" in str(errors[0])


def test_a_database_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE parts (id INTEGER)")
    frames, errors = replay(path)
    assert not frames
    assert [type(error) for error in errors] == [RecordingError]


@pytest.mark.parametrize("name", [7, None, b"/image/data"])
def test_a_database_whose_topics_have_no_names_is_refused(tmp_path: Path, name: object) -> None:
    path = tmp_path / "other.db3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE topics (id INTEGER, name)")
        connection.execute("CREATE TABLE messages (id INTEGER, topic_id INTEGER)")
        connection.execute("INSERT INTO topics VALUES (1, ?)", (name,))
        connection.execute("INSERT INTO messages VALUES (1, 1)")
        connection.commit()
    with pytest.raises(RecordingError, match=r"not a whole recording.*no names"):
        read_contents(path)


@pytest.mark.parametrize("n_good", [0, 10, 19])
@pytest.mark.parametrize("stream", ["Color", "Depth"])
def test_an_image_that_cannot_be_read_is_not_the_end(
    make_recording: Callable[..., Path], stream: str, n_good: int
) -> None:
    """The SDK plays up to the damage and then stops, as if the recording were over."""
    path = make_recording("b" * 20)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE messages SET data = zeroblob(3) WHERE id = (SELECT m.id FROM messages m "
            "JOIN topics t ON t.id = m.topic_id WHERE t.name LIKE ? "
            "ORDER BY m.id LIMIT 1 OFFSET ?)",
            (f"%{stream}_0/image/data%", n_good),
        )
    frames, errors = replay(path)
    assert [frame.frame_id for frame in frames] == list(range(1, n_good + 1))
    assert isinstance(errors[-1], RecordingError)
    assert "damaged" in str(errors[-1])


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
def test_pages_that_were_overwritten_are_an_error(
    make_recording: Callable[..., Path], share: float
) -> None:
    path = make_recording("b" * 30)
    content = bytearray(path.read_bytes())
    start = int(len(content) * share)
    content[start : start + 12288] = np.random.default_rng(0).bytes(12288)
    path.write_bytes(content)
    frames, errors = replay(path)
    assert len(frames) < 30
    assert isinstance(errors[-1], RecordingError)


# --- Dead -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("real_time", [False, True])
@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("b" * 12 + "c" * 40, "no depth"),
        ("b" * 12 + "d" * 40, "no rgb"),
        ("b" * 12 + "c" * 40 + "b" * 8, "no depth"),
        ("b" * 12 + "c" * 4, "no depth"),
        ("b" * 12 + "d" * 4, "no rgb"),
    ],
)
def test_a_dead_stream_is_named_in_bounded_time(
    make_recording: Callable[..., Path], told: str, named: str, real_time: bool
) -> None:
    path = make_recording(told)
    began = time.monotonic()
    frames, errors = replay(path, real_time=real_time)
    assert time.monotonic() - began < 15  # the longest lasts 2 s
    assert errors
    assert all(type(error) is CameraError and named in str(error) for error in errors)
    whole = [n for n, letter in enumerate(told, 1) if letter == "b"]
    numbers = [frame.frame_id for frame in frames]
    assert numbers == whole if not real_time else set(numbers) <= set(whole)


def test_a_dead_stream_is_named_though_another_goes_on(
    make_recording: Callable[..., Path],
) -> None:
    frames, errors = replay(make_recording("b" * 8 + "d" * 30), ("rgb",))
    assert [frame.frame_id for frame in frames] == list(range(1, 9))
    assert errors
    assert all("no rgb" in str(error) for error in errors)


# --- Out of step ----------------------------------------------------------------------------------


@pytest.fixture
def record_skewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Path]:
    """`record_skewed(ms)`: 40 exposures whose depth is stamped that much later than colour."""

    def record(skew_ms: float) -> Path:
        push = Tap._push

        def late(tap: Tap, name: str, pixels: Any, number: int, timestamp_ms: float) -> None:
            push(tap, name, pixels, number, timestamp_ms + skew_ms * (name == "depth"))

        monkeypatch.setattr(Tap, "_push", late)
        with Recorder(tmp_path / "skewed.db3", Rig(rgb=LENS, depth=LENS)) as recorder:
            for n in range(1, 41):
                rgb: npt.NDArray[np.uint8] = np.full((48, 64, 3), n, np.uint8)
                recorder.write(rgb=rgb, depth=np.full((48, 64), n, np.uint16))
        return tmp_path / "skewed.db3"

    return record


@pytest.mark.parametrize("skew_ms", [20.0, -20.0, 30.0])
def test_a_true_skew_is_refused_and_never_a_wrong_pair(
    record_skewed: Callable[[float], Path], skew_ms: float
) -> None:
    """The SDK pairs colour n with depth n-1, 13 ms apart: nearer, and wrong."""
    frames, errors = replay(record_skewed(skew_ms))
    assert not frames
    assert errors
    assert all(type(error) is CameraError for error in errors)
    assert "no exposure has both streams" in str(errors[0])
    assert "ms apart" in str(errors[0])


def test_a_small_skew_is_measured(record_skewed: Callable[[float], Path]) -> None:
    frames, errors = replay(record_skewed(3.0))
    assert not errors
    assert [frame.frame_id for frame in frames] == list(range(1, 41))
    for frame in frames:
        assert frame.sync is not None
        assert frame.sync.delta_us == pytest.approx(3000, abs=2)
        assert frame.rgb is not None
        assert frame.depth is not None
        assert frame.rgb[0, 0, 0] == frame.depth[0, 0] == frame.frame_id


# --- Hanging --------------------------------------------------------------------------------------


class _Hanging:
    """A pipeline whose `stop` never returns, as the SDK's can."""

    def __init__(self) -> None:
        self.is_released = False

    def stop(self) -> None:
        while not self.is_released:
            time.sleep(0.01)


def test_a_stop_that_hangs_is_an_error_within_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_time_module, "STOP_TIMEOUT_S", 0.2)
    pipeline = Pipeline(CameraSettings(serial="1"))
    hanging = _Hanging()
    pipeline._pipeline = hanging
    began = time.monotonic()
    with pytest.raises(CameraError, match="end this process"):
        pipeline.stop()
    assert time.monotonic() - began < 2
    hanging.is_released = True


def test_closing_while_the_player_still_plays_does_not_crash(tmp_path: Path) -> None:
    """A race in the SDK: without halting the player, one such close in about fifty aborts."""
    path = tmp_path / "a.db3"
    with Recorder(path, Rig(rgb=Intrinsics(160, 120, 150.0, 150.0, 80.0, 60.0))) as recorder:
        for k in range(128):
            recorder.write(rgb=np.full((120, 160, 3), k, np.uint8))
    script = (
        "import sys; from pathlib import Path\n"
        "from loupe_edge.camera import RealSenseCamera\n"
        "from loupe_edge.camera_settings import CameraSettings\n"
        "for _ in range(30):\n"
        "    camera = RealSenseCamera(CameraSettings(recording=Path(sys.argv[1])))\n"
        "    camera.open()\n"
        "    [camera.read() for _ in range(122)]\n"
        "    camera.close()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
