"""Pictures and RGB-D frames from files become recordings that replay with the right geometry."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.deproject import deproject
from loupe_calibration.errors import BadInputError
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings
from loupe_edge.errors import EndOfRecordingError
from loupe_edge.labels import read_mask
from loupe_edge.pictures import read_depth, read_rgb
from loupe_edge.record_from import record_from
from loupe_models.frame import Frame, Rect

REAL = ["clutter_phoxi_dex-net_4.0", "clutter_primesense", "realsense_d435_felixchenfy"]


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


def picture(path: Path, size_wh: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    bgr = np.random.default_rng(seed).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)
    assert cv2.imwrite(str(path), bgr)
    return bgr[..., ::-1]


def test_pictures_of_any_size_lie_unscaled_on_one_canvas(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    sizes = [(40, 30), (64, 20), (33, 57)]
    wanted = [picture(folder / f"{k}.png", size, k) for k, size in enumerate(sizes)]
    assert record_from(folder, tmp_path / "a.db3") == 3
    frames = read_all(tmp_path / "a.db3", "rgb")
    assert {frame.size_wh for frame in frames} == {(64, 57)}
    for frame, (width, height), rgb in zip(frames, sizes, wanted, strict=True):
        assert frame.rgb is not None
        assert frame.label is not None
        assert frame.label.rect_px == Rect(0, 0, width, height)
        assert frame.label.kind is None
        np.testing.assert_array_equal(frame.rgb[:height, :width], rgb)


def test_an_index_brings_truth_and_masks(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (40, 30), 1)
    picture(tmp_path / "b.png", (50, 20), 2)
    mask = np.zeros((20, 50), np.uint8)
    mask[5:9, 10:20] = 255
    cv2.imwrite(str(tmp_path / "b_mask.png"), mask)
    lines = [
        {"filename": "a.png", "label": 0, "label_name": "good", "clsname": "x", "part": "1"},
        {"filename": "b.png", "label": 1, "label_name": "dent", "clsname": "x", "part": "2",
         "maskname": "b_mask.png"},
    ]  # fmt: skip
    index = tmp_path / "test.jsonl"
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    record_from(index, tmp_path / "out.db3")
    good, bad = read_all(tmp_path / "out.db3", "rgb")
    assert good.label is not None
    assert bad.label is not None
    assert (good.label.kind, good.part_id) == ("good", "1")
    assert (bad.label.kind, bad.label.defect, bad.part_id) == ("defect", "dent", "2")
    found = read_mask(tmp_path / "out.db3", bad.label)
    assert found is not None
    assert found.shape == (30, 50)
    assert found.sum() == 40


@pytest.mark.parametrize("name", REAL)
def test_real_frames_replay_with_the_right_geometry(
    real_data: Path, tmp_path: Path, name: str
) -> None:
    source = real_data / "rgbd_real" / name
    n = record_from(source, tmp_path / "a.db3")
    frames = read_all(tmp_path / "a.db3", "depth")
    files = sorted(f for f in source.iterdir() if f.stem.startswith("depth"))
    assert len(frames) == n == len(files)
    for frame, file in zip(frames, files, strict=True):
        check_geometry(frame, file)


def check_geometry(frame: Frame, file: Path) -> None:
    lens = frame.intrinsics
    assert lens is not None
    assert frame.depth is not None
    assert frame.depth_scale_m is not None
    if file.suffix == ".npz":
        with np.load(file) as loaded:
            z = np.squeeze(loaded["depth"]).astype(np.float64)
    else:
        z = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), np.float64) / 1000
    v, u = np.mgrid[: z.shape[0], : z.shape[1]].astype(np.float64)
    x = (u - lens.cx_px) / lens.fx_px * z
    y = (v - lens.cy_px) / lens.fy_px * z
    points = deproject(frame.depth, lens, frame.depth_scale_m)
    hole = z == 0
    assert np.isnan(points[hole]).all()
    np.testing.assert_allclose(points[~hole], np.stack([x, y, z], -1)[~hole], atol=1e-4)


def test_real_colour_and_depth_replay_together(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "rgbd_real" / "clutter_primesense"
    record_from(source, tmp_path / "a.db3")
    frames = read_all(tmp_path / "a.db3", "rgb", "depth")
    assert len(frames) == 5
    assert frames[0].rgb is not None
    np.testing.assert_array_equal(frames[0].rgb, read_rgb(source / "color_0.png"))
    np.testing.assert_array_equal(frames[0].depth, read_depth(source / "depth_m_0.npz")[0])
    assert len(read_all(tmp_path / "a.db3", "rgb")) == 5


def test_depth_without_intrinsics_says_what_to_give(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "rgbd_real" / "realsense_d435i_jstar"
    with pytest.raises(BadInputError, match="--intrinsics"):
        record_from(source, tmp_path / "a.db3")
    lens = tmp_path / "lens.json"
    lens.write_text(json.dumps({
        "width_px": 1280, "height_px": 720, "fx_px": 900, "fy_px": 900, "cx_px": 640, "cy_px": 360,
    }))  # fmt: skip
    assert record_from(source, tmp_path / "a.db3", intrinsics=lens) == 1
    assert len(read_all(tmp_path / "a.db3", "rgb", "depth")) == 1


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda d: (d / "notes.txt").touch(), "no picture in it"),
        (lambda d: (d / "a.png").write_text("hello"), "not a picture"),
        (lambda d: (d / "depth_1.npy").write_bytes(b"junk"), "intrinsics"),
    ],
)
def test_bad_folders_say_what_is_wrong(tmp_path: Path, fill, message: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "in"
    folder.mkdir()
    fill(folder)
    with pytest.raises(BadInputError, match=message):
        record_from(folder, tmp_path / "a.db3")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_depth_in_millimetres_given_as_metres_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.full((4, 4), 812.0, np.float32))
    with pytest.raises(BadInputError, match="is it in millimetres"):
        read_depth(tmp_path / "depth.npy")
