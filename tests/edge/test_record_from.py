"""Pictures, indexes and RGB-D frames as recordings, replayed through the one camera."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.deproject import deproject
from loupe_calibration.errors import BadInputError
from loupe_edge.camera import RealSenseCamera
from loupe_edge.camera_settings import CameraSettings, Stream
from loupe_edge.errors import CameraError, EndOfRecordingError, RecordingError
from loupe_edge.labels import read_mask
from loupe_edge.pictures import read_depth, read_rgb
from loupe_edge.record_from import record_from, record_live
from loupe_edge.rgbd_folder import read_intrinsics
from loupe_models.frame import Frame, Rect

LENS = {"width_px": 32, "height_px": 24, "fx_px": 30.0, "fy_px": 31.0, "cx_px": 15.0, "cy_px": 12.0}


def replay(path: Path, *streams: Stream) -> list[Frame]:
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


def picture(path: Path, width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Write noise; give it as RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return pixels


# --- Pictures -------------------------------------------------------------------------------------


def test_pictures_of_any_size_lie_unscaled_in_one_canvas(tmp_path: Path) -> None:
    sizes = {"a.png": (40, 30), "b.png": (25, 50), "c.png": (1, 1)}
    pixels = {name: picture(tmp_path / "in" / name, *wh) for name, wh in sizes.items()}
    told: list[tuple[int, int]] = []
    n = record_from(
        tmp_path / "in", tmp_path / "out.db3", tell=lambda done, total: told.append((done, total))
    )
    assert n == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    frames = replay(tmp_path / "out.db3", "rgb")
    for frame, name in zip(frames, sizes, strict=True):
        width, height = sizes[name]
        assert frame.size_wh == (40, 50)
        assert frame.rgb is not None
        np.testing.assert_array_equal(frame.rgb[:height, :width], pixels[name])
        assert not frame.rgb[height:].any()
        assert not frame.rgb[:, width:].any()
        assert frame.label is not None
        assert frame.label.rect_px == Rect(0, 0, width, height)
        assert frame.label.kind is None
        assert frame.label.source.endswith(name)


def test_an_index_tells_kind_part_and_mask(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "in" / name, 20, 16)
    mask = np.zeros((16, 20), np.uint8)
    mask[4:8, 5:9] = 255
    cv2.imwrite(str(tmp_path / "in" / "b_mask.png"), mask)
    lines = [
        {"filename": "a.png", "label": 0, "label_name": "good", "clsname": "tile", "part": "p1"},
        {"filename": "b.png", "label": 1, "label_name": "crack", "clsname": "tile",
         "maskname": "b_mask.png"},
        {"filename": "c.png"},
    ]  # fmt: skip
    index = tmp_path / "in" / "index.jsonl"
    index.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    assert record_from(index, tmp_path / "out.db3") == 3
    labels = [frame.label for frame in replay(tmp_path / "out.db3", "rgb")]
    told = [(la.kind, la.part_id, la.defect, la.visible_in) for la in labels if la is not None]
    assert told == [
        ("good", "p1", None, ()),
        ("defect", "b.png", "crack", ("rgb",)),
        (None, "c.png", None, ()),  # a line that says nothing is not good
    ]
    assert labels[1] is not None
    read = read_mask(tmp_path / "out.db3", labels[1])
    assert read is not None
    np.testing.assert_array_equal(read, mask > 0)


def test_one_picture_is_a_recording_too(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "in" / "a.jpg.png", 20, 16)
    assert record_from(tmp_path / "in", tmp_path / "out.db3") == 1
    (frame,) = replay(tmp_path / "out.db3", "rgb")
    np.testing.assert_array_equal(frame.rgb, pixels)


# --- RGB-D frames ---------------------------------------------------------------------------------


def test_depth_alone_is_a_recording_too(tmp_path: Path) -> None:
    depth = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "depth_0.png"), depth)
    (tmp_path / "in" / "lens.json").write_text(json.dumps(LENS))
    assert record_from(tmp_path / "in", tmp_path / "out.db3") == 1
    (frame,) = replay(tmp_path / "out.db3", "depth")
    np.testing.assert_array_equal(frame.depth, depth)
    assert frame.rgb is None
    with pytest.raises(RecordingError, match="holds depth, but rgb is required"):
        replay(tmp_path / "out.db3", "rgb")


REAL = {  # folder: how many frames, and where its lens is told
    "clutter_phoxi_dex-net_4.0": (5, "phoxi.intr"),
    "clutter_primesense": (5, "primesense.intr"),
    "realsense_d435_felixchenfy": (1, "cam_params_realsense.json"),
    "realsense_d435i_jstar": (1, None),
}


@pytest.fixture
def jstar_lens(tmp_path: Path) -> Path:
    """That folder tells no lens; a D435i's nominal one stands in, since any must be kept."""
    lens = {"width_px": 1280, "height_px": 720, "fx_px": 915.0, "fy_px": 914.0, "cx_px": 641.5,
            "cy_px": 361.25}  # fmt: skip
    (tmp_path / "lens.json").write_text(json.dumps(lens))
    return tmp_path / "lens.json"


