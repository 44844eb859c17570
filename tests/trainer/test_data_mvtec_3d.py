"""A small tree laid out as MVTec 3D-AD is downloaded, its clouds seen through a known lens."""

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.deproject import deproject, ray_planes
from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.camera_settings import Stream
from loupe_models.frame import Rect
from loupe_models.preprocess import Cloud, Crop, PreprocessSpec, preprocess
from loupe_trainer.data.mvtec_3d import open_mvtec_3d
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.data.organized_cloud import DEPTH_UNIT_M, read_scan
from loupe_trainer.errors import DataError
from loupe_trainer.index import index_data
from loupe_trainer.progress import SilentProgress
from loupe_trainer.recipe import SplitSettings, ThresholdSettings
from loupe_trainer.split import split_parts

WIDTH, HEIGHT = 40, 30
LENS = Intrinsics(WIDTH, HEIGHT, 137.0, 138.0, 21.5, 12.25)
BOTH = Reading(streams=("rgb", "depth"))


def cloud(seed: int, lens: Intrinsics = LENS) -> npt.NDArray[np.float32]:
    """An uneven surface half a metre away, with holes."""
    rng = np.random.default_rng(seed)
    shape = (lens.height_px, lens.width_px)
    z_m = 0.5 + 0.02 * rng.random(shape)
    z_m[rng.random(shape) < 0.2] = 0
    x, y = ray_planes(lens)
    return np.stack([x * z_m, y * z_m, z_m], axis=-1).astype(np.float32)


