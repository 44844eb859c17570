"""A simulated recording, read back by the one camera class."""

from pathlib import Path

import numpy as np
import pytest

from loupe_calibration.deproject import deproject
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import EndOfRecordingError, RecordingError
from loupe_edge.labels import read_mask
from loupe_edge.simulate import Scenario, frames, gate_spec, n_frames, read_belt, simulate
from loupe_models.frame import Frame

SCENARIO = Scenario(n_parts=2, defect_share=1.0, seed=2, defects=("hole",), kinds=("bracket",))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "parts.db3"
    told: list[tuple[int, int]] = []
    simulate(SCENARIO, out, lambda done, total: told.append((done, total)))
    assert told[-1] == (n_frames(SCENARIO), n_frames(SCENARIO))
    return out


@pytest.fixture(scope="module")
def replayed(recording: Path) -> list[Frame]:
    camera = RealSenseCamera(CameraSettings(recording=recording, streams=("rgb", "depth")))
    camera.open()
    read = []
    try:
        while True:
            read.append(camera.read())
    except EndOfRecordingError:
        return read
    finally:
        camera.close()


def test_every_frame_comes_back_with_its_label(replayed: list[Frame], recording: Path) -> None:
    made = list(frames(SCENARIO))
    assert len(replayed) == len(made)
    for frame, simulated in zip(replayed, made, strict=True):
        assert frame.rgb is not None
        assert np.array_equal(frame.rgb, simulated.rgb)
        assert frame.label is not None
        assert frame.label.part_id == simulated.label.part_id
        mask = read_mask(recording, frame.label)
        assert (mask is None) == (simulated.mask is None)
        if mask is not None and simulated.mask is not None:
            assert np.array_equal(mask, simulated.mask)


def test_registered_depth_lies_on_belt_and_part(replayed: list[Frame], recording: Path) -> None:
    belt_from_camera = read_belt(recording)
    region = gate_spec().region_px
    assert region is not None
    frame = next(f for f in replayed if f.label is not None and f.label.part_id is not None)
    assert frame.depth is not None
    assert frame.intrinsics is not None
    assert frame.depth_scale_m is not None
    points = deproject(frame.depth, frame.intrinsics, frame.depth_scale_m)
    height_m = belt_from_camera.apply(points)[..., 2]
    x, y, width, height = region
    inside = height_m[y : y + height, x : x + width]
    top_m = inside[inside > 0.003]
    belt_m = inside[np.abs(inside) < 0.0025]
    assert np.median(belt_m) == pytest.approx(0, abs=3e-4)
    assert np.median(top_m) == pytest.approx(0.006, abs=3e-4)
    # Colour and depth agree on where the part is, so registration used the true extrinsics.
    assert frame.rgb is not None
    grey = frame.rgb[y : y + height, x : x + width, 0] > 90
    agree = (grey == (inside > 0.003))[np.isfinite(inside)]
    assert agree.mean() > 0.93


def test_a_recording_without_a_belt_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"other\.belt\.json is missing"):
        read_belt(tmp_path / "other.db3")


def test_a_broken_belt_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.belt.json").write_text('{"rotation": 1}')
    with pytest.raises(RecordingError, match="holds no belt"):
        read_belt(tmp_path / "other.db3")
