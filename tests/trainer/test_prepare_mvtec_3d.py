"""The part alone: the table and all but the largest cluster go, into another folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from loupe_calibration.deproject import ray_planes
from loupe_calibration.intrinsics import Intrinsics
from loupe_trainer.cli import app
from loupe_trainer.data.mvtec_3d import MARK, open_mvtec_3d
from loupe_trainer.data.organized_cloud import read_cloud
from loupe_trainer.errors import DataError
from loupe_trainer.part_alone import pad_to_square, part_mask
from loupe_trainer.prepare_mvtec_3d import prepare_mvtec_3d
from loupe_trainer.progress import SilentProgress

WIDTH, HEIGHT = 80, 60
LENS = Intrinsics(WIDTH, HEIGHT, 300.0, 300.0, 39.5, 29.5)
PART, CRUMB = (slice(20, 40), slice(25, 55)), (slice(44, 50), slice(62, 68))


def scene(table_noise_m: float = 0.0003, scattered: int = 0) -> npt.NDArray[np.float32]:
    """A part 20 mm high and a crumb on a table half a metre away, seen a little from aside."""
    rng = np.random.default_rng(4)
    z_m = 0.5 + np.linspace(0, 0.01, WIDTH)[None] + rng.normal(0, table_noise_m, (HEIGHT, WIDTH))
    z_m[PART] -= 0.02
    z_m[CRUMB] -= 0.02
    beside = rng.permutation(np.argwhere(np.ones((HEIGHT - 24, 20), bool)))[:scattered]
    z_m[beside[:, 0] + 12, beside[:, 1] + 2] -= rng.uniform(0.03, 0.4, len(beside))
    x, y = ray_planes(LENS)
    z_m[5, 5] = 0
    return np.stack([x * z_m, y * z_m, z_m], axis=-1).astype(np.float32)


def exposure(folder: Path, name: str, *, has_truth: bool) -> None:
    colour, truth = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[25:30, 30:35] = 255
    pictures = {"xyz": (".tiff", scene()[..., ::-1]), "rgb": (".png", colour)}
    for kind, (suffix, pixels) in {**pictures, "gt": (".png", truth)}.items():
        if kind != "gt" or has_truth:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / kind / f"{name}{suffix}"), np.ascontiguousarray(pixels))


@pytest.fixture
def tire(tmp_path: Path) -> Path:
    root = tmp_path / "published" / "tire"
    exposure(root / "train" / "good", "000", has_truth=False)
    exposure(root / "train" / "good", "001", has_truth=False)
    exposure(root / "test" / "hole", "000", has_truth=True)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    files = (f for f in sorted(folder.rglob("*")) if f.is_file())
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def test_the_largest_cluster_above_the_plane_is_the_part() -> None:
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[PART] = True
    np.testing.assert_array_equal(part_mask(scene()), wanted)


def test_noise_is_never_the_part_however_much_there_is() -> None:
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[PART] = True
    scattered = scene(scattered=700)  # the part has 600 points
    np.testing.assert_array_equal(part_mask(scattered), wanted)


def test_a_scan_without_a_part_is_refused() -> None:
    xyz = scene()
    for place in (PART, CRUMB):
        xyz[place] = 0
    with pytest.raises(DataError, match="nothing stands on the plane"):
        part_mask(xyz)
    with pytest.raises(DataError, match="only 0 points along its border"):
        part_mask(xyz * 0)


def test_squares_have_sides_of_hundreds() -> None:
    for shape, side in (((60, 80, 3), 100), ((100, 100), 100), ((30, 101), 200)):
        padded = pad_to_square(np.ones(shape, np.uint8))
        assert padded.shape[:2] == (side, side)
        assert padded.sum() == np.prod(shape)


def test_a_prepared_folder_is_read_like_the_published_one(tire: Path, tmp_path: Path) -> None:
    before, out = contents(tire), tmp_path / "prepared"
    assert prepare_mvtec_3d(tire.parent, out, SilentProgress()) == 3
    assert contents(tire) == before
    data = open_mvtec_3d(out / "tire", ("rgb", "depth"))
    frames = [frame for _, frame in data.frames(data.items)]
    assert [item.kind for item in data.items] == ["good", "good", "defect"]
    wanted = np.zeros((100, 100), bool)
    wanted[20 + 20 : 20 + 40, 10 + 25 : 10 + 55] = True
    for frame in frames:
        assert frame.rgb is not None
        assert frame.depth is not None
        np.testing.assert_array_equal(frame.depth > 0, wanted)
        np.testing.assert_array_equal(frame.rgb.any(axis=-1), wanted)
    mask = data.mask(data.items[2])
    assert mask is not None
    assert mask[45:50, 40:45].all()
    assert mask.sum() == 25
    cloud = read_cloud(out / "tire" / "train" / "good" / "xyz" / "000.tiff")
    np.testing.assert_array_equal(cloud[wanted], scene()[PART].reshape(-1, 3))


def test_an_interrupted_run_goes_on(tire: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "prepared"
    prepare_mvtec_3d(tire, whole, SilentProgress())
    prepare_mvtec_3d(tire, out, SilentProgress())
    kept = out / "train" / "good" / "rgb" / "000.png"
    made_at_ns = kept.stat().st_mtime_ns
    (out / "train" / "good" / "rgb" / "001.png").unlink()  # as a kill before it leaves things
    (out / "train" / "good" / "xyz" / "001.tiff").unlink()
    again = CliRunner().invoke(app, ["prepare", "mvtec3d", str(tire), "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert "prepared: 3 exposures" in again.output
    assert contents(out) == contents(whole)
    assert kept.stat().st_mtime_ns == made_at_ns


def test_data_are_never_changed_in_place(tire: Path, tmp_path: Path) -> None:
    for out in (tire, tire / "prepared", tire.parent):
        with pytest.raises(DataError, match="never changed in place"):
            prepare_mvtec_3d(tire, out, SilentProgress())
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="holds something else"):
        prepare_mvtec_3d(tire, taken, SilentProgress())
    out = tmp_path / "prepared"
    prepare_mvtec_3d(tire, out, SilentProgress())
    with pytest.raises(DataError, match="was prepared from"):
        prepare_mvtec_3d(tire.parent, out, SilentProgress())
    (out / MARK).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        prepare_mvtec_3d(tire, out, SilentProgress())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda xyz: xyz * 1000, r"5\d\d m; are these millimetres\? A cloud is in metres"),
        (lambda xyz: xyz / 1000, "are these metres that were read as millimetres"),
        (lambda xyz: xyz * 0, "only 0 points along its border"),
        (lambda xyz: xyz[:40], "of another size than its picture"),
    ],
)
def test_what_is_wrong_with_a_cloud_is_told_and_nothing_of_it_written(
    tire: Path,
    tmp_path: Path,
    spoil: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    says: str,
) -> None:
    cloud = tire / "train" / "good" / "xyz" / "001.tiff"
    assert cv2.imwrite(str(cloud), np.ascontiguousarray(spoil(scene())[..., ::-1]))
    with pytest.raises(DataError, match=f"xyz/001.tiff: .*{says}"):
        prepare_mvtec_3d(tire, tmp_path / "prepared", SilentProgress())
    left = {f.name for f in (tmp_path / "prepared").rglob("*.*")}
    assert left == {MARK, "000.tiff", "000.png"}
