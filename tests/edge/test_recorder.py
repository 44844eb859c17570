"""A recording is complete, or not there at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loupe_calibration.errors import FaultError
from loupe_calibration.intrinsics import Intrinsics
from loupe_calibration.transform import Transform
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import RecordingError
from loupe_edge.labels import labels_path, read_labels, read_mask
from loupe_edge.recorder import Recorder, Rig
from loupe_edge.recording_file import read_contents, stream_of
from loupe_edge.simulate import read_belt
from loupe_models.frame import Label

LENS = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
RGB = np.zeros((48, 64, 3), np.uint8)
DEPTH = np.ones((48, 64), np.uint16)


def test_every_image_is_in_the_file_however_fast_it_is_fed(
    tmp_path: Path, make_exposure: Callable[..., Any]
) -> None:
    lens = Intrinsics(640, 480, 600.0, 600.0, 319.5, 239.5)
    images = [make_exposure(n, lens.size_wh) for n in range(4)]
    with Recorder(tmp_path / "fast.db3", Rig(rgb=lens, depth=lens)) as recorder:
        for n in range(60):
            rgb, depth = images[n % 4]
            assert recorder.write(rgb, depth) == n + 1
    contents = read_contents(tmp_path / "fast.db3")
    assert contents.n_images == {"rgb": 60, "depth": 60}
    assert max(contents.n_alone.values()) <= 1


def test_images_are_stamped_with_the_time_of_their_frame(
    make_recording: Callable[..., Path],
) -> None:
    told = "bbcbd-b"
    with closing(sqlite3.connect(make_recording(told))) as connection:
        rows = connection.execute(
            "SELECT t.name, m.timestamp FROM messages m JOIN topics t ON t.id = m.topic_id "
            "ORDER BY m.id"
        ).fetchall()
    for stream, letter in (("rgb", "c"), ("depth", "d")):
        times = [ns for topic, ns in rows if stream_of(topic) == stream]
        taken = [n for n, given in enumerate(told, 1) if given in {"b", letter}]
        np.testing.assert_allclose(times, np.array(taken) * 1e9 / 30, atol=1000)


def test_labels_and_masks_come_into_place_with_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.b.db3"
    mask = np.zeros((48, 64), np.bool_)
    mask[3:9, 5:20] = True
    with Recorder(path, Rig(rgb=LENS)) as recorder:
        recorder.write(RGB, label=Label(part_id="1", kind="good"))
        recorder.write(RGB)
        recorder.write(RGB, label=Label(part_id="2", kind="defect", defect="dent"), mask=mask)
        assert not path.exists()
        assert not labels_path(path).exists()
    labels = read_labels(path)
    assert len(labels) == 3
    assert labels.get(2, 66_667_000) == Label()  # nothing is known of it, and that is said
    third = labels.get(3, 100_000_000)
    assert third is not None
    assert third.defect == "dent"
    read = read_mask(path, third)
    assert read is not None
    np.testing.assert_array_equal(read, mask)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "a.b.db3",
        "a.b.labels.jsonl",
        "a.b.masks",
    ]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Recorder(tmp_path / "a.db3", Rig(rgb=LENS)) as recorder:
            recorder.write(RGB, label=Label(kind="good"), mask=np.ones((48, 64), np.bool_))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_an_image_that_the_sdk_lost_is_a_fault(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.db3", Rig(rgb=LENS))
    recorder.write(RGB)
    recorder.write(RGB)
    making = next(tmp_path.glob(".a.*/a.db3"))
    recorder._tap.close()
    with closing(sqlite3.connect(making)) as connection, connection:
        connection.execute(
            "DELETE FROM messages WHERE id = (SELECT MAX(m.id) FROM messages m "
            "JOIN topics t ON t.id = m.topic_id WHERE t.name LIKE '%image/data%')"
        )
    with pytest.raises(FaultError, match="holds 1 of 2 images"):
        recorder.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rig", "given", "named"),
    [
        (Rig(rgb=LENS), {"rgb": RGB[:, 1:]}, "rgb is .48, 63, 3. uint8"),
        (Rig(rgb=LENS), {"rgb": RGB.astype(np.float32)}, "float32"),
        (Rig(rgb=LENS), {"rgb": RGB[..., 0]}, "rgb is .48, 64. uint8"),
        (Rig(depth=LENS), {"depth": DEPTH.astype(np.int32)}, "depth is .48, 64. int32"),
        (Rig(rgb=LENS), {"depth": DEPTH}, "rig has no depth"),
        (Rig(depth=LENS), {"rgb": RGB}, "rig has no rgb"),
    ],
)
def test_pixels_that_are_not_the_rigs_are_refused(
    tmp_path: Path, rig: Rig, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(RecordingError, match=named), Recorder(tmp_path / "a.db3", rig) as recorder:
        recorder.write(**given)
    assert not list(tmp_path.iterdir())


def test_rows_that_do_not_lie_together_are_recorded_as_they_look(tmp_path: Path) -> None:
    """The SDK reads memory as it comes: a view must be made whole first."""
    wide = np.arange(48 * 128 * 3, dtype=np.uint32).reshape(48, 128, 3).astype(np.uint8)
    with Recorder(tmp_path / "a.db3", Rig(rgb=LENS)) as recorder:
        recorder.write(wide[:, ::2])
    camera = RealSenseCamera(CameraSettings(recording=tmp_path / "a.db3"))
    camera.open()
    frame = camera.read()
    camera.close()
    np.testing.assert_array_equal(frame.rgb, wide[:, ::2])


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.db3").write_text("")
    for path, named in (
        (tmp_path / "a.bag", r"ends in \.db3"),
        (tmp_path / "taken.db3", "exists"),
        (tmp_path / "file" / "a.db3", "cannot be written there"),
    ):
        with pytest.raises(RecordingError, match=named):
            Recorder(path, Rig(rgb=LENS))
    with pytest.raises(RecordingError, match="colour, depth, or both"):
        Rig()


def test_a_recording_without_a_frame_is_none(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.db3", Rig(rgb=LENS))
    with pytest.raises(RecordingError, match="no frame was written"):
        recorder.close()
    recorder.abandon()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.db3", "a.labels.jsonl", "a.masks", "a.belt.json"])
def test_what_stands_there_already_is_named_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(RecordingError, match=rf"{name} exists there; choose another name"):
        Recorder(tmp_path / "a.db3", Rig(rgb=LENS))
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [(name, "precious")]


def test_what_comes_to_stand_there_meanwhile_is_left_alone(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.db3", Rig(rgb=LENS))
    recorder.write(RGB, label=Label(kind="defect"), mask=np.ones((48, 64), np.bool_))
    (tmp_path / "a.masks").mkdir()
    with pytest.raises(RecordingError, match=r"a\.masks exists there"):
        recorder.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.masks"]


def test_two_at_once_to_one_name_the_second_is_refused_at_once(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.db3", Rig(rgb=LENS)) as first:
        first.write(RGB)
        with pytest.raises(RecordingError, match="another process is writing it"):
            Recorder(tmp_path / "a.db3", Rig(rgb=LENS))
        first.write(RGB)
    assert read_contents(tmp_path / "a.db3").n_images["rgb"] == 2


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.recorder import Recorder, Rig
recorder = Recorder(Path(sys.argv[1]), Rig(rgb=Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)))
recorder.write(np.zeros((48, 64, 3), np.uint8))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.db3"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    assert list(tmp_path.glob(".a.*/a.db3"))
    with Recorder(path, Rig(rgb=LENS)) as recorder:
        recorder.write(RGB)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.db3"]


def test_the_belt_comes_into_place_with_the_recording(tmp_path: Path) -> None:
    belt = Transform.identity()
    with Recorder(tmp_path / "a.db3", Rig(rgb=LENS), belt=belt) as recorder:
        recorder.write(RGB)
        assert not (tmp_path / "a.belt.json").exists()
    assert read_belt(tmp_path / "a.db3") == belt
