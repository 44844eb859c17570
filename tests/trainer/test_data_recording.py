import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from loupe_calibration.intrinsics import Intrinsics
from loupe_edge.errors import RecordingError
from loupe_edge.recorder import Recorder, Rig
from loupe_models.bundle import load_bundle
from loupe_models.frame import Label, Rect
from loupe_models.gate import ByColour, GateSpec
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError
from loupe_trainer.index import index_data
from loupe_trainer.progress import SilentProgress
from loupe_trainer.train import test_run as evaluate_again
from loupe_trainer.train import train

QUIET = SilentProgress()
WIDTH, HEIGHT = 160, 120
RIG = Rig(rgb=Intrinsics(WIDTH, HEIGHT, 150.0, 150.0, WIDTH / 2, HEIGHT / 2))
BELT_RGB = (20, 20, 20)
REGION = Rect(40, 20, 80, 80)


def frame(seed: int | None = None, defect: bool = False) -> npt.NDArray[np.uint8]:
    """A belt, and on it a textured part where a seed is given."""
    rgb = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    if seed is not None:
        rng = np.random.default_rng(seed)
        rgb[20:100, 40:120] = rng.normal(120, 6, (80, 80, 3)).clip(0, 255)
    if defect:
        rgb[50:62, 70:82] = 250
    return rgb


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of each of 60 good parts and 4 defective ones, all labelled."""
    path = tmp_path_factory.mktemp("labelled") / "parts.db3"
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[50:62, 70:82] = True
    with Recorder(path, RIG) as recorder:
        for part in range(64):
            for view in range(2):
                is_defect = part >= 60
                label = Label(
                    rect_px=REGION, source="test", part_id=f"p{part}",
                    kind="defect" if is_defect else "good",
                    defect="spot" if is_defect else None,
                    visible_in=("rgb",) if is_defect else (),
                )  # fmt: skip
                recorder.write(
                    rgb=frame(2 * part + view, is_defect), label=label,
                    mask=mask if is_defect else None,
                )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts pass, three frames each, with bare belt between them."""
    path = tmp_path_factory.mktemp("unlabelled") / "belt.db3"
    with Recorder(path, RIG) as recorder:
        for seed in (None, 1, 2, 3, None, 4, 5, 6, None, None, 7, 8, 9):
            recorder.write(rgb=frame(seed))
    return path


def test_items_come_from_the_labels(labelled: Path) -> None:
    data = open_data(labelled, Reading())
    assert len(data.items) == 128
    assert len({i.part_id for i in data.items}) == 64
    some = [data.items[121], data.items[3]]
    read = list(data.frames(some))
    assert [item.key for item, _ in read] == [data.items[3].key, data.items[121].key]
    assert [f.part_id for _, f in read] == ["p1", "p60"]
    assert read[0][1].rgb is not None
    np.testing.assert_array_equal(read[0][1].rgb, frame(3))
    assert data.mask(data.items[3]) is None
    mask = data.mask(data.items[121])
    assert mask is not None
    assert mask.sum() == 144


def test_the_hash_covers_labels_and_masks(labelled: Path, tmp_path: Path) -> None:
    first = index_data(open_data(labelled, Reading()), QUIET).data_sha256
    copy = tmp_path / "copy"
    shutil.copytree(labelled.parent, copy)
    assert index_data(open_data(copy / "parts.db3", Reading()), QUIET).data_sha256 == first
    mask = next((copy / "parts.masks").iterdir())
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert index_data(open_data(copy / "parts.db3", Reading()), QUIET).data_sha256 != first


def test_without_labels_the_gate_tells_parts_apart(unlabelled: Path) -> None:
    with pytest.raises(DataError, match=r"set \[gate\.occupied\]"):
        open_data(unlabelled, Reading())
    seen = GateSpec(occupied=ByColour(belt_rgb=BELT_RGB))
    data = open_data(unlabelled, Reading(gate=seen))
    assert [i.part_id for i in data.items] == [f"part-{n:06d}" for n in (1, 1, 1, 2, 2, 2, 3, 3, 3)]
    assert {f.part_id for _, f in data.frames(data.items)} == {
        "part-000001", "part-000002", "part-000003",
    }  # fmt: skip


def test_a_damaged_recording_and_a_damaged_belt(tmp_path: Path) -> None:
    (tmp_path / "bad.db3").write_bytes(b"not a recording")
    (tmp_path / "bad.labels.jsonl").write_text("nonsense\n")
    with pytest.raises(RecordingError, match="not a label"):
        open_data(tmp_path / "bad.db3", Reading())
    (tmp_path / "bad.labels.jsonl").unlink()
    (tmp_path / "bad.belt.json").write_text(json.dumps({"rotation": 1}))
    with pytest.raises(DataError, match="not a belt"):
        open_data(tmp_path / "bad.db3", Reading())


@pytest.mark.parametrize("n_kept", [0, 1, 64, 127])
def test_labels_of_some_frames_only_are_refused(
    labelled: Path, tmp_path: Path, n_kept: int
) -> None:
    copy = tmp_path / "copy.db3"
    shutil.copy(labelled, copy)
    lines = labelled.with_suffix(".labels.jsonl").read_text().splitlines(keepends=True)
    copy.with_suffix(".labels.jsonl").write_text("".join(lines[:n_kept]))
    seen = Reading(gate=GateSpec(occupied=ByColour(belt_rgb=BELT_RGB)))
    with pytest.raises(RecordingError, match=f"labels {n_kept} of the recording's 128 frames"):
        open_data(copy, seen)
    copy.with_suffix(".labels.jsonl").write_text("".join(lines))
    assert len(open_data(copy, seen).items) == 128


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder, not a recording"):
        open_data(tmp_path, Reading(reader="recording"))


@pytest.mark.usefixtures("spots")
def test_a_run_on_a_recording(labelled: Path, recipe_file: Path, tmp_path: Path) -> None:
    run = train(recipe_file, tmp_path / "run", QUIET, labelled)
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert metrics["image_auroc"] == 1.0
    assert metrics["parts"]["n_good"] == 6
    assert metrics["parts"]["n_defect"] == 4
    assert metrics["n_good"] == 12
    assert metrics["pixel_auroc"] > 0.95
    assert load_bundle(run.bundle).mode("rgb").threshold.n_parts == 30
    assert evaluate_again(run, QUIET) == metrics
