import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from loupe_calibration.errors import BadInputError
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError
from loupe_trainer.index import index_data
from loupe_trainer.progress import SilentProgress

QUIET = SilentProgress()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "parts"


def write(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(value).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), picture)
    return path


def test_a_plain_folder_holds_good_parts(folder: Path) -> None:
    for i in range(3):
        write(folder / f"{i}.png", i)
    data = open_data(folder, Reading())
    assert [(i.key, i.part_id, i.kind) for i in data.items] == [
        (f"{i}.png", f"{i}.png", "good") for i in range(3)
    ]
    read = [
        (item.key, frame.rgb is not None and frame.rgb.shape, frame.part_id)
        for item, frame in data.frames(data.items)
    ]
    assert read == [(f"{i}.png", (12, 16, 3), f"{i}.png") for i in range(3)]
    some = data.items[2:0:-1]
    assert [item.key for item, _ in data.frames(some)] == ["1.png", "2.png"]


def test_a_part_pattern_joins_views_of_one_part(folder: Path) -> None:
    for part in (1, 2):
        for view in "ab":
            write(folder / f"part{part}_{view}.png", part * 10 + ord(view))
    data = open_data(folder, Reading(part_pattern="(part[0-9])"))
    assert [i.part_id for i in data.items] == ["part1", "part1", "part2", "part2"]
    with pytest.raises(DataError, match="finds no part in"):
        open_data(folder, Reading(part_pattern="(part9)"))
    with pytest.raises(DataError, match="needs a group"):
        open_data(folder, Reading(part_pattern="part"))
    with pytest.raises(DataError, match="part_pattern"):
        open_data(folder, Reading(part_pattern="("))


def test_mvtec_layout(mvtec_folder: Path) -> None:
    data = open_data(mvtec_folder, Reading())
    told = {(i.kind, i.defect, i.is_test_only, i.mask is not None) for i in data.items}
    assert told == {
        ("good", None, False, False), ("good", None, True, False),
        ("defect", "spot", True, True), ("defect", "blob", True, True),
    }  # fmt: skip
    spot = next(i for i in data.items if i.defect == "spot")
    mask = data.mask(spot)
    assert mask is not None
    assert mask.dtype == bool
    assert mask.sum() == 81
    assert data.mask(data.items[0]) is None


@pytest.mark.parametrize("name", ["scratch_01", "IMG_defect", "03-Dented", "NG.7", "tile bad"])
def test_a_defect_among_the_good_is_refused_by_name(folder: Path, name: str) -> None:
    write(folder / "1.png")
    write(folder / f"{name}.png")
    with pytest.raises(DataError, match="must hold good parts only") as refused:
        open_data(folder, Reading())
    assert name in str(refused.value)
    shutil.rmtree(folder)
    write(folder / "train" / "good" / f"{name}.png")
    with pytest.raises(DataError, match="must hold good parts only"):
        open_data(folder, Reading())


@pytest.mark.parametrize("name", ["breaker_7", "badge", "holes", "good_1", "scratchpad", "p_01"])
def test_innocent_names_pass(folder: Path, name: str) -> None:
    write(folder / f"{name}.png")
    assert len(open_data(folder, Reading()).items) == 1


def test_layouts_that_would_mix_good_and_bad_are_refused(folder: Path) -> None:
    write(folder / "good" / "1.png")
    write(folder / "scratch" / "1.png")
    with pytest.raises(DataError, match="holds folders"):
        open_data(folder, Reading())
    write(folder / "train" / "good" / "1.png")
    write(folder / "train" / "scratch" / "1.png")
    with pytest.raises(DataError, match="only good parts are learnt from"):
        open_data(folder, Reading())


def test_nothing_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_data(folder, Reading())
    folder.mkdir()
    with pytest.raises(BadInputError, match=r"(?i)no picture"):
        open_data(folder, Reading())
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="give a folder of pictures"):
        open_data(tmp_path / "notes.txt", Reading())


def test_not_a_picture(folder: Path) -> None:
    write(folder / "1.png")
    (folder / "2.png").write_bytes(b"this is not a picture")
    data = open_data(folder, Reading())
    with pytest.raises(BadInputError, match=r"2\.png"):
        list(data.frames(data.items))


def test_the_hash_follows_content_and_truth_but_not_place(folder: Path, tmp_path: Path) -> None:
    for i in range(3):
        write(folder / f"{i}.png", i)
    first = index_data(open_data(folder, Reading()), QUIET).data_sha256
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert index_data(open_data(moved, Reading()), QUIET).data_sha256 == first
    one_part = Reading(part_pattern="(png)")
    assert index_data(open_data(moved, one_part), QUIET).data_sha256 != first
    write(moved / "2.png", 77)
    assert index_data(open_data(moved, Reading()), QUIET).data_sha256 != first
    (moved / "2.png").unlink()
    assert index_data(open_data(moved, Reading()), QUIET).data_sha256 != first


def test_copies_share_a_part(folder: Path) -> None:
    for i in range(4):
        write(folder / f"{i}.png", i % 2)
    index = index_data(open_data(folder, Reading()), QUIET)
    assert [i.part_id for i in index.items] == ["0.png", "1.png", "0.png", "1.png"]


def test_magnetic_tile(tmp_path: Path) -> None:
    rows = [
        ("MT_Free/Imgs/a.jpg", "MT_Free", 0, 1, 7),
        ("MT_Crack/Imgs/b.jpg", "MT_Crack", 1, 2, 7),
        ("MT_Uneven/Imgs/c.jpg", "MT_Uneven", 1, 3, 8),
    ]
    table = "path,class,exposure,num,group\n" + "".join(
        ",".join(map(str, row)) + "\n" for row in rows
    )
    (tmp_path / "groups.csv").write_text(table)
    for i, row in enumerate(rows):
        write(tmp_path / row[0], i)
    for row, value in ((rows[1], 200), (rows[2], 0)):
        mask = np.zeros((12, 16), np.uint8)
        mask[2:4, 2:4] = value
        mask[8:, 8:] = 40  # below the cut: resampled masks are not strictly black
        assert cv2.imwrite(str((tmp_path / row[0]).with_suffix(".png")), mask)
    data = open_data(tmp_path, Reading())
    assert [(i.part_id, i.kind, i.defect) for i in data.items] == [
        ("group-7", "good", None), ("group-7", "defect", "crack"), ("group-8", "defect", "uneven"),
    ]  # fmt: skip
    drawn = data.mask(data.items[1])
    assert drawn is not None
    assert drawn.sum() == 4
    assert data.mask(data.items[2]) is None  # an empty mask: nobody drew it
    (tmp_path / rows[0][0]).unlink()
    with pytest.raises(DataError, match=r"named in groups\.csv but missing"):
        open_data(tmp_path, Reading())
    (tmp_path / "groups.csv").write_text("path,class\nx,y\n")
    with pytest.raises(DataError, match="needs the columns"):
        open_data(tmp_path, Reading())
    with pytest.raises(DataError, match=r"groups\.csv: not readable"):
        open_data(tmp_path / "MT_Free", Reading(reader="magnetic_tile"))


def test_the_real_tiles(real_data: Path) -> None:
    data = open_data(real_data / "magnetic_tile", Reading())
    assert len(data.items) == 1344
    good = {i.part_id for i in data.items if i.kind == "good"}
    mixed = good & {i.part_id for i in data.items if i.kind == "defect"}
    assert (len(good), len(mixed)) == (159, 12)
