import json
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pytest

from loupe_calibration.errors import BadInputError
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError


class Index(Protocol):
    def __call__(self, *lines: dict[str, object]) -> Path: ...


@pytest.fixture
def index(tmp_path: Path) -> Index:
    for i in range(3):
        picture = np.random.default_rng(i).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    assert cv2.imwrite(str(tmp_path / "m.png"), np.eye(12, 16, dtype=np.uint8) * 255)

    def write(*lines: dict[str, object]) -> Path:
        file = tmp_path / "index.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return file

    return write


def test_lines_become_items(index: Index, tmp_path: Path) -> None:
    file = index(
        {"filename": "0.png", "label": 0, "label_name": "good", "clsname": "tile"},
        {"filename": str(tmp_path / "1.png"), "label": 1, "label_name": "crack",
         "maskname": "m.png", "part": "p7"},
        {"filename": "2.png", "label": 0, "part": "p7"},
    )  # fmt: skip
    data = open_data(file, Reading())
    assert [(i.key, i.part_id, i.kind, i.defect) for i in data.items] == [
        ("0.png", "0.png", "good", None), ("1.png", "p7", "defect", "crack"),
        ("2.png", "p7", "good", None),
    ]  # fmt: skip
    mask = data.mask(data.items[1])
    assert mask is not None
    assert mask.sum() == 12
    labels = [frame.label for _, frame in data.frames(data.items)]
    assert [label and label.kind for label in labels] == ["good", "defect", "good"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "holds no picture"),
        ([{"filename": "0.png", "label": 0}] * 2, "name a picture once more"),
        ([{"filename": "run.db3", "label": 0, "frame": 1}], r"frames of run\.db3"),
        ([{"filename": "0.png", "label": 0}, {"filename": "1.png"}], r"jsonl:2: no label; write 0"),
        ([{"filename": "0.png", "lable": 1}], r"jsonl:1: lable: unknown key; filename, label, "),
        ([{"filename": "0\0.png", "label": 1}], r"jsonl:1: filename: .* no name can hold"),
        (
            [{"filename": "0.png", "label": 1, "part": "\ud800"}],
            r"jsonl:1: not .*surrogates",
        ),
        ([{"label": 0}], "filename: Field required"),
        ([{"filename": "0.png", "label": 2}], "label"),
    ],
)
def test_an_index_that_cannot_be_used(
    index: Index, lines: list[dict[str, object]], says: str
) -> None:
    with pytest.raises(BadInputError, match=says):
        open_data(index(*lines), Reading())


def test_a_mask_that_is_no_picture(index: Index, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("no picture")
    data = open_data(index({"filename": "0.png", "label": 1, "maskname": "m.png"}), Reading())
    with pytest.raises(BadInputError, match=r"m\.png: not a picture"):
        data.mask(data.items[0])


def test_a_mask_that_names_defects_by_small_numbers(index: Index, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "m.png"), np.eye(12, 16, dtype=np.uint8) * 2)
    data = open_data(index({"filename": "0.png", "label": 1, "maskname": "m.png"}), Reading())
    assert data.mask(data.items[0]) is None
    line = {"filename": "0.png", "label": 1, "maskname": "m.png", "mask_cut": 0}
    mask = (data := open_data(index(line), Reading())).mask(data.items[0])
    assert mask is not None
    assert mask.sum() == 12


def test_a_mask_of_another_size(index: Index, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "m.png"), np.full((24, 32), 255, np.uint8))
    data = open_data(index({"filename": "0.png", "label": 1, "maskname": "m.png"}), Reading())
    with pytest.raises(DataError, match="the mask is 32x24, its picture 16x12"):
        data.mask(data.items[0])