def metres(path: Path) -> npt.NDArray[np.float64]:
    """Depth as the file tells it, read without the code under test; NaN where there is none."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            z = np.squeeze(arrays[arrays.files[0]]).astype(np.float64)
    else:
        z = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.float64) / 1000
    return np.where(z > 0, z, np.nan)


def lens_matrix(path: Path) -> tuple[float, float, float, float]:
    """Focal lengths and principal point as the file tells them."""
    told = json.loads(path.read_text())
    if "intrinsic_matrix" in told:
        k = told["intrinsic_matrix"]
        return k[0], k[4], k[6], k[7]
    prefix, suffix = ("_", "") if "_fx" in told else ("", "_px")
    fx, fy, cx, cy = (told[f"{prefix}{key}{suffix}"] for key in ("fx", "fy", "cx", "cy"))
    return fx, fy, cx, cy


@pytest.mark.parametrize("name", REAL)
def test_real_frames_replay_with_the_right_geometry(
    real_data: Path, tmp_path: Path, jstar_lens: Path, name: str
) -> None:
    folder = real_data / "rgbd_real" / name
    if not folder.is_dir():
        pytest.skip(f"no real frames at {folder}")
    n_frames, lens_name = REAL[name]
    lens = jstar_lens if lens_name is None else folder / lens_name
    given = lens if lens_name is None else None
    assert record_from(folder, tmp_path / "out.db3", intrinsics=given) == n_frames

    frames = replay(tmp_path / "out.db3", "depth")
    depth_files = sorted(folder.glob("*depth*"))
    fx, fy, cx, cy = lens_matrix(lens)
    for frame, file in zip(frames, depth_files, strict=True):
        z = metres(file)
        v, u = np.mgrid[: z.shape[0], : z.shape[1]].astype(np.float64)
        reference = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], axis=-1)
        assert frame.depth is not None
        assert frame.intrinsics is not None
        assert frame.depth_scale_m is not None
        points = deproject(frame.depth, frame.intrinsics, frame.depth_scale_m)
        np.testing.assert_array_equal(np.isnan(points), np.isnan(reference))  # holes stay holes
        assert np.nanmax(np.abs(points - reference)) < 1e-4
        assert 0.5 < np.mean(frame.depth > 0) <= 1


@pytest.mark.parametrize("name", REAL)
def test_real_frames_replay_with_colour_on_one_grid(
    real_data: Path, tmp_path: Path, jstar_lens: Path, name: str
) -> None:
    folder = real_data / "rgbd_real" / name
    if not folder.is_dir():
        pytest.skip(f"no real frames at {folder}")
    given = jstar_lens if REAL[name][1] is None else None
    record_from(folder, tmp_path / "out.db3", intrinsics=given)
    frames = replay(tmp_path / "out.db3", "rgb", "depth")
    colour_files = sorted([*folder.glob("color*"), *folder.glob("image*"), *folder.glob("rgb*")])
    depth_files = sorted(folder.glob("*depth*"))
    for frame, colour, file in zip(frames, colour_files, depth_files, strict=True):
        bgr = cv2.imread(str(colour))
        assert bgr is not None
        np.testing.assert_array_equal(frame.rgb, bgr[..., ::-1])
        assert frame.depth is not None
        assert frame.depth_scale_m is not None
        z = metres(file)
        times = frame.size_wh[0] // z.shape[1]  # the PhoXi's colour is twice as fine
        assert frame.depth.shape == (z.shape[0] * times, z.shape[1] * times)
        if times == 1:
            np.testing.assert_array_equal(frame.depth, read_depth(file)[0])
        else:
            low, high = around(z)
            found = (frame.depth * frame.depth_scale_m)[::times, ::times]
            known = found > 0
            assert np.mean((found >= low - 1e-4)[known] & (found <= high + 1e-4)[known]) > 0.999
            assert known.mean() == pytest.approx((z > 0).mean(), abs=0.02)


def around(
    z: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give the least and the greatest depth within two pixels of each, where any is known."""
    square, is_known = np.ones((5, 5)), z > 0
    low = cv2.erode(np.where(is_known, z, np.inf), square)
    return np.asarray(low), np.asarray(cv2.dilate(np.where(is_known, z, 0.0), square))


# --- Refusals -------------------------------------------------------------------------------------


