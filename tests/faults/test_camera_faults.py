"""What a camera can do wrong: a named error each time, never a wrong pair."""

import time
from pathlib import Path

import numpy as np
import pytest

from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import CameraError, EndOfRecordingError, RecordingError
from loupe_edge.pairing import Pairing, Stamp
from loupe_edge.recorder import Recorder, Rig

LENS = Intrinsics(64, 48, 60.0, 60.0, 32.0, 24.0)
RGB = np.zeros((48, 64, 3), np.uint8)
DEPTH = np.ones((48, 64), np.uint16)
N = 60


def record(path: Path, missing: dict[str, range] | None = None, skew_ms: float = 0.0) -> Path:
    """Write a recording whose streams miss exposures, or whose depth is stamped late."""
    gaps = missing or {}
    with Recorder(path, Rig(LENS, LENS)) as recorder:
        push = recorder._tap._push
        recorder._tap._push = lambda name, pixels, number, timestamp_ms: push(  # type: ignore[method-assign]
            name, pixels, number, timestamp_ms + (skew_ms if name == "depth" else 0.0)
        )
        for k in range(1, N + 1):
            rgb = None if k in gaps.get("rgb", ()) else RGB
            depth = None if k in gaps.get("depth", ()) else DEPTH
            recorder.write(rgb, depth)
    return path


def read_all(path: Path, *streams: str) -> tuple[list[int], list[str], RealSenseCamera]:
    told = {"recording": path, "streams": streams or ("rgb", "depth")}
    camera = RealSenseCamera(CameraSettings.model_validate(told))
    camera.open()
    ids: list[int] = []
    complaints: list[str] = []
    try:
        while True:
            try:
                ids.append(camera.read().frame_id)
            except CameraError as error:
                complaints.append(str(error))
    except EndOfRecordingError:
        return ids, complaints, camera
    finally:
        camera.close()


@pytest.mark.parametrize("dead", ["rgb", "depth"])
def test_a_dead_stream_is_named_and_no_frame_is_made_without_it(tmp_path: Path, dead: str) -> None:
    path = record(tmp_path / "a.db3", {dead: range(21, N + 1)})
    ids, complaints, _ = read_all(path)
    assert ids == list(range(1, 21))
    assert complaints
    assert all(f"no {dead} for" in text for text in complaints)


def test_a_stream_that_comes_back_is_used_again(tmp_path: Path) -> None:
    ids, complaints, camera = read_all(record(tmp_path / "a.db3", {"depth": range(21, 45)}))
    assert set(range(1, 21)) <= set(ids)
    assert set(range(46, N + 1)) <= set(ids)
    assert not set(range(21, 45)) & set(ids)
    assert len(complaints) == 1
    assert camera.counters.dropped_frames >= 24


def test_true_skew_is_refused_never_paired(tmp_path: Path) -> None:
    """20 ms late at 30 frames a second: the SDK silently pairs colour n + 1 with depth n."""
    ids, complaints, camera = read_all(record(tmp_path / "a.db3", skew_ms=20.0))
    assert ids == []
    assert complaints
    assert "no exposure has both streams" in complaints[0]
    assert camera.counters.mixed_framesets > 0


def test_skew_under_half_a_frame_is_reported_with_the_frame(tmp_path: Path) -> None:
    path = record(tmp_path / "a.db3", skew_ms=3.0)
    camera = RealSenseCamera(CameraSettings(recording=path, streams=("rgb", "depth")))
    camera.open()
    frame = camera.read()
    camera.close()
    assert frame.sync is not None
    assert frame.sync.delta_us == 3000
    assert len(read_all(path)[0]) == N


def test_gaps_in_frame_numbers_are_counted(tmp_path: Path) -> None:
    ids, _, camera = read_all(record(tmp_path / "a.db3", {"depth": range(20, 23)}))
    assert len(ids) == N - 3
    assert camera.counters.dropped_frames == 3


def test_a_missing_camera_is_named_at_once() -> None:
    camera = RealSenseCamera(CameraSettings(serial="000000000000"))
    began = time.monotonic()
    with pytest.raises(CameraError, match="camera 000000000000 is not connected"):
        camera.open()
    assert time.monotonic() - began < 5
    camera.close()


def test_a_required_stream_that_the_recording_lacks_is_named(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.db3", Rig(rgb=LENS)) as recorder:
        recorder.write(RGB)
    with pytest.raises(RecordingError, match="depth is required"):
        RealSenseCamera(
            CameraSettings(recording=tmp_path / "a.db3", streams=("rgb", "depth"))
        ).open()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.75])
def test_a_truncated_recording_is_refused(tmp_path: Path, kept: float) -> None:
    raw = record(tmp_path / "whole.db3").read_bytes()
    path = tmp_path / "a.db3"
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(RecordingError, match="not a whole recording"):
        RealSenseCamera(CameraSettings(recording=path)).open()


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such recording"):
        RealSenseCamera(CameraSettings(recording=tmp_path / "none.db3")).open()
    (tmp_path / "a.db3").write_bytes(b"not a database" * 100)
    with pytest.raises(RecordingError, match="not a whole recording"):
        RealSenseCamera(CameraSettings(recording=tmp_path / "a.db3")).open()


def test_a_live_camera_s_own_counters_set_the_offset() -> None:
    """Live, each stream counts for itself; what must not change is the difference."""
    pairing = Pairing(("rgb", "depth"), fps=30)

    def pair(rgb: int, depth: int, depth_late_ms: float = 0.0) -> bool:
        at_ns = rgb * 33_333_333
        late_ns = at_ns + int(depth_late_ms * 1e6)
        return pairing.judge({
            "rgb": Stamp(rgb, at_ns, "global"), "depth": Stamp(depth, late_ns, "global")
        })  # fmt: skip

    assert pair(100, 7)
    assert pair(101, 8)
    assert not pair(102, 8), "a stale depth image"
    assert pair(103, 10)
    assert not pair(104, 12, 13.0), "another exposure, though within half a frame"
    assert pairing.counters.mixed_framesets == 2


def test_clocks_of_two_domains_are_never_compared() -> None:
    pairing = Pairing(("rgb", "depth"), fps=30)
    stamps = {"rgb": Stamp(1, 10, "global"), "depth": Stamp(1, 10, "system")}
    assert not pairing.judge(stamps)
    later = {name: Stamp(s.number + 20, s.ns + 600_000_000, s.domain) for name, s in stamps.items()}
    with pytest.raises(CameraError, match="colour is stamped by the global clock"):
        pairing.judge(later)
