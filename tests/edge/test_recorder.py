"""The recorder: whole or not at all, bit-equal, and never a frame short."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from loupe_calibration.errors import FaultError
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import EndOfRecordingError, RecordingError
from loupe_edge.labels import read_labels, read_mask
from loupe_edge.recorder import Recorder, Rig
from loupe_models.frame import Frame, Label, Rect

LENS = Intrinsics(160, 120, 150.0, 150.0, 80.0, 60.0)
BASELINE = Transform.from_matrix(np.array([[1, 0, 0, 0.015], [0, 1, 0, 0], [0, 0, 1, 0.0]]))


def noise(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return rgb, rng.integers(0, 2000, (120, 160), dtype=np.uint16)


def read_all(path: Path, *streams: str) -> list[Frame]:
    camera = RealSenseCamera(CameraSettings(recording=path, streams=streams))
    camera.open()
    frames = []
    try:
        while True:
            frames.append(camera.read())
    except EndOfRecordingError:
        return frames
    finally:
        camera.close()


def test_frames_come_back_bit_equal_with_their_labels_and_masks(tmp_path: Path) -> None:
    path = tmp_path / "a.db3"
    mask = np.zeros((120, 160), bool)
    mask[10:20, 30:40] = True
    label = Label(Rect(1, 2, 30, 40), "x.png", "part-7", "defect", "dent", ("depth",))
    with Recorder(path, Rig(LENS, LENS, 0.0001)) as recorder:
        for k in range(20):
            rgb, depth = noise(k)
            recorder.write(rgb, depth, label if k == 5 else None, mask if k == 5 else None)
    frames = read_all(path, "rgb", "depth")
    assert [frame.frame_id for frame in frames] == list(range(1, 21))
    for k, frame in enumerate(frames):
        rgb, depth = noise(k)
        assert frame.rgb is not None
        assert frame.depth is not None
        np.testing.assert_array_equal(frame.rgb, rgb)
        np.testing.assert_array_equal(frame.depth, depth)
        assert frame.depth_scale_m == pytest.approx(0.0001)
        assert frame.intrinsics == LENS
    labelled = [frame for frame in frames if frame.label is not None]
    assert [frame.frame_id for frame in labelled] == [6]
    found = labelled[0].label
    assert found is not None
    assert (found.rect_px, found.part_id, found.visible_in) == (label.rect_px, "part-7", ("depth",))
    np.testing.assert_array_equal(read_mask(path, found), mask)


def test_fed_as_fast_as_it_goes_nothing_is_lost(tmp_path: Path) -> None:
    lens = Intrinsics(640, 480, 600.0, 600.0, 320.0, 240.0)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    depth = rng.integers(0, 2000, (480, 640), dtype=np.uint16)
    with Recorder(tmp_path / "a.db3", Rig(lens, lens)) as recorder:
        for _ in range(60):
            recorder.write(rgb, depth)
    assert len(read_all(tmp_path / "a.db3", "rgb", "depth")) == 60


@pytest.mark.parametrize("streams", [("rgb",), ("depth",)])
def test_single_stream_recordings_replay(tmp_path: Path, streams: tuple[str, ...]) -> None:
    rig = Rig(rgb=LENS if "rgb" in streams else None, depth=LENS if "depth" in streams else None)
    with Recorder(tmp_path / "a.db3", rig) as recorder:
        for k in range(8):
            rgb, depth = noise(k)
            recorder.write(rgb if rig.rgb else None, depth if rig.depth else None)
    frames = read_all(tmp_path / "a.db3", *streams)
    assert len(frames) == 8
    assert all((frame.rgb is None) == ("rgb" not in streams) for frame in frames)
    assert all((frame.depth is None) == ("depth" not in streams) for frame in frames)
    assert all(frame.sync is None for frame in frames)


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def write_two_sizes() -> None:
        with Recorder(tmp_path / "a.db3", Rig(rgb=LENS)) as recorder:
            recorder.write(noise(0)[0], label=Label(part_id="1"), mask=np.ones((120, 160), bool))
            recorder.write(np.zeros((60, 160, 3), np.uint8))

    with pytest.raises(RecordingError, match="recording's is"):
        write_two_sizes()
    assert list(tmp_path.iterdir()) == []


def test_a_lost_image_is_noticed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.db3", Rig(rgb=LENS))
    recorder.write(noise(0)[0])
    making = next(tmp_path.glob(".a.*/a.db3"))
    recorder._tap.close()
    with sqlite3.connect(making) as database:
        database.execute(
            "DELETE FROM messages WHERE topic_id IN "
            "(SELECT id FROM topics WHERE name LIKE '%image/data%')"
        )
    database.close()
    with pytest.raises(FaultError, match="holds 0 of 1 images"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_names_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"ends in \.db3"):
        Recorder(tmp_path / "a.bag", Rig(rgb=LENS))
    (tmp_path / "b.db3").write_bytes(b"")
    with pytest.raises(RecordingError, match="exists"):
        Recorder(tmp_path / "b.db3", Rig(rgb=LENS))
    with pytest.raises(RecordingError, match="colour, depth, or both"):
        Rig()


def test_depth_is_registered_to_colour(tmp_path: Path) -> None:
    """A small square 0.5 m away, seen 15 mm to the side, lands where geometry says."""
    depth = np.zeros((120, 160), np.uint16)
    depth[50:70, 70:90] = 5000
    rgb = np.zeros((120, 160, 3), np.uint8)
    with Recorder(tmp_path / "a.db3", Rig(LENS, LENS, 0.0001, BASELINE)) as recorder:
        recorder.write(rgb, depth)
        recorder.write(rgb, depth)
    aligned = read_all(tmp_path / "a.db3", "rgb", "depth")[0].depth
    native = read_all(tmp_path / "a.db3", "depth")[0].depth
    assert aligned is not None
    assert native is not None
    np.testing.assert_array_equal(native, depth)
    shift_px = 150 * 0.015 / 0.5  # fx * baseline / z = 4.5
    columns = np.nonzero(aligned.any(axis=0))[0]
    assert columns.min() == pytest.approx(70 + shift_px, abs=1.5)
    assert aligned.max() == 5000


def test_a_stale_labels_file_labels_nothing(tmp_path: Path) -> None:
    for name, fps in (("a", 30), ("b", 15)):
        with Recorder(tmp_path / f"{name}.db3", Rig(rgb=LENS), fps) as recorder:
            for _ in range(3):
                recorder.write(noise(0)[0], label=Label(part_id="1"))
    (tmp_path / "b.labels.jsonl").replace(tmp_path / "a.labels.jsonl")
    labelled = [frame.frame_id for frame in read_all(tmp_path / "a.db3", "rgb") if frame.label]
    assert labelled == []


@pytest.mark.parametrize(
    "line", ["", "{}", "not json", '{"frame": 1, "camera_ns": 2, "label": {}, "more": 1}']
)
def test_a_bad_labels_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.labels.jsonl").write_text(line + "\n")
    with pytest.raises(RecordingError, match=r"a\.labels\.jsonl:1: not a label"):
        read_labels(tmp_path / "a.db3")


def test_a_mask_outside_its_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="outside its folder"):
        read_mask(tmp_path / "a.db3", Label(mask="../secret.png"))