def test_bad_input_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("not a picture")
    picture(tmp_path / "mask" / "a.png", 20, 16)
    picture(tmp_path / "mask" / "m.png", 21, 16)
    (tmp_path / "mask" / "i.jsonl").write_text('{"filename": "a.png", "maskname": "m.png"}')
    (tmp_path / "mask" / "gone.jsonl").write_text('{"filename": "b.png"}')
    (tmp_path / "mask" / "odd.jsonl").write_text('{"filename": "a.png", "label": 2}')
    (tmp_path / "mask" / "none.jsonl").write_text("\n")
    (tmp_path / "mask" / "bad.jsonl").write_text('{"filename"')
    for source, named in (
        ("missing", "no such folder"),
        ("empty", "no picture in it"),
        ("text", r"a\.png: not a picture"),
        ("mask/i.jsonl", r"mask is \(16, 21\), its picture is \(16, 20\)"),
        ("mask/gone.jsonl", r"b\.png: No such file"),
        ("mask/odd.jsonl", r"odd\.jsonl:1: label"),
        ("mask/none.jsonl", "lists no picture"),
        ("mask/bad.jsonl", r"bad\.jsonl:1: not a JSON object"),
        ("mask/missing.jsonl", "not a readable index"),
    ):
        with pytest.raises(BadInputError, match=named) as caught:
            record_from(tmp_path / source, tmp_path / "out" / "out.db3")
        assert caught.value.exit_status == 2
    out = tmp_path / "out"
    assert not out.exists() or not list(out.iterdir())


def test_rgbd_folders_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "depth_0.png"), np.full((24, 32), 500, np.uint16))
    with pytest.raises(BadInputError, match="--intrinsics"):
        record_from(folder, tmp_path / "out.db3")
    (folder / "lens.json").write_text(json.dumps({**LENS, "width_px": 33}))
    with pytest.raises(BadInputError, match="depth is 32x24, the intrinsics are for 33x24"):
        record_from(folder, tmp_path / "out.db3")
    (folder / "lens.json").write_text(json.dumps(LENS))
    picture(folder / "color_1.png", 32, 24)
    with pytest.raises(BadInputError, match="do not pair for 0, 1"):
        record_from(folder, tmp_path / "out.db3")
    picture(folder / "color_0.png", 32, 24)
    (folder / "color_1.png").unlink()
    cv2.imwrite(str(folder / "depth_0.png"), np.ones((24, 32), np.uint8))
    with pytest.raises(BadInputError, match="16-bit"):
        record_from(folder, tmp_path / "out.db3")
    assert not (tmp_path / "out.db3").exists()


@pytest.mark.parametrize("told", ["{}", "[]", "nothing", '{"_fx": 1}', '{"intrinsic_matrix": [1]}'])
def test_intrinsics_that_are_none_are_named(tmp_path: Path, told: str) -> None:
    (tmp_path / "lens.json").write_text(told)
    with pytest.raises(BadInputError, match=r"lens\.json: not intrinsics"):
        read_intrinsics(tmp_path / "lens.json")


def test_depth_in_metres_keeps_a_tenth_of_a_millimetre(tmp_path: Path) -> None:
    z = np.array([[0.0, np.nan, 0.12345], [1.0, np.inf, 6.5]], np.float32)
    np.savez(tmp_path / "d.npz", z)
    depth, scale_m = read_depth(tmp_path / "d.npz")
    np.testing.assert_array_equal(depth == 0, [[True, True, False], [False, True, False]])
    known = depth > 0
    np.testing.assert_allclose(depth[known] * scale_m, z[known], atol=5.1e-5)
    for wrong, named in (
        (
            np.array([[412.0, 655.0], [500.0, 500.0]]),
            r"depths of 412 to 655 m; are these millimetres\?",
        ),
        (np.full((2, 2), 7e-4), "are these metres that were read as millimetres"),
        (np.full((2, 2), -1.0), "metres"),
        (np.ones((2, 2), np.int64), "floating-point"),
        (np.ones(3), "2-D"),
    ):
        np.save(tmp_path / "w.npy", wrong)
        with pytest.raises(BadInputError, match=named):
            read_depth(tmp_path / "w.npy")
    cv2.imwrite(str(tmp_path / "w.png"), np.ones((2, 2), np.uint16))  # metres, in whole numbers
    with pytest.raises(BadInputError, match=r"depths of 0\.001 to 0\.001 m; are these metres"):
        read_depth(tmp_path / "w.png")
    np.save(tmp_path / "p.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(BadInputError, match="not a plain array"):
        read_depth(tmp_path / "p.npy")


def test_grey_and_sixteen_bit_pictures_are_read_as_colour(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    rgb = read_rgb(tmp_path / "grey.png")
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_rgb(tmp_path / "deep.png"), rgb)


def test_a_live_recording_without_its_camera_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="not connected"):
        record_live(CameraSettings(serial="000000000000"), tmp_path / "new" / "out.db3", 1.0)
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(RecordingError, match="serial number"):
        record_live(CameraSettings(recording=tmp_path / "a.db3"), tmp_path / "out.db3", 1.0)
    (tmp_path / "taken.db3").write_text("")
    for out in ("taken.db3", "out.bag"):
        with pytest.raises(RecordingError, match=r"ends in \.db3|taken\.db3 exists"):
            record_live(CameraSettings(serial="0"), tmp_path / out, 1.0)
