"""What was learnt from cannot be tested on, by any name."""

import json
import shutil
from pathlib import Path

import pytest

from loupe_edge.record_from import record_from
from loupe_models.bundle import file_sha256
from loupe_trainer.data.item import DataSet
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError
from loupe_trainer.index import index_data
from loupe_trainer.learnt import refuse_learnt
from loupe_trainer.progress import SilentProgress
from loupe_trainer.run import RunFolder

QUIET = SilentProgress()
FIT, TEST = 3, 2  # parts, of two frames each


@pytest.fixture
def run(plain_folder: Path, tmp_path: Path) -> RunFolder:
    """A run's split alone, of pictures beside each other, two to a part."""
    pictures = sorted(plain_folder.iterdir())[: 2 * (FIT + TEST)]
    place = tmp_path / "data"
    place.mkdir()
    for picture in pictures:
        shutil.copy(picture, place)
    run = RunFolder(tmp_path / "run")
    run.split.mkdir(parents=True)
    lines = [
        json.dumps({
            "filename": str(place / picture.name), "label": 0, "part": f"p{i // 2}",
            "sha256": file_sha256(picture),
        })
        for i, picture in enumerate(pictures)
    ]  # fmt: skip
    (run.split / "fit.jsonl").write_text("\n".join(lines[: 2 * FIT]) + "\n")
    (run.split / "test.jsonl").write_text("\n".join(lines[2 * FIT :]) + "\n")
    return run


def check(run: RunFolder, place: Path) -> bool:
    data: DataSet = open_data(place, Reading())
    return refuse_learnt(run, data, index_data(data, QUIET).sha256)


def index_of(file: Path, *lines: dict[str, object]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_its_own_test_parts_pass(run: RunFolder) -> None:
    assert check(run, run.split / "test.jsonl")


def test_its_own_pictures_are_refused(run: RunFolder) -> None:
    with pytest.raises(DataError, match="6 of 6 frames show what this bundle learnt from"):
        check(run, run.split / "fit.jsonl")


def test_a_copy_under_another_name_is_refused(run: RunFolder, tmp_path: Path) -> None:
    learnt = sorted((tmp_path / "data").iterdir())[1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(learnt, elsewhere / "holiday.png")
    with pytest.raises(DataError, match="1 of 1 frames"):
        check(run, elsewhere)


def test_another_frame_of_a_learnt_part_is_refused(
    run: RunFolder, plain_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "data" / "new.png"
    shutil.copy(plain_folder / "050.png", other)
    index = index_of(tmp_path / "new.jsonl", {"filename": str(other), "label": 0, "part": "p1"})
    with pytest.raises(DataError, match="1 of 1 frames"):
        check(run, index)
    assert check(run, index_of(index, {"filename": str(other), "label": 0, "part": "p9"}))


def test_other_data_may_use_the_same_ids(
    run: RunFolder, plain_folder: Path, tmp_path: Path
) -> None:
    """Two belts number their parts from one: the same number is not the same part."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(plain_folder / "050.png", elsewhere / "a.png")
    line: dict[str, object] = {"filename": str(elsewhere / "a.png"), "label": 0, "part": "p1"}
    assert check(run, index_of(tmp_path / "new.jsonl", line))


def test_a_recording_of_learnt_pictures_is_refused(run: RunFolder, tmp_path: Path) -> None:
    record_from(run.split / "fit.jsonl", tmp_path / "fit.db3")
    with pytest.raises(DataError, match="6 of 6 frames"):
        check(run, tmp_path / "fit.db3")
    record_from(run.split / "test.jsonl", tmp_path / "test.db3")
    assert check(run, tmp_path / "test.db3")


def test_without_a_split_nothing_is_known(run: RunFolder) -> None:
    place = run.split / "fit.jsonl"
    assert not check(RunFolder(run.path / "absent"), place)


def test_a_damaged_split_is_no_licence(run: RunFolder) -> None:
    (run.split / "fit.jsonl").write_text('{"filename": ')
    with pytest.raises(DataError, match="nobody can tell what was learnt from"):
        check(run, run.split / "test.jsonl")
