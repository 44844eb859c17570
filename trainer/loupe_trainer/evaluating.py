"""Evaluate a bundle on any labelled data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from loupe_edge.camera_settings import Stream
from loupe_edge.station import streams_needed
from loupe_models.bundle import Bundle, load_bundle
from loupe_models.errors import BundleError
from loupe_trainer.data.item import DataSet, Item
from loupe_trainer.data.opening import Reading, open_data
from loupe_trainer.errors import DataError
from loupe_trainer.evaluate import evaluate, write_evaluation
from loupe_trainer.gaussian_baseline import GaussianBaseline
from loupe_trainer.learn import BASELINE
from loupe_trainer.progress import Progress
from loupe_trainer.report import write_report
from loupe_trainer.run import RunFolder
from loupe_trainer.split import LEARNING, split_line

STREAMS: tuple[Stream, ...] = ("rgb", "depth")


def evaluate_bundle(
    path: Path, place: Path, out: Path, mode: str | None, progress: Progress
) -> dict[str, object]:
    """Inspect labelled data and write metrics, decisions and the report.

    Args:
        path: The bundle.
        place: Folder, JSON Lines index or recording.
        out: Folder for what is written.
        mode: None where the bundle serves just one.
        progress: Shown while frames are inspected.

    Returns:
        What `metrics.json` holds.

    Raises:
        BundleError: The bundle is damaged, or serves several modes and none is named.
        DataError: The data is unusable, or holds what the bundle learnt from.
    """
    bundle = load_bundle(path)
    mode = mode or _only_mode(bundle)
    data = open_data(place, _reading(bundle, mode))
    refuse_learnt(RunFolder(path.resolve().parent), data.items)
    return evaluate_into(out, bundle, mode, data, data.items, progress)


def evaluate_into(
    out: Path, bundle: Bundle, mode: str, data: DataSet, items: Sequence[Item],
    progress: Progress,
) -> dict[str, object]:  # fmt: skip
    """Inspect some items, beside the run's baseline where there is one, and write all of it."""
    file = bundle.path.resolve().parent / "export" / BASELINE
    baseline = GaussianBaseline.load(file) if file.exists() else None
    evaluation = evaluate(bundle, mode, data, items, progress, baseline)
    metrics = write_evaluation(out, evaluation)
    write_report(out / "report.html", bundle, evaluation, metrics, data)
    return metrics


def refuse_learnt(run: RunFolder, items: Sequence[Item]) -> None:
    """Hold items against what a run learnt from, where its split is at hand.

    Raises:
        DataError: Some of the items were learnt from.
    """
    learnt: set[tuple[object, object]] = set()
    for role in LEARNING:
        file = run.split / f"{role}.jsonl"
        if file.exists():
            lines = file.read_text(encoding="utf-8").splitlines()
            learnt |= {_identity(json.loads(line)) for line in lines}
    known = sum(_identity(split_line(item)) in learnt for item in items)
    if known:
        raise DataError(
            f"{known} of {len(items)} frames are what this bundle learnt from, so a number would "
            f"mean nothing: give {run.split / 'test.jsonl'}, or data of other parts"
        )


def _identity(line: Mapping[str, object]) -> tuple[object, object]:
    return line["filename"], line.get("frame")


def _only_mode(bundle: Bundle) -> str:
    modes = list(bundle.manifest.modes)
    if len(modes) > 1:
        raise BundleError(f"{bundle.path}: serves {', '.join(modes)}; choose one with --mode")
    return modes[0]


def _reading(bundle: Bundle, mode: str) -> Reading:
    contract = bundle.mode(mode)
    needed = streams_needed(contract, contract.gate)
    return Reading(streams=tuple(s for s in STREAMS if s in needed), gate=contract.gate)
