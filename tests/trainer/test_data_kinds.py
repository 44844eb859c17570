"""A folder that is only tested on: kinds side by side, or a test set without a training set."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loupe_calibration.errors import BadInputError
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError
from loupe_trainer.evaluating import evaluate_bundle
from loupe_trainer.progress import SilentProgress
from loupe_trainer.train import train

QUIET = SilentProgress()
TESTED = Reading(is_for_test=True)
Lay = Callable[[Path, Path], Path]


def _test_alone(published: Path, to: Path) -> Path:
    shutil.copytree(published / "test", to / "test")
    return to


def _test_and_truth(published: Path, to: Path) -> Path:
    shutil.copytree(published / "ground_truth", to / "ground_truth")
    return _test_alone(published, to)


def _kinds(published: Path, to: Path) -> Path:
    return Path(shutil.copytree(published / "test", to))


def _kinds_and_truth(published: Path, to: Path) -> Path:
    shutil.copytree(published / "test", to)
    shutil.copytree(published / "ground_truth", to / "ground_truth")
    return to


def _test_folder_itself(published: Path, _to: Path) -> Path:
    return published / "test"


@pytest.mark.parametrize(
    ("lay", "is_drawn"),
    [
        (_test_alone, False),
        (_test_and_truth, True),
        (_kinds, False),
        (_kinds_and_truth, True),
        (_test_folder_itself, True),
    ],
)
def test_kinds_side_by_side(lay: Lay, is_drawn: bool, mvtec_folder: Path, tmp_path: Path) -> None:
    place = lay(mvtec_folder, tmp_path / "exam")
    items = open_data(place, TESTED).items
    assert {(i.kind, i.defect) for i in items} == {
        ("good", None), ("defect", "spot"), ("defect", "blob"),
    }  # fmt: skip
    assert len(items) == 22
    assert all((i.mask is not None) == (is_drawn and i.kind == "defect") for i in items)
    with pytest.raises(BadInputError):
        open_data(place, Reading())  # nobody learns from it by accident


@pytest.mark.usefixtures("spots")
def test_a_bundle_is_evaluated_on_kinds_as_on_the_published_layout(
    mvtec_folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    run = train(recipe_file, tmp_path / "run", QUIET, mvtec_folder)
    listed = evaluate_bundle(run.bundle, run.split / "test.jsonl", tmp_path / "a", None, QUIET)
    place = _kinds_and_truth(mvtec_folder, tmp_path / "exam")
    found = evaluate_bundle(run.bundle, place, tmp_path / "b", None, QUIET)
    for name in ("image_auroc", "pixel_auroc", "au_pro_30", "n_good", "n_defect", "escape_rate"):
        assert found[name] == listed[name], name


def test_folders_without_good_are_refused_with_what_to_do(
    mvtec_folder: Path, tmp_path: Path
) -> None:
    place = _kinds(mvtec_folder, tmp_path / "exam")
    (place / "good").rename(place / "fine")
    with pytest.raises(DataError, match="none of them called good: put good parts into good"):
        open_data(place, TESTED)


def test_a_defect_without_its_mask_is_refused(mvtec_folder: Path, tmp_path: Path) -> None:
    place = _kinds_and_truth(mvtec_folder, tmp_path / "exam")
    (place / "ground_truth" / "spot" / "000_mask.png").unlink()
    with pytest.raises(DataError, match=r"1 of its defects have no mask, such as spot/000\.png"):
        open_data(place, TESTED)


def test_a_test_folder_without_kinds_is_refused(plain_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(plain_folder, tmp_path / "exam" / "test")
    with pytest.raises(DataError, match="test: no folder in it; put good parts into good"):
        open_data(tmp_path / "exam", TESTED)


def test_an_empty_kind_is_refused(mvtec_folder: Path, tmp_path: Path) -> None:
    place = _kinds(mvtec_folder, tmp_path / "exam")
    (place / "scratch").mkdir()
    with pytest.raises(BadInputError, match=r"scratch.*no picture|no picture.*scratch"):
        open_data(place, TESTED)
