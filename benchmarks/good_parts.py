"""Scores of good parts by real bundles: simulated parts, and magnetic tiles where they are.

Everything lies under `runs/threshold_coverage`. What has been scored is not scored again, so that
an interrupted benchmark goes on; delete the folder to measure anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import REPOSITORY, say

from loupe_edge.simulate import Scenario, gate_spec, simulate
from loupe_models.atomic import write_text
from loupe_models.bundle import Bundle, load_bundle
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.evaluate import Exam, evaluate
from loupe_trainer.progress import LineProgress
from loupe_trainer.run import RunFolder
from loupe_trainer.train import train

PLACE = REPOSITORY / "runs" / "threshold_coverage"
TILES = REPOSITORY / "runs" / "magnetic_tile"  # where its recipe puts it
RECIPE = REPOSITORY / "trainer" / "recipes" / "demo.toml"
SIZE_WH = (320, 240)  # the threshold is in question, not the network: small frames will do
N_LEARNT, LEARNT_SEED = 150, 1
N_RECORDINGS, N_PARTS_EACH, FIRST_SEED = 31, 100, 1001

PartScores = dict[str, list[float]]  # of each part, its frames' scores in order


def simulated_scores() -> tuple[Bundle, PartScores]:
    """Score 3,100 good parts, a recording of a hundred at a time; only one is on the disk."""
    bundle = _simulated_bundle()
    file = PLACE / "scores.json"
    known = _read(file, bundle)
    for seed in range(FIRST_SEED, FIRST_SEED + N_RECORDINGS):
        if str(seed) not in known:
            known[str(seed)] = _score_recording(bundle, seed)
            write_text(file, json.dumps({"bundle": bundle.sha256, "recordings": known}) + "\n")
            say(f"{len(known)} of {N_RECORDINGS} recordings scored")
    parts = {f"{seed}/{part}": scores for seed in known for part, scores in known[seed].items()}
    return bundle, parts


def tile_scores() -> tuple[Bundle, PartScores] | None:
    """Score the tiles that the run of `magnetic_tile.toml` learnt nothing from, final half apart.

    These are the tiles of its threshold, and those of its development half that never show a
    defect. None where there is no such run.
    """
    run = RunFolder(TILES)
    if not run.bundle.exists():
        return None
    bundle = load_bundle(run.bundle)
    parts: PartScores = {}
    for role in ("threshold", "test"):
        data = open_data(run.split / f"{role}.jsonl", Reading())
        defective = {item.part_id for item in data.items if item.kind == "defect"}
        good = [item for item in data.items if item.part_id not in defective]
        parts |= _scores(bundle, data, good)
    return bundle, parts


def _simulated_bundle() -> Bundle:
    run = RunFolder(PLACE / "run")
    if not run.bundle.exists():
        recording = PLACE / "learnt.db3"
        if not recording.exists():
            _record(recording, N_LEARNT, LEARNT_SEED)
        x, y, width, height = gate_spec(*SIZE_WH).region_px or (0, 0, *SIZE_WH)
        settings = {
            "name": "threshold_coverage",
            "gate.region_px": str([x, y, width, height]),
            "gate.clear_px": str(gate_spec(*SIZE_WH).clear_px),
            "fit.width_px": "128",
            "fit.height_px": "128",
            "fit.steps": "800",
        }
        train(RECIPE, run.path, LineProgress(), recording, settings)
    return load_bundle(run.bundle)


def _score_recording(bundle: Bundle, seed: int) -> PartScores:
    folder = PLACE / "recording"
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    recording = folder / f"{seed}.db3"
    _record(recording, N_PARTS_EACH, seed)
    gate = bundle.mode("rgb").gate
    data = open_data(recording, Reading(streams=("rgb",), gate=gate))
    scores = _scores(bundle, data, data.items)
    shutil.rmtree(folder)
    return scores


def _record(recording: Path, n_parts: int, seed: int) -> None:
    width, height = SIZE_WH
    scenario = Scenario(n_parts=n_parts, seed=seed, width_px=width, height_px=height)
    recording.parent.mkdir(parents=True, exist_ok=True)
    simulate(scenario, recording, lambda _done, _n_all: None)


def _scores(bundle: Bundle, data: DataSet, items: Sequence[Item]) -> PartScores:
    """Inspect with the code of the line; a part that gave no score at all has an empty list."""
    exam = Exam(data, items, sha256={}, is_checked=False)
    found = evaluate(bundle, "rgb", exam, LineProgress(every_s=30))
    scores: PartScores = {item.part_id: [] for item in items}
    for frame in found.frames:
        if frame.score is not None:
            scores[frame.part_id].append(frame.score)
    return scores


def _read(file: Path, bundle: Bundle) -> dict[str, Mapping[str, list[float]]]:
    """Read what has been scored by this very bundle."""
    if not file.exists():
        return {}
    document = json.loads(file.read_text(encoding="utf-8"))
    return dict(document["recordings"]) if document["bundle"] == bundle.sha256 else {}
