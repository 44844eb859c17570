"""Small trees laid out exactly as MVTec AD, MVTec LOCO AD and VisA are downloaded."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.errors import BadInputError
from loupe_edge.pictures import read_index
from loupe_trainer.data.layout import categories
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError
from loupe_trainer.index import index_data
from loupe_trainer.progress import SilentProgress
from loupe_trainer.recipe import SplitSettings, ThresholdSettings
from loupe_trainer.split import Split, split_parts, write_split

QUIET = SilentProgress()
HEIGHT, WIDTH = 12, 16


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)


def mask(path: Path, row: int, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[row, 2:6] = value
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def mvtec_ad(tmp_path: Path) -> Path:
    root = tmp_path / "mvtec_ad"
    for n, category in enumerate(("bottle", "cable")):
        for i in range(4):
            picture(root / category / "train" / "good" / f"{i:03d}.png", 100 * n + i)
        picture(root / category / "test" / "good" / "000.png", 100 * n + 10)
        picture(root / category / "test" / "broken_large" / "000.png", 100 * n + 20)
        mask(root / category / "ground_truth" / "broken_large" / "000_mask.png", 3, 255)
        (root / category / "readme.txt").write_text("as downloaded")
    (root / "license.txt").write_text("as downloaded")
    return root


@pytest.fixture
def loco(tmp_path: Path) -> Path:
    place = tmp_path / "mvtec_loco" / "breakfast_box"
    for i in range(6):
        picture(place / "train" / "good" / f"{i:03d}.png", i)
    for i in range(5):
        picture(place / "validation" / "good" / f"{i:03d}.png", 50 + i)
    picture(place / "test" / "good" / "000.png", 60)
    for n, kind in enumerate(("logical_anomalies", "structural_anomalies")):
        picture(place / "test" / kind / "000.png", 70 + n)
        mask(place / "ground_truth" / kind / "000" / "000.png", 3, 255)
    mask(place / "ground_truth" / "logical_anomalies" / "000" / "001.png", 7, 101)
    (place / "defects_config.json").write_text("[]")
    return place


VISA_ROWS = (
    "candle,train,normal,candle/Data/Images/Normal/0000.JPG,",
    "candle,train,normal,candle/Data/Images/Normal/0001.JPG,",
    "candle,test,normal,candle/Data/Images/Normal/0002.JPG,",
    "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
    "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,",
)


def write_table(root: Path, *rows: str, header: str = "object,split,label,image,mask") -> None:
    (root / "split_csv").mkdir(exist_ok=True)
    (root / "split_csv" / "1cls.csv").write_text("\n".join((header, *rows)) + "\n")


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    root = tmp_path / "VisA"
    for n, row in enumerate(VISA_ROWS):
        picture(root / row.split(",")[3], n)
    mask(root / "candle" / "Data" / "Masks" / "Anomaly" / "000.png", 3, 2)
    write_table(root, *VISA_ROWS)
    return root


def drawn(found: npt.NDArray[np.bool_] | None) -> list[int]:
    """The rows of a mask that are drawn."""
    assert found is not None
    assert found.dtype == bool
    return [int(row) for row in np.flatnonzero(found.any(axis=1))]


def test_mvtec_ad_keeps_the_published_test_set(mvtec_ad: Path) -> None:
    data = open_data(mvtec_ad / "bottle", Reading())
    told = [(i.key, i.part_id == i.key, i.kind, i.defect, i.is_test_only) for i in data.items]
    assert told == [
        *((f"train/good/{i:03d}.png", True, "good", None, False) for i in range(4)),
        ("test/broken_large/000.png", True, "defect", "broken_large", True),
        ("test/good/000.png", True, "good", None, True),
    ]
    assert drawn(data.mask(data.items[4])) == [3]
    assert list(categories(mvtec_ad)) == ["bottle", "cable"]


def test_mvtec_loco_calibrates_on_its_validation_set(loco: Path) -> None:
    data = open_data(loco, Reading())
    good, logical, structural = data.items[11:]
    assert [i.defect for i in (logical, structural)] == [
        "logical_anomalies",
        "structural_anomalies",
    ]
    assert [i.is_validation for i in data.items] == 6 * [False] + 5 * [True] + 3 * [False]
    assert all(i.is_test_only for i in (good, logical, structural))
    # Two masks of the logical anomaly, one of them in grey: both are part of the truth.
    assert drawn(data.mask(logical)) == [3, 7]
    assert drawn(data.mask(structural)) == [3]
    assert data.mask(good) is None
    masks = [name for name in data.files if " mask " in name]
    assert masks == [
        "test/logical_anomalies/000.png mask 000.png",
        "test/logical_anomalies/000.png mask 001.png",
        "test/structural_anomalies/000.png mask 000.png",
    ]
    shares = SplitSettings(fit=0.6, quantiles=0.2, threshold=0.3, test=0)
    split = split_parts(data.items, shares, ThresholdSettings(false_reject_rate=0.7), seed=0)
    assert {i.source.parent.parent.name for i in split.fit} == {"train"}
    held = split.quantiles + split.threshold
    assert {i.source.parent.parent.name for i in held} == {"validation"}
    assert (len(split.quantiles), len(split.threshold)) == (2, 3)
    assert {i.source.parent.parent.name for i in split.test} == {"test"}


def test_visa_follows_its_table(visa: Path) -> None:
    data = open_data(visa / "candle", Reading())
    assert [(i.kind, i.is_test_only, i.source.name) for i in data.items] == [
        ("good", False, "0000.JPG"), ("good", False, "0001.JPG"), ("good", True, "0002.JPG"),
        ("defect", True, "000.JPG"),
    ]  # fmt: skip
    assert drawn(data.mask(data.items[3])) == [3]  # its value is 2: a name, not a grey
    assert [frame.size_wh for _, frame in data.frames(data.items)] == 4 * [(WIDTH, HEIGHT)]
    assert list(categories(visa)) == ["candle", "pcb1"]


@pytest.mark.parametrize("which", ["loco", "candle"])
def test_a_split_that_was_written_down_reads_back_with_its_masks(
    which: str, loco: Path, visa: Path, tmp_path: Path
) -> None:
    data = open_data(loco if which == "loco" else visa / which, Reading())
    test_items = [i for i in data.items if i.is_test_only]
    lines = tmp_path / "split" / "test.jsonl"
    hashes = {path: name for name, path in data.files.items()}
    write_split(lines.parent, Split((), (), (), tuple(test_items)), hashes)
    again = open_data(lines, Reading())
    before = [drawn(data.mask(i)) for i in test_items if i.kind == "defect"]
    after = [drawn(again.mask(i)) for i in again.items if i.kind == "defect"]
    assert before == after != []
    assert {p.mask_cut for p in read_index(lines) if p.mask} == {0}


def test_a_folder_of_categories_is_not_one(mvtec_ad: Path, visa: Path, loco: Path) -> None:
    for root, says in ((mvtec_ad, "bottle, cable"), (visa, "candle, pcb1"), (loco.parent, "brea")):
        with pytest.raises(DataError, match=f"categories \\({says}.*or add --all"):
            open_data(root, Reading())
    for one in (mvtec_ad / "bottle", visa / "candle", loco):
        with pytest.raises(DataError, match="is one category: leave --all out"):
            categories(one)


def test_folders_without_categories(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="no category in it"):
        categories(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        categories(tmp_path / "absent")
    picture(tmp_path / "my parts" / "train" / "good" / "0.png", 1)
    with pytest.raises(DataError, match="my parts: rename it"):
        categories(tmp_path)


def test_a_defect_without_its_mask(mvtec_ad: Path, loco: Path, visa: Path) -> None:
    (mvtec_ad / "bottle" / "ground_truth" / "broken_large" / "000_mask.png").unlink()
    with pytest.raises(DataError, match=r"1 of its defects have no mask, such as test/broken_l"):
        open_data(mvtec_ad / "bottle", Reading())
    shutil.rmtree(mvtec_ad / "bottle" / "ground_truth")  # then nobody drew any, which is said so
    assert not any(i.mask for i in open_data(mvtec_ad / "bottle", Reading()).items)
    shutil.rmtree(loco / "ground_truth" / "structural_anomalies" / "000")
    with pytest.raises(DataError, match=r"such as test/structural_anomalies/000\.png"):
        open_data(loco, Reading())
    (visa / "candle" / "Data" / "Masks" / "Anomaly" / "000.png").unlink()
    with pytest.raises(DataError, match=r"such as candle/Data/Images/Anomaly/000\.JPG"):
        open_data(visa / "candle", Reading())


def test_loco_without_its_parts(loco: Path) -> None:
    for file in (loco / "ground_truth" / "logical_anomalies" / "000").iterdir():
        file.unlink()
    with pytest.raises(BadInputError, match="no picture in it"):
        index_data(open_data(loco, Reading()), QUIET)
    shutil.rmtree(loco / "test")
    with pytest.raises(DataError, match="no folder test"):
        open_data(loco, Reading())
    picture(loco / "validation" / "broken" / "0.png", 5)
    with pytest.raises(DataError, match="only good parts are learnt from"):
        open_data(loco, Reading())


def test_visa_tables_that_cannot_be_used(visa: Path) -> None:
    place = visa / "candle"
    (visa / "candle" / "Data" / "Images" / "Normal" / "0001.JPG").unlink()
    with pytest.raises(DataError, match=r"1 of 4 pictures of candle are missing.*0001\.JPG"):
        open_data(place, Reading())
    write_table(visa, "candle,train,anomaly,candle/Data/Images/Anomaly/000.JPG,")
    with pytest.raises(DataError, match="split 'train' and label 'anomaly'"):
        open_data(place, Reading())
    write_table(visa, *VISA_ROWS[4:])
    with pytest.raises(DataError, match="knows no category 'candle'; it knows pcb1"):
        open_data(place, Reading())
    write_table(visa, "candle,train,normal", header="object,set,label")
    with pytest.raises(DataError, match="needs the columns object, split, label, image, mask"):
        open_data(place, Reading())
    (visa / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(DataError, match=r"1cls\.csv: not readable"):
        open_data(place, Reading(reader="visa"))


def test_the_hash_covers_every_mask(loco: Path) -> None:
    before = index_data(open_data(loco, Reading()), QUIET).data_sha256
    mask(loco / "ground_truth" / "logical_anomalies" / "000" / "001.png", 8, 101)
    assert index_data(open_data(loco, Reading()), QUIET).data_sha256 != before
    assert json.loads((loco / "defects_config.json").read_text()) == []
