"""The trainer's evaluation and the edge's replay are one and the same judgement."""

import csv
import json
from pathlib import Path

import pytest

from loupe_edge.labels import read_labels
from loupe_edge.record_from import record_from
from loupe_edge.replay import replay, station_for
from loupe_models.bundle import load_bundle
from loupe_models.scoring import score_error
from loupe_trainer.progress import SilentProgress
from loupe_trainer.train import train

N_GOOD_GROUPS = 60
N_PER_DEFECT = 2
RECIPE = """
name = "few-tiles"
method = "efficientad"
seed = 3
[split]
fit = 0.25
quantiles = 0.1
threshold = 0.5
test = 0.15
[threshold]
false_reject_rate = 0.1
[fit]
width_px = 128
height_px = 128
steps = 300
lr = 1e-3
hard_quantile = 0.99
global_weight = 0.1
shared_stem = true
n_penalty_pictures = 4
pretrain = { steps = 200, batch = 32, width = 0.2 }
"""


@pytest.fixture(scope="module")
def tiles(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of few tiles of many sizes: one exposure of a tile, and defects of each kind."""
    root = real_data / "magnetic_tile"
    with (root / "groups.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    spoiled = {row["group"] for row in rows if row["class"] != "MT_Free"}
    good = {r["group"]: r for r in rows if r["group"] not in spoiled}
    chosen = sorted(good.values(), key=lambda r: int(r["group"]))[:N_GOOD_GROUPS]
    for kind in sorted({row["class"] for row in rows} - {"MT_Free"}):
        chosen += [row for row in rows if row["class"] == kind][:N_PER_DEFECT]
    index = tmp_path_factory.mktemp("tiles") / "tiles.jsonl"
    index.write_text("".join(json.dumps(_line(root, row)) + "\n" for row in chosen))
    return index


def _line(root: Path, row: dict[str, str]) -> dict[str, str | int]:
    is_defect = row["class"] != "MT_Free"
    file = root / row["path"]
    line: dict[str, str | int] = {
        "filename": str(file),
        "label": int(is_defect),
        "label_name": row["class"],
    }
    if is_defect:
        line["maskname"] = str(file.with_suffix(".png"))
    return line | {"part": row["group"]}


def test_evaluate_and_replay_agree_on_real_tiles(tiles: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    run = train(recipe, tmp_path / "run", SilentProgress(), tiles)
    decisions = (run.evaluation / "decisions.jsonl").read_text().splitlines()
    # the index of a split names files as they really lie, also behind a link
    evaluated = {str(Path(d["source"]).resolve()): d for d in map(json.loads, decisions)}
    assert {d["kind"] for d in evaluated.values()} == {"good", "defect"}

    recording = tmp_path / "test.db3"
    assert record_from(run.split / "test.jsonl", recording) == len(evaluated)
    labels = read_labels(recording)
    bundle = load_bundle(run.bundle)
    verdicts = list(replay(station_for(run.bundle, recording)))

    assert len(verdicts) == len(evaluated)
    calibration = bundle.mode("rgb").calibration_scores
    for verdict in verdicts:
        assert verdict.frame_id is not None
        assert verdict.camera_time is not None
        label = labels.get(verdict.frame_id, verdict.camera_time.ns)
        assert label is not None
        ours = evaluated.pop(label.source)
        assert verdict.decision == ours["decision"]
        assert verdict.part_id == ours["part_id"]
        assert verdict.score is not None
        assert score_error(verdict.score, ours["score"], calibration) <= 1e-3
    assert not evaluated