def write_tiff(path: Path, xyz: npt.NDArray[np.float32], photometric: int = 2) -> None:
    """Write x, y and z in this order: OpenCV would turn it, and a test would not see that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = xyz.shape
    pixels = xyz.astype("<f4").tobytes()
    threes = struct.pack("<4H", 32, 32, 32, 0) + struct.pack("<4H", 3, 3, 3, 0)
    bits_at = 8 + len(pixels)
    # Width, height, bits, no compression, photometric, strip, samples, rows, bytes, chunky, float.
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height),
        (279, 4, 1, len(pixels)), (284, 3, 1, 1), (339, 3, 3, bits_at + 8),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", bits_at + len(threes))
    table = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(head + pixels + threes + table)


def exposure(folder: Path, name: str, seed: int, mask_value: int | None = None) -> None:
    write_tiff(folder / "xyz" / f"{name}.tiff", cloud(seed))
    rgb = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:6, 4:9] = mask_value or 0
    pictures = {"rgb": rgb, "gt": mask} if mask_value is not None else {"rgb": rgb}
    for kind, pixels in pictures.items():
        (folder / kind).mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / kind / f"{name}.png"), pixels)


@pytest.fixture
def bagel(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec_3d" / "bagel"
    for i in range(6):
        exposure(root / "train" / "good", f"{i:03d}", i)
    for i in range(2):
        exposure(root / "validation" / "good", f"{i:03d}", 20 + i)
    exposure(root / "test" / "good", "000", 30, mask_value=0)
    exposure(root / "test" / "hole", "000", 31, mask_value=101)
    (root / "calibration").mkdir()
    (root / "calibration" / "camera_parameters.json").write_text("{}")
    return root


def test_sets_truth_and_validation(bagel: Path) -> None:
    data = open_data(bagel, Reading())
    assert [(i.key, i.kind, i.is_validation, i.is_test_only) for i in data.items] == [
        *((f"train/good/rgb/{i:03d}.png", "good", False, False) for i in range(6)),
        *((f"validation/good/rgb/{i:03d}.png", "good", True, False) for i in range(2)),
        ("test/good/rgb/000.png", "good", False, True),
        ("test/hole/rgb/000.png", "defect", False, True),
    ]
    mask = data.mask(data.items[-1])
    assert mask is not None
    assert mask.sum() == 10
    assert data.mask(data.items[-2]) is None
    # Two validation parts cannot carry the promise, which takes four and two for the quantiles.
    shares = SplitSettings(fit=0.5, quantiles=0.2, threshold=0.4, test=0)
    split = split_parts(data.items, shares, ThresholdSettings(false_reject_rate=0.53), seed=0)
    assert [len(split.role(r)) for r in ("fit", "quantiles", "threshold", "test")] == [2, 2, 4, 2]
    assert not any(i.is_validation for i in split.fit)


@pytest.mark.parametrize("streams", [("rgb",), ("depth",), ("rgb", "depth")])
def test_frames_hold_the_streams_that_are_asked_for(
    bagel: Path, streams: tuple[Stream, ...]
) -> None:
    data = open_data(bagel, Reading(streams=streams))
    frames = [frame for _, frame in data.frames(data.items)]
    assert len(frames) == 10
    assert all((f.rgb is not None) == ("rgb" in streams) for f in frames)
    assert all((f.depth is not None) == ("depth" in streams) for f in frames)
    assert all(f.label is not None and f.label.kind in {"good", "defect"} for f in frames)
    assert any(name.endswith(" depth") for name in data.files) == ("depth" in streams)


def test_depth_and_lens_give_the_published_points_back(bagel: Path) -> None:
    data = open_data(bagel, BOTH)
    _, frame = next(iter(data.frames(data.items)))
    assert frame.intrinsics is not None
    whole = Rect(0, 0, WIDTH, HEIGHT)
    spec = PreprocessSpec(steps=(Crop(), Cloud()), tensors=("xyz", "valid"))
    tensors = preprocess(frame, whole, spec).tensors
    np.testing.assert_allclose(tensors["xyz"][0], cloud(0), atol=DEPTH_UNIT_M)
    np.testing.assert_array_equal(tensors["valid"][0] > 0, cloud(0)[..., 2] > 0)


def test_the_lens_of_a_published_category(tmp_path: Path) -> None:
    """The division model of `calibration/camera_parameters.json`, as published for tire."""
    focus_m, kappa, pitch_m, cx, cy = 0.0103431, -2205.03, 3.75e-6, 376.046, 423.07
    u_px, v_px = np.meshgrid(np.arange(600), np.arange(800))
    bent = np.stack([u_px - cx, v_px - cy], axis=-1) * pitch_m
    xy = bent / (1 + kappa * (bent**2).sum(axis=-1, keepdims=True)) / focus_m
    z_m = 0.7 + 0.05 * np.sin(u_px / 40)
    xyz = np.concatenate([xy * z_m[..., None], z_m[..., None]], axis=-1).astype(np.float32)
    write_tiff(tmp_path / "000.tiff", xyz)
    scan = read_scan(tmp_path / "000.tiff")
    assert abs(scan.lens.fx_px - focus_m / pitch_m) < 0.01 * scan.lens.fx_px
    points = deproject(scan.depth, scan.lens, DEPTH_UNIT_M)
    off_m = np.linalg.norm(points - xyz, axis=-1)
    assert np.quantile(off_m, 0.95) < 0.0001


@pytest.mark.parametrize("photometric", [1, 2])
def test_the_order_of_the_channels_is_the_files(tmp_path: Path, photometric: int) -> None:
    write_tiff(tmp_path / "0.tiff", cloud(0), photometric)
    scan = read_scan(tmp_path / "0.tiff")
    np.testing.assert_allclose(scan.depth * DEPTH_UNIT_M, cloud(0)[..., 2], atol=DEPTH_UNIT_M)
    assert scan.lens.fx_px == pytest.approx(LENS.fx_px, abs=0.01)
    assert scan.lens.cy_px == pytest.approx(LENS.cy_px, abs=0.01)


def test_nan_is_no_measurement(tmp_path: Path) -> None:
    holes = cloud(0)
    holes[holes[..., 2] == 0] = np.nan
    write_tiff(tmp_path / "0.tiff", holes)
    np.testing.assert_array_equal(read_scan(tmp_path / "0.tiff").depth > 0, cloud(0)[..., 2] > 0)


def misordered(xyz: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(xyz[:, ::-1] * (xyz[..., 2:] > 0))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda xyz: xyz * 1000, r"depths of 5\d\d to 5\d\d m; are these millimetres\?"),
        (lambda xyz: xyz / 1000, r"0\.000\d+ m; are these metres that were read as millimetres"),
        (lambda xyz: -xyz, "is it in millimetres"),
        (lambda xyz: xyz * 0, "only 0 pixels were measured"),
        (misordered, "no lens explains"),
        (
            lambda xyz: xyz + np.random.default_rng(1).normal(0, 0.02, xyz.shape) * (xyz != 0),
            "from their own pixels",
        ),
    ],
)
def test_clouds_that_are_not_what_a_camera_saw(
    spoil: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], says: str, tmp_path: Path
) -> None:
    write_tiff(tmp_path / "0.tiff", spoil(cloud(0)).astype(np.float32))
    with pytest.raises(DataError, match=says):
        read_scan(tmp_path / "0.tiff")


def test_files_that_are_not_clouds(bagel: Path) -> None:
    file = bagel / "train" / "good" / "xyz" / "000.tiff"
    assert cv2.imwrite(str(file), np.ones((HEIGHT, WIDTH), np.uint16))
    data = open_data(bagel, BOTH)
    with pytest.raises(DataError, match="three channels of 32-bit floating point"):
        list(data.frames(data.items))
    file.write_text("no picture")
    with pytest.raises(DataError, match="not a TIFF that can be read"):
        list(data.frames(data.items))
    write_tiff(file, cloud(0, Intrinsics(20, 20, 100.0, 100.0, 9.0, 9.0)))
    with pytest.raises(DataError, match="20x20, its picture 40x30"):
        list(data.frames(data.items))


def test_a_category_without_its_parts(bagel: Path) -> None:
    in_colour = index_data(open_data(bagel, Reading()), SilentProgress()).data_sha256
    (bagel / "test" / "hole" / "xyz" / "000.tiff").unlink()
    with pytest.raises(DataError, match="1 of 10 clouds are missing"):
        open_data(bagel, BOTH)
    # Colour alone does not rest on clouds.
    assert index_data(open_data(bagel, Reading()), SilentProgress()).data_sha256 == in_colour
    (bagel / "test" / "hole" / "gt" / "000.png").unlink()
    with pytest.raises(DataError, match="1 of its defects have no mask"):
        open_mvtec_3d(bagel, ("rgb",))
